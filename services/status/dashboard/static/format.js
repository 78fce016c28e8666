// Formats values for readers.

const KINDS = {
  "application/json": "JSON",
  "application/msword": "Word",
  "application/octet-stream": "binary",
  "application/pdf": "PDF",
  "application/vnd.ms-excel": "Excel",
  "application/vnd.openxmlformats-officedocument.presentationml.presentation": "PowerPoint",
  "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "Excel",
  "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "Word",
  "application/vnd.waybill.demo+json": "demo",
  "application/zip": "ZIP",
  "image/jpeg": "JPEG image",
  "image/png": "PNG image",
  "image/tiff": "TIFF image",
  "message/rfc822": "e-mail",
  "text/csv": "CSV",
  "text/html": "HTML",
  "text/markdown": "Markdown",
  "text/plain": "text",
};

const LANGUAGES = new Intl.DisplayNames("en", { type: "language" });

let ahead = 0;

// The services' clock: countdowns must not depend on the clock of this machine.
export const now = () => Date.now() + ahead;

export function setClock(date) {
  const difference = Date.parse(date) - Date.now();
  // Ignore small differences: the header has whole seconds, and the response took time to arrive.
  ahead = Math.abs(difference) > 2000 ? difference : 0;
}

export const since = (time) => now() - Date.parse(time);

export const nameOf = (file) => file.name || file.file_id;

export const kind = (type) => KINDS[type] ?? type;

// The code comes from the file; an invalid one is shown as it is.
export function language(code) {
  try {
    return LANGUAGES.of(code);
  } catch {
    return code;
  }
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let amount = bytes;
  let unit = 0;
  while (amount >= 999.95 && unit < units.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${unit ? amount.toFixed(1) : amount} ${units[unit]}`;
}

export function duration(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 0.1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 9.95 ? `${seconds.toFixed(1)} s` : clock(milliseconds);
}

// A duration that is still running, without tenths, which would only flicker.
export function clock(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function ago(time) {
  const seconds = Math.max(0, since(time) / 1000);
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export function untilNext(file) {
  const left = -since(file.next_attempt_at);
  return left > 0 ? `in ${clock(left)}` : "any moment";
}

export const took = (file) =>
  file.started_at && file.finished_at
    ? duration(Date.parse(file.finished_at) - Date.parse(file.started_at))
    : "";

export const moment = (time) => new Date(time).toLocaleString();
