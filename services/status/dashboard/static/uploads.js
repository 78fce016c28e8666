// Handing files over: by the button, or dropped anywhere.

import { upload } from "./api.js";
import { button, element, write } from "./elements.js";
import * as files from "./files.js";
import { now, size } from "./format.js";

const AT_ONCE = 3;

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
  // dragenter and dragleave come in pairs for every element that is crossed.
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

// A folder looks like a file that cannot be read.
function withoutFolders(data) {
  const isFolder = [...data.items].map((item) => item.webkitGetAsEntry?.()?.isDirectory);
  const chosen = [...data.files];
  for (const folder of chosen.filter((_, place) => isFolder[place])) {
    refuse(folder, "This is a folder. Drop the files that are in it.");
  }
  return chosen.filter((_, place) => !isFolder[place]);
}

export function add(chosen) {
  queue.push(...chosen);
  next();
}

function next() {
  while (running < AT_ONCE && queue.length) {
    running += 1;
    send(queue.shift()).finally(() => {
      running -= 1;
      next();
    });
  }
  const waiting = queue.length === 1 ? "1 more file waits" : `${queue.length} more files wait`;
  write(rest, queue.length ? waiting : "");
  area.hidden = area.childElementCount === 1;
}

async function send(file) {
  const bar = element("progress", { max: 100, value: 0, "aria-label": `Uploading ${file.name}` });
  const state = element("span", { class: "phase" }, "starting");
  let cancelled = false;
  const onProgress = (sent, total) => {
    bar.value = total ? (100 * sent) / total : 100;
    write(state, sent < total ? `${size(sent)} of ${size(total)}` : "being stored");
  };
  const sending = upload(uploadUrl, file, { withSession, onProgress });
  const cancel = () => {
    cancelled = true;
    sending.cancel();
  };
  const node = card(file, state, button("Cancel", cancel), bar);
  try {
    const taken = await sending.answer;
    if (taken.deduplicated) mention(file, taken);
    else files.put(asPending(taken));
  } catch (error) {
    if (!cancelled) refuse(file, error.message, { again: error.mayMend });
  }
  node.remove();
}

function mention(file, known) {
  const link = element("a", { href: `#/files/${known.file_id}` }, "Show it");
  const dismiss = button("Dismiss", () => {
    node.remove();
    next();
  });
  const words = element("p", { class: "phase", role: "status" }, "This file is there already. ");
  words.append(link);
  const node = card(file, dismiss, words);
}

function refuse(file, words, { again = false } = {}) {
  const leave = () => {
    node.remove();
    next();
  };
  const retry = () => {
    add([file]);
    leave();
  };
  const node = card(
    file,
    again ? button("Try again", retry) : "",
    button("Dismiss", leave),
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

// The file as the list shows it until the stream tells more. Its age is older than any event.
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
