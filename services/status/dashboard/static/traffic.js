// How the queue moves, in a line above the list, and the files that do not go on, with reasons.

import { getJson } from "./api.js";
import { element, write } from "./elements.js";
import { clock, nameOf, since } from "./format.js";

const INTERVAL = 5000;
// Each sixth time, half a minute: a file is stuck after a minute at the soonest.
const STUCK_EVERY = 6;

const line = document.getElementById("traffic");
const stuck = document.getElementById("stuck");
const title = stuck.querySelector("summary");
const list = stuck.querySelector("ul");

let turn = 0;

export function start() {
  look();
  setInterval(look, INTERVAL);
}

async function look() {
  if (document.hidden) return;
  try {
    show(await getJson("/api/stats"));
    if (turn++ % STUCK_EVERY === 0) listStuck((await getJson("/api/admin/stuck")).items);
  } catch {
    // The list says that the service does not answer; old numbers would not be true.
    line.hidden = true;
  }
}

function show({ queue, rates, degraded }) {
  if (queue === null) {
    // What is not known now is null; the sentences say why.
    write(line, degraded.join(" · "));
    line.hidden = !line.textContent;
    return;
  }
  const { length, expected_seconds: expected } = queue;
  const waits = expected === null ? "nothing moves" : `the last begins in ${clock(expected * 1000)}`;
  const words = [
    length > 0 && `${length.toLocaleString()} waiting, ${waits}`,
    rates !== null && rates.ended > 0 && `${rates.ended.toFixed(1)} files/s done`,
  ];
  write(line, words.filter(Boolean).join(" · "));
  line.hidden = !line.textContent;
}

function listStuck(files) {
  stuck.hidden = files.length === 0;
  write(title, files.length === 1 ? "A file does not go on" : `${files.length} files do not go on`);
  list.replaceChildren(
    ...files.map((file) =>
      element(
        "li",
        {},
        element("a", { href: `#/files/${encodeURIComponent(file.file_id)}` }, nameOf(file)),
        ` — ${file.status}, silent for ${clock(since(file.silent_since))}. ${file.reason}`,
      ),
    ),
  );
}
