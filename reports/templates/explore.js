"use strict";
// Limits that are set in the page, the percentile of latencies, and the verdict on what is left, by the rules of verdict.js.

const PERCENTILES = ["latency_p50_s", "latency_p90_s", "latency_p95_s", "latency_p99_s"];

// The row by which a cell is ranked.
const ranked = (cell) => cell.rows[(PERCENTILES.includes(cell.head) && selection.percentile) || cell.head];
const shownAs = (row) => live.shown[row.cell][row.metric];

{
  const panel = document.getElementById("explore");
  const settings = make("div", { class: "settings" });
  const result = make("output", { class: "result" });

  // {name, title, rowOf: cell => the row that a limit is of}; of energies one for each power boundary.
  const energy = (boundary) => {
    const row = (cell, kind) => [`energy_${kind}_j`, `meter_energy_${kind}_j`]
      .map((metric) => cell.rows[metric]).find((one) => one && one.value !== null && one.boundary === boundary);
    const kind = cells.some((cell) => row(cell, "net")) ? "net" : "gross";
    const title = `${live.metrics[`energy_${kind}_j`].label}, ${boundary}`;
    return { name: `energy-${boundary}`, title, rowOf: (cell) => row(cell, kind) };
  };
  const energies = cells.flatMap((cell) => Object.values(cell.rows)).filter((row) => /energy_.*_j$/.test(row.metric) && row.value !== null);
  const latency = (cell) => cell.rows[selection.percentile ?? (PERCENTILES.includes(cell.head) ? cell.head : "latency_p90_s")];
  const budgets = [
    { name: "latency", title: "latency", rowOf: latency },
    ...[...new Set(energies.map((row) => row.boundary))].sort().map(energy),
    { name: "accuracy", title: "accuracy change", rowOf: (cell) => cell.rows.accuracy_change_pp },
  ];

  // The rows that have different values, the strictest limit first.
  const steps = ({ rowOf }) => {
    const rows = cells.map(rowOf).filter((row) => row && row.value !== null);
    const sign = (row) => (live.metrics[row.metric].better === "lower" ? 1 : -1);
    rows.sort((one, two) => sign(one) * (one.value - two.value));
    return rows.filter((row, at) => at === 0 || row.value !== rows[at - 1].value);
  };

  const limit = (budget, row) => {
    if (!row) {
      selection.limits.delete(budget.name);
      return;
    }
    const lower = live.metrics[row.metric].better === "lower";
    const within = (value) => (lower ? value <= row.value : value >= row.value);
    const keeps = (cell) => {
      const found = budget.rowOf(cell);
      return Boolean(found) && found.value !== null && within(found.value);
    };
    selection.limits.set(budget.name, { value: row.value, keeps });
  };

  const offer = (budget) => {
    if (steps(budget).length < 2) return;
    const slider = make("input", { type: "range", min: 0, step: 1, id: `limit-${budget.name}` });
    const said = make("span", { class: "said", "aria-hidden": "true" });
    slider.addEventListener("input", () => {
      limit(budget, steps(budget)[Number(slider.value)]);
      selection.changed();
    });
    settings.append(make("div", { class: "limit" }, make("label", { for: slider.id }, budget.title), slider, said));
    selection.follow(() => {
      const rows = steps(budget);
      const set = selection.limits.get(budget.name);
      const at = set ? rows.findIndex((row) => row.value === set.value) : rows.length;
      slider.max = rows.length;
      slider.value = at;
      said.textContent = set
        ? `at ${live.metrics[rows[at].metric].better === "lower" ? "most" : "least"} ${shownAs(rows[at])[0]}`
        : "any";
      slider.setAttribute("aria-valuetext", said.textContent);
    });
    selection.settings.set(budget.name, {
      get: () => selection.limits.get(budget.name)?.value,
      set: (text) => limit(budget, steps(budget).find((row) => row.value === Number(text))),
    });
  };

  // Another percentile has other values: a limit on it moves to the strictest that keeps the cells that it kept.
  const choose = (percentile) => {
    const [budget] = budgets;
    const kept = selection.limits.has(budget.name) ? cells.filter(selection.limits.get(budget.name).keeps) : [];
    selection.percentile = percentile;
    if (kept.length) {
      const found = new Set(kept.map((cell) => budget.rowOf(cell)?.value));
      limit(budget, steps(budget).findLast((row) => found.has(row.value)));
    }
  };
  const offerPercentiles = () => {
    const found = PERCENTILES.filter((metric) => cells.some((cell) => cell.rows[metric]?.value != null));
    if (found.length < 2) return;
    const button = (metric, title) => {
      const made = make("button", { type: "button" }, title);
      made.addEventListener("click", () => {
        choose(metric);
        selection.changed();
      });
      selection.follow(() => made.setAttribute("aria-pressed", selection.percentile === metric));
      return made;
    };
    const buttons = [button(null, "as ranked"), ...found.map((metric) => button(metric, live.metrics[metric].label.split(" ")[0]))];
    settings.append(make("fieldset", { class: "chips" }, make("legend", {}, "percentile"), ...buttons));
    selection.settings.set("percentile", {
      get: () => selection.percentile,
      set: (text) => { if (found.includes(text)) choose(text); },
    });
  };

  const subject = ([{ row }]) => `${row.model}, ${row.workload}: `;
  const sentencesOf = (findings) => findings.map((standings) => {
    const which = new Set(findings.map(subject)).size > 1 ? subject(standings) : "";
    const [best, rivals] = verdict.sentences(standings, live, shownAs, (row) => live.cells[row.cell].name);
    return make("p", {}, make("b", {}, which + best), ` ${rivals}`);
  });
  const report = (kept, findings) => {
    if (kept === null && selection.percentile === null) {
      return [make("p", { class: "note" }, "The verdict on what keeps a limit: move one, or select cells in the matrix below.")];
    }
    const found = sentencesOf(findings);
    const none = make("p", {}, make("b", {}, "No valid cell is left."), " A cell in which something was not measured keeps no limit of it.");
    const among = `Among ${(kept ?? cells).length} of ${cells.length} cells`;
    return [make("p", { class: "eyebrow" }, among), ...(found.length ? found : [none])];
  };

  budgets.forEach(offer);
  offerPercentiles();
  panel.append(make("h2", {}, "Within a budget"), settings, result);
  panel.hidden = !settings.childElementCount;

  selection.follow((kept) => {
    const rows = (kept ?? cells).filter((cell) => !cell.twin && !ranked(cell)?.protocol).map(ranked).filter(Boolean);
    const findings = verdict.rank(rows, live);
    result.replaceChildren(...report(kept, findings));
    remark(findings);
  });
}

