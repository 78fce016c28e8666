// What the reader can have done with a file: to cancel it while it is under way, to retry it after.

import { postJson } from "./api.js";
import { button, element, write } from "./elements.js";
import * as files from "./files.js";
import { TERMINAL } from "./format.js";

const WORDS = {
  cancel: ["Cancel", "Cancelling …"],
  retry: ["Retry", "Starting again …"],
};

const possible = (file) => {
  if (file.deleted_at || file.status === "completed") return null;
  return TERMINAL.has(file.status) ? "retry" : "cancel";
};

// What a command is about: when this has changed, the command has been done or is void.
const target = (file) => [file.file_id, file.run, TERMINAL.has(file.status)].join();

export function commands() {
  const trouble = element("p", { class: "reason", role: "alert" });
  const buttons = Object.fromEntries(
    Object.keys(WORDS).map((name) => [name, button("", () => give(name))]),
  );
  const node = element("span", { class: "commands" }, ...Object.values(buttons));
  let file = null;
  let sent = null;

  const waiting = () => sent === target(file) || file.phase === "cancelling";

  // A button that waits stays where it is, for the keyboard, and does nothing.
  function show() {
    const offered = possible(file);
    const waits = waiting();
    for (const [name, each] of Object.entries(buttons)) {
      each.hidden = name !== offered;
      each.setAttribute("aria-disabled", waits);
      write(each, WORDS[name][Number(waits)]);
    }
  }

  function update(given) {
    if (file && target(file) !== target(given)) write(trouble, "");
    file = given;
    show();
  }

  async function give(name) {
    if (waiting()) return;
    const mine = target(file);
    sent = mine;
    write(trouble, "");
    show();
    try {
      files.put(await postJson(`/api/files/${encodeURIComponent(file.file_id)}/${name}`));
    } catch (error) {
      if (sent === mine) sent = null;
      if (target(file) !== mine) return;
      write(trouble, error.message);
      show();
    }
  }

  return { node, trouble, update };
}
