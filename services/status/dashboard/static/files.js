// The states of files that the page has received. A state never replaces a newer one.

import { TERMINAL } from "./waybill.js";

const files = new Map();
const listeners = new Set();
const changed = new Set();
const current = new Set();
let scheduled = false;

export const get = (id) => files.get(id);

export const all = () => files.values();

export const count = () => files.size;

// Calls the listener with the ids of changed files, at most once per animation frame.
export function onChange(listener) {
  listeners.add(listener);
}

export function put(file) {
  const known = files.get(file.file_id);
  current.add(file.file_id);
  const merged = known ? merge(known, file) : file;
  if (merged === known) return;
  files.set(file.file_id, merged);
  markChanged(file.file_id);
}

export function remove(id) {
  if (!files.delete(id)) return;
  current.delete(id);
  markChanged(id);
}

function markChanged(id) {
  changed.add(id);
  if (scheduled) return;
  scheduled = true;
  // A background page gets no animation frames, but must stay current.
  if (document.hidden) setTimeout(notifyListeners, 100);
  else requestAnimationFrame(notifyListeners);
}

// After a gap in the stream every state is stale until it is received again.
export const markAllStale = () => current.clear();

export const removeStale = () => keepOnly((id) => current.has(id));

// Limits the memory of a page that is open for days.
export function keepOnly(needed) {
  for (const id of files.keys()) {
    if (needed(id)) continue;
    files.delete(id);
    current.delete(id);
  }
}

function notifyListeners() {
  scheduled = false;
  const ids = new Set(changed);
  changed.clear();
  for (const listener of listeners) listener(ids);
}

// The newer state with the longer history. States from the stream and the list have no history.
function merge(known, file) {
  const older = isOlder(file, known);
  const state = older ? known : file;
  const lines = (each) => each.history?.length ?? 0;
  const history = lines(file) > 0 && lines(file) >= lines(known) ? file.history : known.history;
  return older && history === known.history ? known : { ...state, history };
}

// Order of states: deletion, run, terminal state, attempt, time.
function isOlder(file, known) {
  const ranks = [
    (state) => Number(Boolean(state.deleted_at)),
    (state) => state.run,
    (state) => Number(TERMINAL.has(state.status)),
    (state) => state.attempt,
    (state) => state.updated_at ?? "",
  ];
  const differing = ranks.find((rank) => rank(file) !== rank(known));
  return differing !== undefined && differing(file) < differing(known);
}
