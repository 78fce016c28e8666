// One file: what it is, where it stands, why it failed, and what happened to it.

import { getJson } from "./api.js";
import * as files from "./files.js";
import { badge, duration, elapsed, element, moment, nameOf, size } from "./format.js";

const view = document.getElementById("detail-view");

const STATUS_OF = {
  "file.uploaded": "pending",
  "file.requeued": "pending",
  "file.retrying": "pending",
  "file.processing": "processing",
  "file.completed": "completed",
  "file.failed": "failed",
  "file.cancelled": "cancelled",
};

let shown = null;
let ticking;

export function start() {
  files.onChange((ids) => {
    if (shown && ids.has(shown)) refresh(shown);
  });
}

export async function open(id) {
  if (shown === id) return refresh(id);
  shown = id;
  clearInterval(ticking);
  ticking = setInterval(() => shown && tick(), 1000);
  view.replaceChildren(back(), element("p", { role: "status" }, "loading …"));
  await refresh(id);
  return view.querySelector(".back")?.focus();
}

export function close() {
  shown = null;
  clearInterval(ticking);
}

// The stream carries no history, so each change of the open file is read once more, whole.
async function refresh(id) {
  try {
    const file = await getJson(`/api/files/${encodeURIComponent(id)}`);
    if (shown === id) render(file);
  } catch (error) {
    if (shown !== id) return;
    const words = element("div", { class: "card failure" }, element("h2", {}, "This file cannot be shown"));
    words.append(element("p", {}, error.message));
    view.replaceChildren(back(), words);
  }
}

function render(file) {
  const focused = view.contains(document.activeElement) && document.activeElement.getAttribute("href");
  view.replaceChildren(
    ...[back(), head(file), reason(file), facts(file), result(file), history(file)].filter(Boolean),
  );
  if (focused) view.querySelector(`[href="${CSS.escape(focused)}"], .back`)?.focus();
  tick();
}

// What changes while nothing happens: the time that the work has taken, the time until a retry.
function tick() {
  for (const node of view.querySelectorAll("[data-since]")) {
    node.textContent = duration(Date.now() - Date.parse(node.dataset.since));
  }
  for (const node of view.querySelectorAll("[data-until]")) {
    const left = Date.parse(node.dataset.until) - Date.now();
    node.textContent = left > 0 ? `in ${duration(left)}` : "any moment";
  }
}

const back = () => element("a", { class: "back", href: "#/" }, "← All files");

function head(file) {
  const title = element("div", { class: "title" }, element("h1", {}, nameOf(file)), badge(file.status));
  const card = element("div", { class: "card" }, title);
  if (file.status === "processing") {
    const bar = { "aria-label": file.phase, max: 100, value: file.progress?.percent };
    const percent = file.progress ? ` · ${file.progress.percent} %` : "";
    card.append(element("progress", bar), element("span", { class: "phase" }, file.phase + percent));
  }
  return card;
}

function reason(file) {
  if (!file.error) return null;
  const waits = file.next_attempt_at;
  const card = element(
    "div",
    { class: waits ? "card failure waiting" : "card failure", role: "alert" },
    element("h2", {}, waits ? `Attempt ${file.attempt} failed` : "Why it failed"),
    element("p", {}, file.error.message),
    element("p", {}, element("code", {}, file.error.code), ` · attempt ${file.attempt} of ${file.max_attempts}`),
  );
  if (waits) card.append(element("p", {}, "The next attempt comes ", element("b", { "data-until": waits })));
  return card;
}

function facts(file) {
  const took = elapsed(file);
  const time = file.finished_at
    ? element("span", {}, duration(took))
    : file.status === "processing" && file.started_at
      ? element("span", { "data-since": file.started_at })
      : null;
  const labels = Object.entries(file.labels ?? {}).map(([key, value]) => `${key}: ${value}`);
  const entries = [
    ["Id", element("code", {}, file.file_id)],
    ["Type", file.content_type],
    ["Size", size(file.size)],
    ["Uploaded", file.created_at && moment(file.created_at)],
    ["Started", file.started_at && moment(file.started_at)],
    ["Finished", file.finished_at && moment(file.finished_at)],
    ["Time", time],
    ["Attempt", file.attempt ? `${file.attempt} of ${file.max_attempts}` : null],
    ["Owner", file.owner],
    ["Labels", labels.join(", ")],
    ["SHA-256", file.sha256 && element("code", {}, file.sha256)],
  ].filter(([, value]) => value);
  const list = element("dl", { class: "facts" });
  for (const [name, value] of entries) {
    list.append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  }
  return element("div", { class: "card" }, element("h2", {}, "Facts"), list);
}

function result(file) {
  const path = `/api/files/${encodeURIComponent(file.file_id)}`;
  const links = [element("li", {}, element("a", { class: "button", href: `${path}/source` }, "The file itself"))];
  for (const artifact of file.result?.artifacts ?? []) {
    const name = artifact.name.split("/").map(encodeURIComponent).join("/");
    const words = `${artifact.name} (${size(artifact.size)})`;
    links.push(element("li", {}, element("a", { class: "button", href: `${path}/artifacts/${name}` }, words)));
  }
  const list = element("dl", { class: "facts" });
  for (const [name, value] of Object.entries(file.result?.statistics ?? {})) {
    if (value === null) continue;
    const words = typeof value === "number" ? value.toLocaleString() : String(value);
    const label = name.replaceAll("_", " ");
    list.append(element("div", {}, element("dt", {}, label), element("dd", {}, words)));
  }
  const title = file.result ? "Result" : "Downloads";
  return element("div", { class: "card" }, element("h2", {}, title), list, element("ul", { class: "downloads" }, ...links));
}

function history(file) {
  const list = element("ol", { class: "timeline" });
  let before = null;
  for (const line of file.history ?? []) {
    const words = [line.attempt && `attempt ${line.attempt}`, line.pod && `on ${line.pod}`, line.message];
    const after = before && `after ${duration(Date.parse(line.time) - Date.parse(before))}`;
    list.append(
      element(
        "li",
        { "data-status": STATUS_OF[line.type] },
        element("b", {}, line.type.replace("file.", "")),
        " ",
        element("span", {}, [moment(line.time), after, ...words].filter(Boolean).join(" · ")),
      ),
    );
    before = line.time;
  }
  return element("div", { class: "card" }, element("h2", {}, "History"), list);
}
