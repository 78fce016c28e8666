// One row of the list.

import { badge, element, meter, phaseOf, write } from "./elements.js";
import { ago, clock, kind, nameOf, since, size, took, untilNext } from "./format.js";

export function makeRow(file) {
  const name = element("bdi", { class: "name" });
  const about = element("span", { class: "about" });
  const state = element("span");
  const work = meter();
  const when = element("span", { class: "when" });
  const length = element("span", { class: "when" });
  const link = element(
    "a",
    { class: "row", href: `#/files/${encodeURIComponent(file.file_id)}` },
    element("span", { class: "what" }, name, about),
    state,
    work.node,
    element("span", { class: "times" }, when, length),
  );
  let shown;

  function update(file) {
    if (file === shown) return;
    write(name, nameOf(file));
    name.title = nameOf(file);
    write(about, describe(file));
    about.title = file.content_type ?? "";
    if (file.status !== shown?.status) state.replaceChildren(badge(file.status));
    shown = file;
    tick();
  }

  // Updates the texts that depend on the time.
  function tick() {
    work.update(shown, workOf(shown));
    write(when, shown.created_at ? ago(shown.created_at) : "");
    write(length, lengthOf(shown));
  }

  update(file);
  return { node: element("li", { "data-id": file.file_id }, link), update, tick };
}

function describe(file) {
  const facts = [size(file.size), kind(file.content_type)];
  if (file.attempt > 1) facts.push(`attempt ${file.attempt} of ${file.max_attempts}`);
  return facts.filter(Boolean).join(" · ");
}

function workOf(file) {
  if (file.status === "failed") return file.error?.message ?? "";
  if (file.status === "processing") return phaseOf(file);
  if (file.next_attempt_at) return `next attempt ${untilNext(file)}`;
  return file.status === "pending" ? file.phase : "";
}

function lengthOf(file) {
  if (file.status === "processing" && file.started_at)
    return `for ${clock(since(file.started_at))}`;
  return took(file) && `took ${took(file)}`;
}
