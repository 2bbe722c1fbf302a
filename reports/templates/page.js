"use strict";
// Without scripts the page is whole. With them every drawn chart becomes a live one, and what is selected is so in every section.

const embedded = (id) => JSON.parse(document.getElementById(id).textContent);
const live = embedded("live");

// The rows that reports/embedded.py has packed.
function unpacked({ same, columns, textual, texts, rows }) {
  const told = columns.map((column) => (textual.includes(column) ? (place) => texts[place] : (value) => value));
  return rows.map((row) => ({ ...same, ...Object.fromEntries(columns.map((column, at) => [column, told[at](row[at])])) }));
}

// The cells in the table's order: {cell, device, model, ..., name, head, twin, rows: {metric: row}}, rows as in the JSON export.
const cells = (() => {
  const found = new Map();
  for (const row of unpacked(embedded("data"))) {
    if (!found.has(row.cell)) {
      const { cell, device, model, variant, backend, workload, status, emulated } = row;
      found.set(cell, { cell, device, model, variant, backend, workload, status, emulated, ...live.cells[cell], rows: {} });
    }
    found.get(row.cell).rows[row.metric] = row;
  }
  return [...found.values()];
})();

// An element with attributes, and with children that are elements or text, never markup.
function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const PARTS = { device: "Device", model: "Model", workload: "Workload", variant: "Variant", backend: "Backend", status: "Status" };

// What is selected: values of each part of a cell, cells one by one, and limits by name, {value, keeps: cell => whether it keeps it}.
// `percentile` is the metric by which latencies are shown and ranked, null for each workload's own.
const selection = {
  chosen: Object.fromEntries(["cell", ...Object.keys(PARTS)].map((part) => [part, new Set()])),
  limits: new Map(),
  percentile: null,
  settings: new Map(), // name in the address -> {get, set}, of what is no part of a cell
  followers: [],

  kept() {
    const parts = Object.entries(this.chosen).filter(([, values]) => values.size);
    const limits = [...this.limits.values()];
    const keeps = (cell) => parts.every(([part, values]) => values.has(cell[part])) && limits.every((limit) => limit.keeps(cell));
    return parts.length || limits.length ? cells.filter(keeps) : null;
  },
  toggle(part, value) {
    if (!this.chosen[part].delete(value)) this.chosen[part].add(value);
    this.changed();
  },
  clear() {
    Object.values(this.chosen).forEach((values) => values.clear());
    this.limits.clear();
    this.changed();
  },
  changed() {
    const kept = this.kept();
    this.followers.forEach((follower) => follower(kept));
  },
  follow(follower) {
    this.followers.push(follower);
    follower(this.kept());
  },
};

// Everything of a cell: rows leave their table, what stands in a matrix or in a list is faded.
selection.follow((kept) => {
  const ids = kept && new Set(kept.map((one) => one.cell));
  for (const part of document.querySelectorAll("[data-cell]")) {
    part.classList.toggle("out", ids !== null && !ids.has(part.dataset.cell));
  }
});

for (const square of document.querySelectorAll(".matrix [data-cell]")) {
  square.setAttribute("role", "button");
  square.addEventListener("click", (event) => {
    event.preventDefault();
    selection.toggle("cell", square.dataset.cell);
  });
  square.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    selection.toggle("cell", square.dataset.cell);
  });
  selection.follow(() => square.setAttribute("aria-pressed", selection.chosen.cell.has(square.dataset.cell)));
}

// On paper: everything, whatever is selected or folded.
{
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((details) => { details.open = true; });
    selection.followers.forEach((follower) => follower(null));
  });
  addEventListener("afterprint", () => {
    opened.forEach((details) => { details.open = false; });
    selection.changed();
  });
}
