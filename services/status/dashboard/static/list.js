// The live list. Rows are patched one by one; what did not change is not touched.

import { getJson } from "./api.js";
import { button } from "./elements.js";
import { emptyWords } from "./empty.js";
import * as files from "./files.js";
import * as filters from "./filters.js";
import { makeRow } from "./row.js";

const PAGE = 50;
const LARGEST_PAGE = 500;
const LONGEST = 2000;
const RETRY_DELAY = 3000;

const list = document.getElementById("files");
const empty = document.getElementById("empty");
const trouble = document.getElementById("trouble");
const more = document.getElementById("more");
const end = document.getElementById("end");

const rows = new Map();
let config = null;
let cursor = null;
// The list shows every file that matches down to this id, and nothing below it: no gaps.
let oldest = "";
let loaded = false;
let doubtful = false;
let latest = 0;
let shortening = false;
let retrying;

export function start(given) {
  config = given;
  filters.start(() => {
    arrange();
    load({ count: PAGE });
  });
  more.addEventListener("click", loadMore);
  files.onChange(patch);
  setInterval(() => rows.forEach((row) => row.tick()), 1000);
}

// The newest files as the service knows them, down to where the list ends already.
export function reload() {
  doubtful = true;
  load({ count: Math.max(PAGE, rows.size), bottom: loaded ? oldest : null });
}

const loadMore = () =>
  load(doubtful ? { count: rows.size + PAGE, bottom: oldest } : { count: PAGE, from: cursor });

// So many files, and more of them until one is not above `bottom`: while they come, new ones may, and
// the list would lose as many at its end.
async function load({ count, from = null, bottom = null }) {
  clearTimeout(retrying);
  latest += 1;
  const mine = latest;
  let missing = count;
  let next = from;
  let last = "";
  const isAbove = () => bottom !== null && last > bottom && count - missing < LONGEST;
  try {
    do {
      const limit = missing > 0 ? Math.min(missing, LARGEST_PAGE) : PAGE;
      const page = await getJson("/api/files", { ...filters.query(), limit, cursor: next });
      if (mine !== latest) return;
      page.items.forEach(files.put);
      last = page.items.at(-1)?.file_id;
      next = page.next_cursor;
      missing -= limit;
    } while (next !== null && (missing > 0 || isAbove()));
  } catch (error) {
    if (mine === latest) complain(error, () => load({ count, from, bottom }));
    return;
  }
  if (doubtful && from === null) {
    files.forgetDoubtful();
    doubtful = false;
  }
  cursor = next;
  oldest = next === null ? "" : last;
  loaded = true;
  trouble.hidden = true;
  arrange();
}

function complain(error, again) {
  trouble.replaceChildren(`The list cannot be read. ${error.message} `, button("Try again", again));
  trouble.hidden = false;
  if (error.mayMend) retrying = setTimeout(again, RETRY_DELAY);
}

// The reader comes back from the page of a file to its row.
export const focus = (id) => rows.get(id)?.node.firstElementChild.focus();

const belongs = (file) => file && file.file_id >= oldest && filters.matches(file);

// All rows, newest first: after a load and when the filter changes.
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

// Ids are sorted by time, so a new file's place is almost always the top.
function below(id) {
  let place = list.firstElementChild;
  while (place && place.dataset.id > id) place = place.nextElementSibling;
  return place;
}

// So many have come that the list is read anew, shorter; what is on the page is all that is kept.
async function shorten() {
  if (shortening) return;
  shortening = true;
  await load({ count: LONGEST / 4 });
  files.forgetUnless((id) => rows.has(id) || location.hash.endsWith(id));
  shortening = false;
  summarise();
}

function summarise() {
  filters.showCounts(files.all(), { complete: loaded && cursor === null });
  more.hidden = cursor === null || rows.size >= LONGEST / 2;
  end.hidden = cursor === null || !more.hidden;
  const nothing = loaded && rows.size === 0;
  if (nothing && empty.hidden) empty.replaceChildren(...emptyWords(config));
  empty.hidden = !nothing;
}
