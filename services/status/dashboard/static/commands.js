// The command buttons of a file: cancel it before it ends, retry it if it failed or was cancelled,
// delete it at any time. Deletion cannot be undone, so its button asks for confirmation.

import { client } from "./api.js";
import { button, element, write } from "./elements.js";
import * as files from "./files.js";
import { TERMINAL } from "./waybill.js";

const LABELS = {
  cancel: ["Cancel", "Cancelling …"],
  retry: ["Retry", "Retrying …"],
  delete: ["Delete", "Deleting …"],
};
const CONFIRM_LABEL = "Delete permanently?";
const CONFIRM_TIMEOUT = 5000;

function possible(file) {
  if (file.deleted_at) return [];
  if (file.status === "completed") return ["delete"];
  return [TERMINAL.has(file.status) ? "retry" : "cancel", "delete"];
}

// The state that a command applies to. Once it changes, the command is done or void.
const target = (file) => [file.file_id, file.run, TERMINAL.has(file.status)].join();

export function commands() {
  const problem = element("p", { class: "reason", role: "alert" });
  const buttons = Object.fromEntries(
    Object.keys(LABELS).map((name) => [name, button("", () => run(name))]),
  );
  const node = element("span", { class: "commands" }, ...Object.values(buttons));
  let file = null;
  let sent = {};
  let confirming;

  const isPending = (name) =>
    (sent.name === name && sent.target === target(file)) ||
    (name === "cancel" && file.phase === "cancelling");

  // A pending button stays focusable for keyboard users, but does nothing.
  function show() {
    const offered = possible(file);
    for (const [name, each] of Object.entries(buttons)) {
      each.hidden = !offered.includes(name);
      each.setAttribute("aria-disabled", isPending(name));
      const label = LABELS[name][Number(isPending(name))];
      write(each, name === "delete" && confirming ? CONFIRM_LABEL : label);
    }
  }

  function update(updated) {
    if (file && target(file) !== target(updated)) write(problem, "");
    file = updated;
    show();
  }

  function setConfirming(isOn) {
    clearTimeout(confirming);
    confirming = isOn ? setTimeout(() => setConfirming(false), CONFIRM_TIMEOUT) : null;
    show();
  }

  async function run(name) {
    if (isPending(name)) return;
    if (name === "delete" && !confirming) {
      setConfirming(true);
      return;
    }
    const command = { name, target: target(file) };
    sent = command;
    write(problem, "");
    setConfirming(false);
    try {
      files.put(await client[name](file.file_id));
    } catch (error) {
      if (sent === command) sent = {};
      if (target(file) !== command.target) return;
      write(problem, error.message);
      show();
    }
  }

  return { node, problem, update };
}