// The matrix by the chosen percentile, its leaders among what is selected.
function remark(findings) {
  const real = findings.filter(([best]) => !best.row.emulated);
  const leading = (real.length ? real : findings).flat().filter((one) => ["best", "tied"].includes(one.relation));
  const marks = new Map(leading.map((one) => [one.row.cell, one.relation]));
  const known = new Map(cells.map((cell) => [cell.cell, cell]));
  for (const square of document.querySelectorAll(".matrix [data-cell]")) {
    fill(square, known.get(square.dataset.cell), marks.get(square.dataset.cell) ?? "");
  }
  for (const label of document.querySelectorAll("#matrix [data-head]")) {
    const metric = (PERCENTILES.includes(label.dataset.head) && selection.percentile) || label.dataset.head;
    label.textContent = live.metrics[metric].label;
  }
}

function fill(square, cell, mark) {
  const row = ranked(cell) ?? cell.rows[cell.head]; // a cell without numbers has only that one
  const filled = `${row.metric} ${mark}`;
  if (square.dataset.filled === filled) return;
  square.dataset.filled = filled;
  const shown = row.value !== null ? shownAs(row) : null;
  const status = square.querySelector(".status");
  square.closest("td").classList.remove("best", "tied");
  if (mark) square.closest("td").classList.add(mark);
  const note = shown ? shown[1] : row.reason === cell.status ? "" : row.reason;
  const sign = mark ? make("small", { class: "mark" }, icon(mark), mark === "best" ? " fastest" : " tied") : make("i", {});
  square.replaceChildren(
    make("span", {}, status, ...(shown ? [make("b", {}, shown[0])] : [])),
    make("span", {}, sign, make("small", {}, note)),
  );
}

function icon(name) {
  const [drawn, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  drawn.setAttribute("class", "icon");
  drawn.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  drawn.append(use);
  return drawn;
}
