// Handing files over: by the button, or dropped anywhere.

import { upload } from "./api.js";
import * as files from "./files.js";
import { element, size } from "./format.js";

const AT_ONCE = 3;

const area = document.getElementById("uploads");
const picker = document.getElementById("picker");
const drop = document.getElementById("drop");
const queue = [];
let running = 0;
let uploadUrl = "";

export function start(config) {
  uploadUrl = config.upload_url;
  picker.addEventListener("change", () => {
    add(picker.files);
    picker.value = "";
  });
  // dragenter and dragleave come in pairs for every element that is crossed.
  let depth = 0;
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const show = (change) => {
    depth = Math.max(0, depth + change);
    drop.hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => carriesFiles(event) && show(1));
  addEventListener("dragleave", (event) => carriesFiles(event) && show(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    show(0);
    add(event.dataTransfer.files);
  });
}

function add(chosen) {
  for (const file of chosen) {
    const bar = element("progress", { max: 100, value: 0, "aria-label": `Uploading ${file.name}` });
    const state = element("span", { class: "phase" }, "waiting");
    const name = element("span", { class: "name" }, file.name);
    const node = element("div", { class: "upload" }, name, state, bar);
    area.append(node);
    queue.push({ file, node, bar, state });
  }
  area.hidden = area.childElementCount === 0;
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
}

async function send({ file, node, bar, state }) {
  try {
    const accepted = await upload(uploadUrl, file, (sent, total) => {
      bar.value = (100 * sent) / total;
      state.textContent = `${size(sent)} of ${size(total)}`;
    });
    files.put(asPending(accepted));
    node.remove();
  } catch (error) {
    bar.remove();
    const dismiss = element("button", { class: "button", type: "button" }, "Dismiss");
    dismiss.addEventListener("click", () => {
      node.remove();
      area.hidden = area.childElementCount === 0;
    });
    state.replaceWith(dismiss);
    node.append(element("p", { class: "reason", role: "alert" }, error.message));
  }
  area.hidden = area.childElementCount === 0;
}

// The waybill as the list shows it until the stream tells more. Its age is older than any event.
function asPending(accepted) {
  return {
    ...accepted,
    phase: "queued",
    run: 1,
    attempt: 0,
    progress: null,
    error: null,
    created_at: new Date().toISOString(),
    updated_at: "",
  };
}
