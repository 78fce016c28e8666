// The page: what it consists of, and which part of it is shown.

import { getJson } from "./api.js";
import * as detail from "./detail.js";
import * as files from "./files.js";
import { nameOf } from "./format.js";
import * as list from "./list.js";
import { follow } from "./stream.js";
import * as uploads from "./uploads.js";

const connection = document.getElementById("connection");
const announcer = document.getElementById("announcer");

function say(state, words) {
  connection.dataset.state = state;
  connection.textContent = words;
}

function route() {
  const [, id] = location.hash.match(/^#\/files\/(.+)$/) ?? [];
  document.getElementById("list-view").hidden = Boolean(id);
  document.getElementById("detail-view").hidden = !id;
  if (id) detail.open(decodeURIComponent(id));
  else detail.close();
}

function onFile(file) {
  const before = files.get(file.file_id)?.status;
  files.put(file);
  if (files.TERMINAL.has(file.status) && before && before !== file.status) {
    announcer.textContent = `${nameOf(file)} is ${file.status}`;
  }
}

const config = await getJson("/api/config");
uploads.start(config);
list.start(config);
detail.start();
addEventListener("hashchange", route);
route();
// The list is read when the stream is open, so nothing falls between the two.
follow({
  onFile,
  onLive: () => {
    say("live", "live");
    list.reload().catch((error) => say("lost", error.message));
    route();
  },
  onLost: () => say("lost", "connection lost, trying again …"),
});
