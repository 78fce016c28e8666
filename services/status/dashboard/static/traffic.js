// Queue statistics above the list, and the stuck files with reasons.

import { getJson } from "./api.js";
import { element, write } from "./elements.js";
import { clock, nameOf, since } from "./format.js";

const INTERVAL = 5000;
// Every sixth refresh, i.e. 30 seconds: a file counts as stuck after a minute at the earliest.
const STUCK_EVERY = 6;

const line = document.getElementById("traffic");
const stuck = document.getElementById("stuck");
const title = stuck.querySelector("summary");
const list = stuck.querySelector("ul");

let turn = 0;

export function start() {
  refresh();
  setInterval(refresh, INTERVAL);
}

async function refresh() {
  if (document.hidden) return;
  try {
    show(await getJson("/api/stats"));
    if (turn++ % STUCK_EVERY === 0) listStuck((await getJson("/api/admin/stuck")).items);
  } catch {
    // The list reports that the service is unreachable; old numbers would be wrong.
    line.hidden = true;
  }
}

function show({ queue, rates, degraded }) {
  if (queue === null) {
    // Unknown values are null; the messages explain why.
    write(line, degraded.join(" · "));
    line.hidden = !line.textContent;
    return;
  }
  const { length, expected_seconds: expected } = queue;
  const waits = expected === null ? "not moving" : `the last starts in ${clock(expected * 1000)}`;
  const words = [
    length > 0 && `${length.toLocaleString()} waiting, ${waits}`,
    rates !== null && rates.ended > 0 && `${rates.ended.toFixed(1)} files/s finished`,
  ];
  write(line, words.filter(Boolean).join(" · "));
  line.hidden = !line.textContent;
}

function listStuck(files) {
  stuck.hidden = files.length === 0;
  write(title, files.length === 1 ? "1 stuck file" : `${files.length} stuck files`);
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
