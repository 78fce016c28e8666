// What the reader can have done with a file: to cancel it while it is under way, to retry it after,
// and to delete it, for which the button asks once more: nothing brings it back.

import { client } from "./api.js";
import { button, element, write } from "./elements.js";
import * as files from "./files.js";
import { TERMINAL } from "./waybill.js";

const WORDS = {
  cancel: ["Cancel", "Cancelling …"],
  retry: ["Retry", "Starting again …"],
  delete: ["Delete", "Deleting …"],
};
const SURE = "Delete for good?";
const ASKS_FOR = 5000;

function possible(file) {
  if (file.deleted_at) return [];
  if (file.status === "completed") return ["delete"];
  return [TERMINAL.has(file.status) ? "retry" : "cancel", "delete"];
}

// What a command is about: when this has changed, the command has been done or is void.
const target = (file) => [file.file_id, file.run, TERMINAL.has(file.status)].join();

export function commands() {
  const trouble = element("p", { class: "reason", role: "alert" });
  const buttons = Object.fromEntries(
    Object.keys(WORDS).map((name) => [name, button("", () => give(name))]),
  );
  const node = element("span", { class: "commands" }, ...Object.values(buttons));
  let file = null;
  let sent = {};
  let asking;

  const waits = (name) =>
    (sent.name === name && sent.target === target(file)) ||
    (name === "cancel" && file.phase === "cancelling");

  // A button that waits stays where it is, for the keyboard, and does nothing.
  function show() {
    const offered = possible(file);
    for (const [name, each] of Object.entries(buttons)) {
      each.hidden = !offered.includes(name);
      each.setAttribute("aria-disabled", waits(name));
      write(each, name === "delete" && asking ? SURE : WORDS[name][Number(waits(name))]);
    }
  }

  function update(given) {
    if (file && target(file) !== target(given)) write(trouble, "");
    file = given;
    show();
  }

  function ask(asks) {
    clearTimeout(asking);
    asking = asks ? setTimeout(() => ask(false), ASKS_FOR) : null;
    show();
  }

  async function give(name) {
    if (waits(name)) return;
    if (name === "delete" && !asking) {
      ask(true);
      return;
    }
    const mine = { name, target: target(file) };
    sent = mine;
    write(trouble, "");
    ask(false);
    try {
      files.put(await client[name](file.file_id));
    } catch (error) {
      if (sent === mine) sent = {};
      if (target(file) !== mine.target) return;
      write(trouble, error.message);
      show();
    }
  }

  return { node, trouble, update };
}
