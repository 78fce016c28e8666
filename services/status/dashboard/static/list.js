// The live list. Rows are patched one by one; what did not change is not touched.

import { getJson } from "./api.js";
import * as files from "./files.js";
import { ICONS, ago, badge, duration, elapsed, element, nameOf, size } from "./format.js";

const PAGE = 50;
const MAX_ROWS = 1000;

const list = document.getElementById("files");
const empty = document.getElementById("empty");
const more = document.getElementById("more");
const search = document.getElementById("search");
const filters = document.getElementById("filters");

const rows = new Map();
const buttons = new Map();
let wanted = "";
let cursor = null;
let uploadUrl = "";

export function start(config) {
  uploadUrl = config.upload_url;
  for (const status of ["", ...Object.keys(ICONS)]) {
    const count = element("b", {}, "0");
    const label = status ? `${ICONS[status]} ${status}` : "all";
    const button = element(
      "button",
      { class: "filter", type: "button", "aria-pressed": String(status === wanted), "data-status": status },
      label,
      count,
    );
    button.addEventListener("click", () => {
      wanted = status;
      for (const [each, { node }] of buttons) node.setAttribute("aria-pressed", String(each === wanted));
      reload();
    });
    buttons.set(status, { node: button, count });
    filters.append(button);
  }
  let typing;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(reload, 200);
  });
  more.addEventListener("click", () => load(cursor));
  files.onChange(patch);
  setInterval(() => patch(runningIds()), 1000);
}

// The newest files as the service knows them: at the start, and after a broken stream.
export async function reload() {
  render();
  await load(null);
}

async function load(from) {
  const page = await getJson("/api/files", {
    status: wanted,
    name: search.value.trim(),
    limit: PAGE,
    cursor: from,
  });
  page.items.forEach(files.put);
  cursor = page.next_cursor;
  more.hidden = cursor === null;
  render();
}

const matches = (file) =>
  (!wanted || file.status === wanted) &&
  nameOf(file).toLowerCase().includes(search.value.trim().toLowerCase());

const runningIds = () =>
  new Set([...rows.keys()].filter((id) => !files.TERMINAL.has(files.get(id)?.status)));

// All rows anew: at the start and when the filter changes.
function render() {
  const shown = files.all().filter(matches).slice(0, MAX_ROWS);
  rows.clear();
  list.replaceChildren(...shown.map(rowOf));
  summarise();
}

function patch(ids) {
  for (const id of ids) {
    const file = files.get(id);
    const row = rows.get(id);
    if (!matches(file)) {
      row?.node.remove();
      rows.delete(id);
    } else if (row) {
      row.update(file);
    } else {
      insert(file);
    }
  }
  if (ids.size) summarise();
}

// Ids are sorted by time, so a new file's place is almost always the top.
function insert(file) {
  const node = rowOf(file);
  const below = [...list.children].find((each) => each.dataset.id < file.file_id);
  list.insertBefore(node, below ?? null);
  if (rows.size > MAX_ROWS) {
    rows.delete(list.lastElementChild.dataset.id);
    list.lastElementChild.remove();
  }
}

function rowOf(file) {
  const name = element("span", { class: "name" });
  const about = element("span", { class: "about" });
  const state = element("span");
  const progress = element("span", { class: "progress-cell" });
  const when = element("span", { class: "when" });
  const link = element(
    "a",
    { class: "row", href: `#/files/${encodeURIComponent(file.file_id)}` },
    element("span", {}, name, about),
    state,
    progress,
    when,
  );
  const node = element("li", { "data-id": file.file_id }, link);
  let shown;

  function update(now) {
    if (now !== shown) {
      name.textContent = nameOf(now);
      name.title = nameOf(now);
      about.textContent = describe(now);
      state.replaceChildren(badge(now.status));
      progress.replaceChildren(...progressOf(now));
      shown = now;
    }
    when.textContent = timeOf(now);
  }

  update(file);
  rows.set(file.file_id, { node, update });
  return node;
}

function describe(file) {
  const facts = [size(file.size), file.content_type];
  if (file.attempt > 1) facts.push(`attempt ${file.attempt} of ${file.max_attempts}`);
  return facts.filter(Boolean).join(" · ");
}

function progressOf(file) {
  if (file.status === "failed") return [element("span", { class: "phase" }, file.error?.message ?? "")];
  if (file.status === "pending") return [element("span", { class: "phase" }, file.phase)];
  if (file.status !== "processing") return [];
  const bar = file.progress
    ? element("progress", { max: 100, value: file.progress.percent, "aria-label": file.phase })
    : element("progress", { "aria-label": file.phase });
  const percent = file.progress ? ` · ${file.progress.percent} %` : "";
  return [bar, element("span", { class: "phase" }, file.phase + percent)];
}

function timeOf(file) {
  if (file.status === "processing") return duration(elapsed(file) ?? 0);
  return file.created_at ? ago(file.created_at) : "";
}

function summarise() {
  const counts = {};
  for (const file of files.all()) counts[file.status] = (counts[file.status] ?? 0) + 1;
  for (const [status, { count }] of buttons) {
    const number = status ? (counts[status] ?? 0) : files.all().length;
    if (count.textContent !== String(number)) count.textContent = String(number);
  }
  empty.hidden = rows.size > 0;
  if (!empty.hidden) empty.replaceChildren(...emptyWords());
}

function emptyWords() {
  if (wanted || search.value.trim()) {
    return [element("h2", {}, "Nothing matches"), "No file that is shown here fits the filter."];
  }
  return [
    element("h2", {}, "No files yet"),
    "Drop a file anywhere on this page, or hand one over by:",
    element("br"),
    element("code", {}, `curl -F file=@report.pdf ${uploadUrl}/api/files/upload`),
  ];
}
