// Elements made of text only: a file's name is hostile data and never becomes markup.

const SVG = "http://www.w3.org/2000/svg";

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function icon(name) {
  const node = document.createElementNS(SVG, "svg");
  node.setAttribute("class", "icon");
  node.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  node.append(use);
  return node;
}

export const badge = (status) =>
  element("span", { class: "status", "data-status": status }, icon(status), status);

// A click's meaning, for a real button.
export function button(words, onClick, attributes = {}) {
  const node = element("button", { class: "button", type: "button", ...attributes }, words);
  node.addEventListener("click", onClick);
  return node;
}

// Touches the page only where the words differ.
export function write(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

// How far the work on a file is: a bar that stays and moves, and the phase in words.
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
