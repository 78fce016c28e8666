// What the page knows of files. A state replaces another only if it is not older.

export const TERMINAL = new Set(["completed", "failed", "cancelled"]);

const files = new Map();
const listeners = new Set();
const changed = new Set();
let scheduled = false;

export const get = (id) => files.get(id);

// Newest first: ids are sorted by time.
export const all = () => [...files.values()].sort((a, b) => (a.file_id < b.file_id ? 1 : -1));

// Tells of changed files once per animation frame, however many events came.
export function onChange(listener) {
  listeners.add(listener);
}

export function put(file) {
  const known = files.get(file.file_id);
  if (known && isOlder(file, known)) return;
  // A state from the stream has no history; the one that is known may have.
  files.set(file.file_id, { ...file, history: file.history ?? known?.history });
  changed.add(file.file_id);
  if (scheduled) return;
  scheduled = true;
  const tell = () => {
    scheduled = false;
    const ids = new Set(changed);
    changed.clear();
    for (const listener of listeners) listener(ids);
  };
  // A page in the background gets no frames, and must not fall behind.
  if (document.hidden) setTimeout(tell, 100);
  else requestAnimationFrame(tell);
}

function isOlder(file, known) {
  for (const rank of [(f) => f.run, (f) => TERMINAL.has(f.status), (f) => f.attempt]) {
    if (rank(file) !== rank(known)) return rank(file) < rank(known);
  }
  return (file.updated_at ?? "") < (known.updated_at ?? "");
}
