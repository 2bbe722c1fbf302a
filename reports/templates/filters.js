"use strict";
// The chips that select cells by device, variant and so on, the bar that says how many are selected, and the address that keeps it.

{
  const bar = document.getElementById("selected");
  const said = make("output", {});
  const footing = make("a", {}, "what it rests on");
  const clear = make("button", { type: "button" }, "Clear");
  clear.addEventListener("click", () => selection.clear());
  addEventListener("keydown", (event) => { if (event.key === "Escape" && selection.kept()) selection.clear(); });
  bar.append(said, footing, clear);
  selection.follow((kept) => {
    bar.hidden = kept === null;
    if (kept === null) return;
    const which = kept.length === 1 ? `: ${kept[0].name}` : "";
    said.textContent = `${kept.length} of ${cells.length} cells${which}`;
    const target = kept.length === 1 && document.getElementById(`sure-${kept[0].cell}`);
    footing.hidden = !target;
    if (target) footing.href = `#${target.id}`;
  });
}

{
  const chip = (part, value) => {
    const made = make("button", { type: "button", class: "chip" }, value);
    made.addEventListener("click", () => selection.toggle(part, value));
    selection.follow(() => made.setAttribute("aria-pressed", selection.chosen[part].has(value)));
    return made;
  };
  for (const [part, title] of Object.entries(PARTS)) {
    const values = [...new Set(cells.map((cell) => cell[part]))];
    if (values.length < 2) continue;
    const group = make("fieldset", { class: "chips" }, make("legend", {}, title), ...values.map((value) => chip(part, value)));
    document.getElementById("filters").append(group);
  }
  document.getElementById("filters").append(make("p", { class: "note" }, "A figure below, a point of a chart or a name above selects cells in every section."));
  document.getElementById("filters").hidden = false;
  document.body.classList.add("scripted");
}

// The fragment of the address: cell=...&device=...&latency=...; anchors of the page have no equals sign.
{
  if (location.hash.includes("=")) {
    const known = (part) => new Set(cells.map((cell) => cell[part]));
    for (const [part, value] of new URLSearchParams(location.hash.slice(1))) {
      selection.settings.get(part)?.set(value);
      if (part in selection.chosen && known(part).has(value)) selection.chosen[part].add(value);
    }
    selection.changed();
  }
  let before = null;
  selection.follow(() => {
    const found = Object.entries(selection.chosen).flatMap(([part, values]) => [...values].map((value) => [part, value]));
    const set = [...selection.settings].map(([name, setting]) => [name, setting.get()]).filter(([, value]) => value != null);
    const kept = new URLSearchParams([...found, ...set]).toString();
    if (before !== null && kept !== before) history.replaceState(null, "", `#${kept}`);
    before = kept;
  });
}
