// The list's filters and the number of loaded files per status.

import { element, icon, write } from "./elements.js";
import { nameOf } from "./format.js";

const STATUSES = ["pending", "processing", "completed", "failed", "cancelled"];
const TYPING = 200;

const search = document.getElementById("search");
const group = document.getElementById("filters");
const counts = new Map();
let wanted = "";

export function start(onChange) {
  for (const status of ["", ...STATUSES]) {
    const count = element("b");
    const attributes = { class: "filter", type: "button", "data-status": status };
    const button = element(
      "button",
      attributes,
      status ? icon(status) : null,
      status || "all",
      count,
    );
    button.addEventListener("click", () => {
      wanted = status;
      press();
      onChange();
    });
    counts.set(status, count);
    group.append(button);
  }
  press();
  let typing;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(onChange, TYPING);
  });
}

function press() {
  for (const button of group.children) {
    button.setAttribute("aria-pressed", String(button.dataset.status === wanted));
  }
}

export const query = () => ({ status: wanted, name: search.value.trim() });

const hasName = (file) => nameOf(file).toLowerCase().includes(query().name.toLowerCase());

export const matches = (file) =>
  !file.deleted_at && (!wanted || file.status === wanted) && hasName(file);

// If only part of the list is loaded, a number is a lower bound and ends with `+`.
export function showCounts(files, { complete }) {
  const numbers = { "": 0 };
  for (const file of files) {
    if (file.deleted_at || !hasName(file)) continue;
    numbers[""] += 1;
    numbers[file.status] = (numbers[file.status] ?? 0) + 1;
  }
  for (const [status, count] of counts) {
    const exact = complete && (!wanted || wanted === status);
    write(count, `${numbers[status] ?? 0}${exact ? "" : "+"}`);
  }
}
