"use strict";
// The duty cycle for any rate and battery, as reports/duty_cycle.py reckons it; tests hold both to the same words.

const duty = {
  // [energy of a day, how long the battery lasts] of {idle_w, net_j, most_per_h}.
  told({ idle_w, net_j, most_per_h }, ratePerHour, batteryWh) {
    if (most_per_h !== null && ratePerHour > most_per_h) return ["cannot keep it", `at most ${verdict.ratio(most_per_h)}/h`];
    const dailyWh = 24 * (idle_w + (net_j * ratePerHour) / 3600);
    if (dailyWh <= 0) return ["not known", "-"];
    const days = batteryWh / dailyWh;
    return [`${verdict.ratio(1000 * dailyWh)} mWh`, days >= 2 ? `${verdict.ratio(days)} days` : `${verdict.ratio(24 * days)} h`];
  },
};

if (document.getElementById("duty")) {
  const form = document.getElementById("duty");
  const ask = (id, title, value) => {
    const input = make("input", { type: "number", id, min: 0, step: "any", value, inputmode: "decimal" });
    form.append(make("label", { for: id }, title), input);
    input.addEventListener("input", () => reckon());
    return input;
  };
  const rate = ask("duty-rate", "inferences an hour", 60);
  const battery = ask("duty-battery", "battery (Wh)", live.battery_wh);
  const named = (id) => {
    const { name, status } = cells.find((one) => one.cell === id);
    return [name, ...(status === "valid" ? [] : [make("small", {}, status)])];
  };
  const lines = [];
  for (const { boundary, cells: duties } of live.duty_cycles) {
    const body = make("tbody", {});
    for (const one of duties) {
      const [daily, lasts] = [make("td", { class: "n" }), make("td", { class: "n" })];
      body.append(make("tr", { "data-cell": one.cell }, make("th", { scope: "row" }, ...named(one.cell)), daily, lasts));
      lines.push({ one, daily, lasts });
    }
    const heads = ["cell", "energy of a day", "battery lasts"].map((text, at) => make("th", at ? { scope: "col", class: "n" } : { scope: "col" }, text));
    const table = make("table", {}, make("caption", {}, `Boundary: ${boundary}`), make("thead", {}, make("tr", {}, ...heads)), body);
    form.append(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Your duty cycle, ${boundary}` }, table));
  }
  const reckon = () => {
    const known = rate.value !== "" && rate.valueAsNumber >= 0 && battery.valueAsNumber > 0;
    for (const { one, daily, lasts } of lines) {
      [daily.textContent, lasts.textContent] = known ? duty.told(one, rate.valueAsNumber, battery.valueAsNumber) : ["-", "-"];
    }
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  reckon();
  selection.changed();
}
