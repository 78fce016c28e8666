// The page: what it consists of, and which part of it is shown.

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

const WORDS = {
  connecting: "connecting …",
  out: "signed out",
  live: "live",
  lost: "connection lost, trying again …",
};
const CONFIG_RETRY_DELAY = 2000;
const LIST_BEHIND = 1500;

const connection = document.getElementById("connection");

let opened = null;

function say(state) {
  connection.dataset.state = state;
  write(connection, WORDS[state]);
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
    say("lost");
    await new Promise((resolve) => setTimeout(resolve, CONFIG_RETRY_DELAY));
    return configuration();
  }
}

let listedAgain;

const config = await configuration();
if (config.login) {
  say("out");
  await signIn();
  say("connecting");
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
  // What is shown is read when the stream is open, unless the stream goes on where it broke: what
  // happened before that was told to nobody here. It is read once more when the list, which is some
  // tenths of a second behind the stream, has come that far, or what happened just before would be in
  // neither. What the stream has told meanwhile stays, wherever the list is.
  onState: (state, about) => {
    say(state);
    if (!about?.fresh) return;
    files.doubtAll();
    list.reload();
    clearTimeout(listedAgain);
    listedAgain = setTimeout(list.reload, LIST_BEHIND);
    if (opened) detail.open(opened);
  },
});
