// Builds elements from text only: file names are untrusted and never become markup.

const SVG = "http://www.w3.org/2000/svg";
const CIRCLE = "M8 2a6 6 0 1 0 .01 0";
const ICONS = {
  pending: `${CIRCLE}M8 5v3l2 1.5`,
  processing: "M14 8a6 6 0 1 1-3-5.2",
  completed: "M3 8.5 6.5 12 13 4.5",
  failed: "M4 4l8 8M12 4l-8 8",
  cancelled: `${CIRCLE}M4 12l8-8`,
};

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function icon(status) {
  const node = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  node.setAttribute("class", "icon");
  node.setAttribute("viewBox", "0 0 16 16");
  node.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[status]);
  node.append(path);
  return node;
}

export const badge = (status) =>
  element("span", { class: "status", "data-status": status }, icon(status), status);

// A real button, usable by keyboard.
export function button(words, onClick, attributes = {}) {
  const node = element("button", { class: "button", type: "button", ...attributes }, words);
  node.addEventListener("click", onClick);
  return node;
}

// Changes the DOM only if the text differs.
export function write(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

// A progress bar and the phase as text. The nodes are reused for every update.
export function meter() {
  const bar = element("progress", { max: 100 });
  const words = element("span", { class: "phase" });
  const node = element("span", { class: "meter" }, bar, words);

  function update(file, text) {
    bar.hidden = file.status !== "processing";
    if (words.textContent !== text) {
      words.textContent = text;
      words.title = text;
    }
    if (bar.hidden) return;
    bar.setAttribute("aria-label", file.phase);
    if (file.progress?.total) bar.value = file.progress.percent;
    else bar.removeAttribute("value");
  }

  return { node, update };
}

export const phaseOf = (file) =>
  file.progress?.total ? `${file.phase} · ${file.progress.percent} %` : file.phase;
