// The live view of one file: follows the file's states and loads its history.

import { getJson } from "./api.js";
import { commands } from "./commands.js";
import { element, meter, phaseOf, write } from "./elements.js";
import * as files from "./files.js";
import { clock, nameOf, since, untilNext } from "./format.js";
import * as sections from "./sections.js";

const GONE = [404, 410];
const RETRY_DELAY = 3000;
const BEHIND_DELAY = 500;

const view = document.getElementById("detail-view");
const content = element("div");

let shown = null;
let work = null;
let bar = null;
let parts = [];
let readFor = "";
let retryTimer;

export function start() {
  view.append(element("a", { class: "back", href: "#/" }, "← All files"), content);
  files.onChange((ids) => {
    if (shown && ids.has(shown) && files.get(shown)) show(files.get(shown));
  });
  setInterval(tick, 1000);
}

export async function open(id) {
  if (shown === id) return read();
  shown = id;
  clear(element("p", { role: "status" }, "loading …"));
  if (files.get(id)) show(files.get(id));
  else await read();
  return content.querySelector("h1")?.focus();
}

export function close() {
  shown = null;
  clearTimeout(retryTimer);
  clear();
}

function clear(...words) {
  parts = [];
  readFor = "";
  document.title = "Waybill";
  content.replaceChildren(...words);
}

// Changes whenever the history gets a line. The stream carries no history, so it is loaded then.
const stage = (file) =>
  [file.run, file.attempt, file.status, file.next_attempt_at, file.deleted_at].join();

async function read() {
  clearTimeout(retryTimer);
  const id = shown;
  let delay = null;
  try {
    const file = await getJson(`/api/files/${encodeURIComponent(id)}`);
    files.put(file);
    if (id !== shown) return;
    readFor = stage(files.get(id));
    show(files.get(id));
    // The response came from a pod that is slightly behind the stream's pod.
    if (stage(file) !== readFor) delay = BEHIND_DELAY;
  } catch (error) {
    if (id !== shown) return;
    // Keep what is shown: it is still correct, only not the latest.
    if (!parts.length || GONE.includes(error.status)) clear(sections.unknown(error));
    if (error.mayMend) delay = RETRY_DELAY;
  }
  if (delay) retryTimer = setTimeout(read, delay);
}

function show(file) {
  if (!parts.length) build();
  const { heading, state, reason, result, history, facts } = sections;
  [heading, state, reason, result, history, facts].forEach((make, place) =>
    replace(place, make(file)),
  );
  bar.update(file);
  document.title = `${nameOf(file)} · Waybill`;
  tick();
  if (stage(file) !== readFor) {
    readFor = stage(file);
    read();
  }
}

function build() {
  work = meter();
  parts = Array.from({ length: 6 }, () => element("span"));
  const [heading, state, ...cards] = parts;
  bar = commands();
  const title = element("div", { class: "title" }, heading, state, bar.node);
  const head = element("div", { class: "card" }, title, work.node, bar.problem);
  content.replaceChildren(head, ...cards);
}

// An unchanged part keeps its node, and so the focus and the reader's text selection.
function replace(place, node) {
  const fresh = node ?? element("span", { hidden: "" });
  if (parts[place].isEqualNode(fresh)) return;
  parts[place].replaceWith(fresh);
  parts[place] = fresh;
}

// Updates the elapsed time and the countdown to a retry.
function tick() {
  const file = files.get(shown);
  if (!file || !parts.length) return;
  const running = file.status === "processing";
  const elapsed = running && file.started_at ? ` · for ${clock(since(file.started_at))}` : "";
  work.node.hidden = !running;
  work.update(file, phaseOf(file) + elapsed);
  const timer = content.querySelector("[role=timer]");
  if (timer) write(timer, untilNext(file));
}
