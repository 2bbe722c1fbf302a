"use strict";
// The live charts: a click on a mark selects its cell, marks of cells that are not selected fade, and an axis may be logarithmic or not.

if (document.getElementById("charts")) {
  const options = {
    mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true },
  };
  const views = new Map(); // name -> {view, spec}
  const has = (spec, name) => (spec.params ?? []).some((param) => param.name === name);

  const show = ({ view, spec }, kept) => {
    if (has(spec, "kept")) view.signal("kept", kept && kept.map((one) => one.cell));
    if (has(spec, "percentile")) view.signal("percentile", selection.percentile);
    view.run();
  };
  const draw = async (name, spec) => {
    const drawing = document.querySelector(`#chart-${name} .drawing`);
    const drawn = make("div", { "aria-hidden": "true" });
    const { view } = await vegaEmbed(drawn, spec, options);
    views.get(name)?.view.finalize();
    views.set(name, { view, spec });
    view.addEventListener("click", (_, item) => {
      if (item?.datum?.id) selection.toggle("cell", item.datum.id);
    });
    show(views.get(name), selection.kept());
    drawing.replaceChildren(drawn);
    drawing.dataset.live = "true";
  };

  // The scales of a specification that may be logarithmic: those whose type says log or linear.
  const scales = (part) => {
    if (part === null || typeof part !== "object") return [];
    const own = ["log", "linear"].includes(part.scale?.type) ? [part.scale] : [];
    return [...own, ...Object.values(part).flatMap(scales)];
  };
  const offerAxes = (name, spec) => {
    const [first] = scales(spec);
    if (!first) return;
    const group = make("fieldset", { class: "chips" }, make("legend", {}, "Axis"));
    const buttons = ["linear", "log"].map((type) => make("button", { type: "button", "aria-pressed": type === first.type }, type));
    for (const button of buttons) {
      button.addEventListener("click", async () => {
        const changed = structuredClone(spec);
        scales(changed).forEach((scale) => { scale.type = button.textContent; });
        await draw(name, changed);
        buttons.forEach((one) => one.setAttribute("aria-pressed", one === button));
      });
    }
    group.append(...buttons);
    const form = make("form", { class: "controls axis", "aria-label": `Axis of the chart: ${name}` }, group);
    document.getElementById(`chart-${name}`).before(form);
  };

  (async () => {
    for (const [name, spec] of Object.entries(embedded("charts"))) {
      for (const [data, kept] of Object.entries(spec.datasets)) if (!Array.isArray(kept)) spec.datasets[data] = unpacked(kept);
      try {
        await draw(name, spec);
        offerAxes(name, spec);
      } catch (error) {
        console.error(`chart ${name} stays as it was drawn`, error);
      }
    }
  })();
  selection.follow((kept) => views.forEach((chart) => show(chart, kept)));
}
