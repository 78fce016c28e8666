// Announces finished files to screen readers. Several within a second become one message.

import { nameOf } from "./format.js";
import { TERMINAL } from "./waybill.js";

const PAUSE = 1000;

const place = document.getElementById("announcer");
let ended = [];

export function notice(before, file) {
  if (!before || before.status === file.status || !TERMINAL.has(file.status)) return;
  ended.push(file);
  if (ended.length === 1) setTimeout(announce, PAUSE);
}

function announce() {
  const count = (status) => ended.filter((file) => file.status === status).length;
  const counts = [...TERMINAL].filter(count).map((status) => `${count(status)} ${status}`);
  const [file] = ended;
  place.textContent =
    ended.length === 1 ? `${nameOf(file)} is ${file.status}` : `Files: ${counts.join(", ")}`;
  ended = [];
}
