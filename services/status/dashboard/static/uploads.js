// Uploads: by the button, or by dropping files anywhere on the page.

import { upload } from "./api.js";
import { button, element, write } from "./elements.js";
import * as files from "./files.js";
import { now, size } from "./format.js";

const MAX_PARALLEL = 3;

const area = document.getElementById("uploads");
const picker = document.getElementById("picker");
const drop = document.getElementById("drop");
const rest = element("p", { class: "rest phase" });
const queue = [];
let running = 0;
let uploadUrl = "";
let withSession = false;

export function start(config) {
  uploadUrl = config.upload_url;
  withSession = config.login;
  area.append(rest);
  picker.addEventListener("change", () => {
    add(picker.files);
    picker.value = "";
  });
  listenForDrops();
  addEventListener("beforeunload", (event) => {
    if (running) event.preventDefault();
  });
}

function listenForDrops() {
  // dragenter and dragleave fire in pairs for every element that the pointer crosses.
  let depth = 0;
  const on = (name, change) =>
    addEventListener(name, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      depth = change(depth);
      drop.hidden = depth <= 0;
      if (name === "drop") add(withoutFolders(event.dataTransfer));
    });
  on("dragenter", (now) => now + 1);
  on("dragleave", (now) => Math.max(0, now - 1));
  on("dragover", (now) => now);
  on("drop", () => 0);
}

// A dropped folder appears as a file that cannot be read.
function withoutFolders(data) {
  const isFolder = [...data.items].map((item) => item.webkitGetAsEntry?.()?.isDirectory);
  const chosen = [...data.files];
  for (const folder of chosen.filter((_, place) => isFolder[place])) {
    showError(folder, "This is a folder. Drop the files inside it instead.");
  }
  return chosen.filter((_, place) => !isFolder[place]);
}

export function add(chosen) {
  queue.push(...chosen);
  next();
}

function next() {
  while (running < MAX_PARALLEL && queue.length) {
    running += 1;
    send(queue.shift()).finally(() => {
      running -= 1;
      next();
    });
  }
  const waiting = queue.length === 1 ? "1 more file queued" : `${queue.length} more files queued`;
  write(rest, queue.length ? waiting : "");
  area.hidden = area.childElementCount === 1;
}

async function send(file) {
  const bar = element("progress", { max: 100, value: 0, "aria-label": `Uploading ${file.name}` });
  const state = element("span", { class: "phase" }, "starting …");
  let cancelled = false;
  const onProgress = (sent, total) => {
    bar.value = total ? (100 * sent) / total : 100;
    write(state, sent < total ? `${size(sent)} of ${size(total)}` : "storing …");
  };
  const sending = upload(uploadUrl, file, { withSession, onProgress });
  const cancel = () => {
    cancelled = true;
    sending.cancel();
  };
  const node = card(file, state, button("Cancel", cancel), bar);
  try {
    const accepted = await sending.answer;
    if (accepted.deduplicated) showDuplicate(file, accepted);
    else files.put(asPending(accepted));
  } catch (error) {
    if (!cancelled) showError(file, error.message, { again: error.mayMend });
  }
  node.remove();
}

function showDuplicate(file, known) {
  const link = element("a", { href: `#/files/${known.file_id}` }, "Open it");
  const dismiss = button("Dismiss", () => {
    node.remove();
    next();
  });
  const words = element("p", { class: "phase", role: "status" }, "This file already exists. ");
  words.append(link);
  const node = card(file, dismiss, words);
}

function showError(file, words, { again = false } = {}) {
  const dismiss = () => {
    node.remove();
    next();
  };
  const retry = () => {
    add([file]);
    dismiss();
  };
  const node = card(
    file,
    again ? button("Try again", retry) : "",
    button("Dismiss", dismiss),
    element("p", { class: "reason", role: "alert" }, words),
  );
}

function card(file, ...parts) {
  const name = element("bdi", { class: "name" }, file.name);
  const node = element("div", { class: "upload" }, name, ...parts);
  area.insertBefore(node, rest);
  area.hidden = false;
  return node;
}

// The file as the list shows it until the stream delivers its state. Every event counts as newer.
function asPending(accepted) {
  return {
    ...accepted,
    phase: "queued",
    run: 1,
    attempt: 0,
    created_at: new Date(now()).toISOString(),
    updated_at: "",
  };
}
