// Facts in the words of people, and elements made of text only: a file's name is hostile data.

export const ICONS = {
  pending: "○",
  processing: "◐",
  completed: "✓",
  failed: "✕",
  cancelled: "–",
};

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "";
  const units = ["B", "kB", "MB", "GB"];
  let amount = bytes;
  let unit = 0;
  while (amount >= 1000 && unit < units.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${unit ? amount.toFixed(1) : amount} ${units[unit]}`;
}

export function duration(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function ago(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export const moment = (time) => new Date(time).toLocaleString();

export const nameOf = (file) => file.name || file.file_id;

export function badge(status) {
  return element("span", { class: "status", "data-status": status, "data-icon": ICONS[status] }, status);
}

// How long the work took, or has taken so far.
export function elapsed(file) {
  if (!file.started_at) return null;
  const end = file.finished_at ? Date.parse(file.finished_at) : Date.now();
  return end - Date.parse(file.started_at);
}
