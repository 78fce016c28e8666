// What the page knows of files. A state replaces another only if it is not older.

import { TERMINAL } from "./waybill.js";

const files = new Map();
const listeners = new Set();
const changed = new Set();
const sure = new Set();
let scheduled = false;

export const get = (id) => files.get(id);

export const all = () => files.values();

export const count = () => files.size;

// Calls back with the ids of changed files once per animation frame, however many events came.
export function onChange(listener) {
  listeners.add(listener);
}

export function put(file) {
  const known = files.get(file.file_id);
  sure.add(file.file_id);
  const merged = known ? merge(known, file) : file;
  if (merged === known) return;
  files.set(file.file_id, merged);
  note(file.file_id);
}

export function remove(id) {
  if (!files.delete(id)) return;
  sure.delete(id);
  note(id);
}

function note(id) {
  changed.add(id);
  if (scheduled) return;
  scheduled = true;
  // A page in the background gets no frames, and must not fall behind.
  if (document.hidden) setTimeout(tell, 100);
  else requestAnimationFrame(tell);
}

// After a broken stream nothing that is known is sure, until it is told or listed again.
export const doubtAll = () => sure.clear();

export const forgetDoubtful = () => forgetUnless((id) => sure.has(id));

// A page that is open for days must not grow for days.
export function forgetUnless(needed) {
  for (const id of files.keys()) {
    if (needed(id)) continue;
    files.delete(id);
    sure.delete(id);
  }
}

function tell() {
  scheduled = false;
  const ids = new Set(changed);
  changed.clear();
  for (const listener of listeners) listener(ids);
}

// The newer state with the longer history: states from the stream and from the list have none.
function merge(known, file) {
  const older = isOlder(file, known);
  const state = older ? known : file;
  const lines = (each) => each.history?.length ?? 0;
  const history = lines(file) > 0 && lines(file) >= lines(known) ? file.history : known.history;
  return older && history === known.history ? known : { ...state, history };
}

// A file goes forward by runs, in a run to its outcome, before it by attempts, in each by time.
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
