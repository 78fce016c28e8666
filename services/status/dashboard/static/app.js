// Entry point: starts the parts of the page and shows the view of the current address.

import * as announcer from "./announcer.js";
import { getJson } from "./api.js";
import * as detail from "./detail.js";
import { write } from "./elements.js";
import * as files from "./files.js";
import * as list from "./list.js";
import { signIn } from "./login.js";
import { follow } from "./stream.js";
import * as traffic from "./traffic.js";
import * as uploads from "./uploads.js";

const LABELS = {
  connecting: "connecting …",
  out: "signed out",
  live: "live",
  lost: "connection lost, reconnecting …",
};
const CONFIG_RETRY_DELAY = 2000;
const LIST_DELAY = 1500;

const connection = document.getElementById("connection");

let opened = null;

function showConnection(state) {
  connection.dataset.state = state;
  write(connection, LABELS[state]);
}

function route() {
  const id = fileInAddress();
  document.getElementById("list-view").hidden = Boolean(id);
  document.getElementById("detail-view").hidden = !id;
  if (id) {
    if (id !== opened) scrollTo(0, 0);
    detail.open(id);
  } else {
    detail.close();
    if (opened) list.focus(opened);
  }
  opened = id;
}

function fileInAddress() {
  const [, id] = location.hash.match(/^#\/files\/(.+)$/) ?? [];
  try {
    return id ? decodeURIComponent(id) : null;
  } catch {
    return id;
  }
}

async function configuration() {
  try {
    return await getJson("/api/config");
  } catch {
    showConnection("lost");
    await new Promise((resolve) => setTimeout(resolve, CONFIG_RETRY_DELAY));
    return configuration();
  }
}

let secondReload;

const config = await configuration();
if (config.login) {
  showConnection("out");
  await signIn();
  showConnection("connecting");
}
uploads.start(config);
list.start(config);
traffic.start();
detail.start();
document.getElementById("version").textContent = config.version;
addEventListener("hashchange", route);
route();
follow({
  onFile: (file) => {
    announcer.notice(files.get(file.file_id), file);
    files.put(file);
  },
  onWithdrawn: (id) => {
    files.remove(id);
    if (id === opened) detail.open(opened);
  },
  // When the stream opens without resuming, reload everything shown, because earlier changes were
  // not received. The list is some tenths of a second behind the stream, so reload it once more
  // after that delay. Otherwise changes from just before the stream opened would be missing in both.
  // States that the stream delivers meanwhile are kept, as they are newer than the list.
  onState: (state, about) => {
    showConnection(state);
    if (!about?.fresh) return;
    files.markAllStale();
    list.reload();
    clearTimeout(secondReload);
    secondReload = setTimeout(list.reload, LIST_DELAY);
    if (opened) detail.open(opened);
  },
});
