// The live list. Only rows that changed are updated.

import { getJson } from "./api.js";
import { button } from "./elements.js";
import { emptyState } from "./empty.js";
import * as files from "./files.js";
import * as filters from "./filters.js";
import { makeRow } from "./row.js";

const PAGE = 50;
const LARGEST_PAGE = 500;
const LONGEST = 2000;
const RETRY_DELAY = 3000;

const list = document.getElementById("files");
const empty = document.getElementById("empty");
const problem = document.getElementById("problem");
const more = document.getElementById("more");
const end = document.getElementById("end");

const rows = new Map();
let config = null;
let cursor = null;
// The list shows every matching file down to this id, without gaps, and none below it.
let oldest = "";
let loaded = false;
let stale = false;
let latest = 0;
let shortening = false;
let retryTimer;

export function start(configuration) {
  config = configuration;
  filters.start(() => {
    arrange();
    load({ count: PAGE });
  });
  more.addEventListener("click", loadMore);
  files.onChange(patch);
  setInterval(() => rows.forEach((row) => row.tick()), 1000);
}

// Loads the newest files again, down to the present end of the list.
export function reload() {
  stale = true;
  load({ count: Math.max(PAGE, rows.size), bottom: loaded ? oldest : null });
}

const loadMore = () =>
  load(stale ? { count: rows.size + PAGE, bottom: oldest } : { count: PAGE, from: cursor });

// Loads `count` files, then more until one is not above `bottom`. New files may arrive meanwhile,
// and the list would lose as many at its end.
async function load({ count, from = null, bottom = null }) {
  clearTimeout(retryTimer);
  latest += 1;
  const request = latest;
  let missing = count;
  let next = from;
  let last = "";
  const isAbove = () => bottom !== null && last > bottom && count - missing < LONGEST;
  try {
    do {
      const limit = missing > 0 ? Math.min(missing, LARGEST_PAGE) : PAGE;
      const page = await getJson("/api/files", { ...filters.query(), limit, cursor: next });
      if (request !== latest) return;
      page.items.forEach(files.put);
      last = page.items.at(-1)?.file_id;
      next = page.next_cursor;
      missing -= limit;
    } while (next !== null && (missing > 0 || isAbove()));
  } catch (error) {
    if (request === latest) showError(error, () => load({ count, from, bottom }));
    return;
  }
  if (stale && from === null) {
    files.removeStale();
    stale = false;
  }
  cursor = next;
  oldest = next === null ? "" : last;
  loaded = true;
  problem.hidden = true;
  arrange();
}

function showError(error, again) {
  const message = `The list could not be loaded. ${error.message} `;
  problem.replaceChildren(message, button("Try again", again));
  problem.hidden = false;
  if (error.mayMend) retryTimer = setTimeout(again, RETRY_DELAY);
}

// Focuses the row of a file when the reader returns from its view.
export const focus = (id) => rows.get(id)?.node.firstElementChild.focus();

const belongs = (file) => file && file.file_id >= oldest && filters.matches(file);

// Arranges all rows, newest first, after a load or a change of the filter.
function arrange() {
  for (const [id, row] of rows) if (!belongs(files.get(id))) remove(id, row);
  const shown = [...files.all()].filter(belongs);
  shown.sort((one, other) => (one.file_id < other.file_id ? 1 : -1));
  let place = list.firstElementChild;
  for (const file of shown) {
    const row = rows.get(file.file_id) ?? add(file);
    row.update(file);
    if (row.node === place) place = place.nextElementSibling;
    else list.insertBefore(row.node, place);
  }
  summarise();
}

function patch(ids) {
  for (const id of ids) {
    const file = files.get(id);
    const row = rows.get(id);
    if (!belongs(file)) remove(id, row);
    else if (row) row.update(file);
    else list.insertBefore(add(file).node, below(id));
  }
  summarise();
  if (files.count() > LONGEST) shorten();
}

function add(file) {
  const row = makeRow(file);
  rows.set(file.file_id, row);
  return row;
}

function remove(id, row) {
  row?.node.remove();
  rows.delete(id);
}

// Ids are sorted by time, so a new file almost always goes to the top.
function below(id) {
  let place = list.firstElementChild;
  while (place && place.dataset.id > id) place = place.nextElementSibling;
  return place;
}

// Too many files have arrived: reload a shorter list and keep only what the page shows.
async function shorten() {
  if (shortening) return;
  shortening = true;
  await load({ count: LONGEST / 4 });
  files.keepOnly((id) => rows.has(id) || location.hash.endsWith(id));
  shortening = false;
  summarise();
}

function summarise() {
  filters.showCounts(files.all(), { complete: loaded && cursor === null });
  more.hidden = cursor === null || rows.size >= LONGEST / 2;
  end.hidden = cursor === null || !more.hidden;
  const nothing = loaded && rows.size === 0;
  if (nothing && empty.hidden) empty.replaceChildren(...emptyState(config));
  empty.hidden = !nothing;
}
