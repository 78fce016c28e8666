// The sections of a file's view, each a pure function of the file.

import { badge, element } from "./elements.js";
import { duration, kind, language, moment, nameOf, size, took } from "./format.js";

const STATUS_OF = {
  "file.uploaded": "pending",
  "file.requeued": "pending",
  "file.retrying": "pending",
  "file.processing": "processing",
  "file.completed": "completed",
  "file.failed": "failed",
  "file.cancelled": "cancelled",
};

const card = (title, ...parts) =>
  element("section", { class: "card" }, element("h2", {}, title), ...parts);

export const heading = (file) => element("h1", { tabindex: -1 }, element("bdi", {}, nameOf(file)));

export const state = (file) => badge(file.status);

export function reason(file) {
  if (!file.error) return null;
  const waits = file.next_attempt_at;
  const attempt = `attempt ${file.attempt} of ${file.max_attempts}`;
  const again = file.error.retryable ? "a retry may succeed" : "a retry will not help";
  const node = element(
    "section",
    { class: waits ? "card failure waiting" : "card failure" },
    element("h2", {}, waits ? `Attempt ${file.attempt} failed` : "Why it failed"),
    element("p", {}, file.error.message),
    element(
      "p",
      { class: "fine" },
      element("code", {}, file.error.code),
      ` · ${attempt} · ${again}`,
    ),
  );
  if (waits) {
    node.append(element("p", {}, "Next attempt ", element("b", { role: "timer" }), "."));
  }
  return node;
}

export function facts(file) {
  const labels = Object.entries(file.labels ?? {}).map(([key, value]) => `${key}: ${value}`);
  return card(
    "Details",
    definitions([
      [
        "Type",
        file.content_type && element("span", { title: file.content_type }, kind(file.content_type)),
      ],
      ["Size", size(file.size)],
      ["Attempt", file.attempt ? `${file.attempt} of ${file.max_attempts}` : ""],
      ["Run", file.run > 1 ? file.run : ""],
      ["Uploaded", file.created_at && moment(file.created_at)],
      ["Started", file.started_at && moment(file.started_at)],
      ["Finished", file.finished_at && moment(file.finished_at)],
      ["Took", took(file)],
      ["Owner", file.owner],
      ["Labels", labels.join(", ")],
      ["Batch", file.batch_id && element("code", {}, file.batch_id)],
      ["Id", element("code", {}, file.file_id)],
      ["SHA-256", file.sha256 && element("code", {}, file.sha256)],
    ]),
  );
}

export function result(file) {
  const path = `/api/files/${encodeURIComponent(file.file_id)}`;
  const links = [download(`${path}/source`, "Original file", file.size)];
  for (const artifact of file.result?.artifacts ?? []) {
    const name = artifact.name.split("/").map(encodeURIComponent).join("/");
    links.push(download(`${path}/artifacts/${name}`, artifact.name, artifact.size));
  }
  const statistics = Object.entries(file.result?.statistics ?? {}).map(([name, value]) => [
    name.replaceAll("_", " "),
    name === "language" ? language(value) : counted(value),
  ]);
  return card(
    file.result ? "Result" : "Downloads",
    definitions(statistics),
    element("ul", { class: "downloads" }, ...links),
  );
}

export function history(file) {
  if (!file.history) return card("History", element("p", { class: "fine" }, "loading …"));
  const lines = file.history.map((line, place) => {
    const before = file.history[place - 1];
    const after = before && `${duration(Date.parse(line.time) - Date.parse(before.time))} later`;
    const words = [
      after,
      line.run > 1 && `run ${line.run}`,
      line.attempt && `attempt ${line.attempt}`,
      line.pod && `on ${line.pod}`,
      line.superseded && "superseded: the run had already ended",
    ];
    return element(
      "li",
      {
        class: line.superseded ? "superseded" : null,
        "data-status": line.superseded ? null : STATUS_OF[line.type],
      },
      element("b", {}, line.type.replace("file.", "")),
      element("time", { datetime: line.time }, moment(line.time)),
      element("span", {}, words.filter(Boolean).join(" · ")),
      line.message &&
        element("p", {}, line.code && element("code", {}, line.code), " ", line.message),
    );
  });
  return card("History", element("ol", { class: "timeline" }, ...lines));
}

export const unknown = (error) =>
  element(
    "section",
    { class: "card failure", role: "alert" },
    element("h1", { tabindex: -1 }, "This file cannot be shown"),
    element("p", {}, error.message),
  );

const counted = (value) =>
  typeof value === "number" ? value.toLocaleString() : String(value ?? "");

function download(path, name, bytes) {
  const words = element("span", { class: "fine" }, size(bytes));
  return element("li", {}, element("a", { class: "button", href: path }, name, " ", words));
}

function definitions(entries) {
  const list = element("dl", { class: "facts" });
  for (const [name, value] of entries) {
    if (value) list.append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  }
  return list.childElementCount ? list : null;
}
