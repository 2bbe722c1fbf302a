"use strict";
// Without this script the page is whole: it only replaces each drawn chart by a live one, and opens everything for print.
(async () => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  for (const [name, spec] of Object.entries(specs)) {
    const drawing = document.querySelector(`#chart-${name} .drawing`);
    const live = document.createElement("div");
    const options = {
      mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true },
    };
    try {
      await vegaEmbed(live, spec, options);
      drawing.replaceChildren(live);
      drawing.dataset.live = "true";
    } catch (error) {
      console.error(`chart ${name} stays as it was drawn`, error);
    }
  }
})();
{
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
}
