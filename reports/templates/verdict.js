"use strict";
// The rules of reports/comparison.py and reports/verdict.py for what is chosen in the page; tests hold both to the same answers.
// Rows are those of the JSON export; `rules` are the embedded floors by device, tie_floor, fewest_launches and metrics.

const verdict = (() => {
  const mean = (values) => values.reduce((total, value) => total + value, 0) / values.length;
  const variance = (values) => {
    const centre = mean(values);
    return values.reduce((total, value) => total + (value - centre) ** 2, 0) / (values.length - 1);
  };

  // Source: C. Lanczos, A Precision Approximation of the Gamma Function (1964); g = 7 and nine coefficients by P. Godfrey.
  const LANCZOS = [
    676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905, -0.13857109526572012,
    9.9843695780195716e-6, 1.5056327351493116e-7,
  ];
  function logGamma(x) {
    const sum = LANCZOS.reduce((total, coefficient, at) => total + coefficient / (x + at), 0.99999999999980993);
    return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(x + 6.5) - (x + 6.5) + Math.log(sum);
  }

  // The share of Student's t distribution beyond -t and t, for t above 1.8. Source: the incomplete beta function as a continued fraction,
  // DLMF 8.17.22, evaluated from its 100th term.
  function beyond(t, freedom) {
    const [a, b, x] = [freedom / 2, 0.5, freedom / (freedom + t * t)];
    let fraction = 1;
    for (let at = 100; at > 0; at--) {
      const m = Math.floor(at / 2);
      const term = at % 2
        ? (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
        : (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      fraction = 1 + term / fraction;
    }
    const logBeta = logGamma(a) + logGamma(b) - logGamma(a + b);
    return Math.exp(a * Math.log(x) + b * Math.log1p(-x) - logBeta) / (a * fraction);
  }

  // The half width, in standard errors, of a 95 % interval, by bisection; `freedom` may be fractional, from 1 on.
  const quantiles = new Map();
  function tQuantile(freedom) {
    if (!quantiles.has(freedom)) {
      let [low, high] = [1.9, 13];
      for (let at = 0; at < 60; at++) {
        const middle = (low + high) / 2;
        if (beyond(middle, freedom) > 0.05) low = middle;
        else high = middle;
      }
      quantiles.set(freedom, (low + high) / 2);
    }
    return quantiles.get(freedom);
  }

  // (standard error, degrees of freedom): Student on the differences of pairs, else Welch and Satterthwaite.
  function errorOf(x, y, paired) {
    if (paired) return [Math.sqrt(variance(x.map((value, at) => value - y[at])) / x.length), x.length - 1];
    const [first, second] = [variance(x) / x.length, variance(y) / y.length];
    if (first + second === 0) return [0, x.length + y.length - 2];
    return [Math.sqrt(first + second), (first + second) ** 2 / (first ** 2 / (x.length - 1) + second ** 2 / (y.length - 1))];
  }

  function compare(first, second, paired, fewest) {
    if (Math.min(first.length, second.length) < fewest || ![...first, ...second].every((value) => value > 0)) return null;
    const [x, y] = [first.map(Math.log), second.map(Math.log)];
    const difference = mean(x) - mean(y);
    const [error, freedom] = errorOf(x, y, paired);
    const half = tQuantile(freedom) * error;
    return { ratio: Math.exp(difference), low: Math.exp(difference - half), high: Math.exp(difference + half) };
  }

  // How many times what `second` costs `first` does; paired by round on the same device.
  function compareRows(first, second, rules) {
    if (rules.metrics[first.metric].better !== "lower") [first, second] = [second, first];
    const [one, two] = [new Map(first.per_launch), new Map(second.per_launch)];
    const whole = one.size === first.per_launch.length && two.size === second.per_launch.length;
    const alike = first.run === second.run && first.device === second.device && one.size === two.size && [...one.keys()].every((at) => two.has(at));
    if (alike && whole) {
      return compare([...one.values()], [...one.keys()].map((at) => two.get(at)), true, rules.fewest_launches);
    }
    const values = (row) => row.per_launch.map(([, value]) => value);
    return compare(values(first), values(second), false, rules.fewest_launches);
  }

  function obstacles(first, second) {
    const found = ["metric", "model", "workload"].filter((part) => first[part] !== second[part]).map((part) => `another ${part}`);
    if (first.protocol || second.protocol) found.push("foreign protocol");
    if (!first.emulated !== !second.emulated) found.push("emulated");
    if (first.boundary !== second.boundary) found.push("other boundary");
    if (first.usb_mbps && second.usb_mbps && first.usb_mbps !== second.usb_mbps) found.push("other USB speed");
    for (const row of [first, second]) {
      if (row.status !== "valid") found.push(row.status);
      else if (row.value === null) found.push(row.reason || "no data");
    }
    return [...new Set(found)];
  }

  // {verdict, comparison, floor, reasons} on `first` against `second`, two rows of the same metric.
  function judge(first, second, rules) {
    const floor = Math.max(rules.tie_floor, ...[first, second].map((row) => 2 * (rules.floors[row.device] ?? 0)));
    const reasons = obstacles(first, second);
    const comparison = reasons.length ? null : compareRows(first, second, rules);
    if (!comparison) return { verdict: "not comparable", comparison, floor, reasons: reasons.length ? reasons : ["n too small"] };
    const tied = (comparison.low <= 1 && 1 <= comparison.high) || Math.abs(Math.log(comparison.ratio)) < Math.log1p(floor);
    return { verdict: tied ? "tied" : comparison.ratio > 1 ? "slower" : "faster", comparison, floor, reasons };
  }

  // The rankings of these rows, each of one model, workload and kind of device, real ones first: lists of {row, relation, ...}, best first.
  function rank(rows, rules) {
    const groups = new Map();
    for (const row of rows.filter((one) => one.status === "valid" && one.value !== null)) {
      const group = JSON.stringify([row.emulated !== "", row.model, row.workload]);
      groups.set(group, [...(groups.get(group) ?? []), row]);
    }
    const real = [...groups.values()].sort((one, two) => (one[0].emulated !== "") - (two[0].emulated !== ""));
    return real.map((group) => {
      const sign = rules.metrics[group[0].metric].better === "lower" ? 1 : -1;
      const [best, ...others] = [...group].sort((one, two) => sign * (one.value - two.value));
      const standing = (row) => {
        const judged = judge(row, best, rules);
        return { ...judged, row, relation: judged.verdict === "faster" ? "tied" : judged.verdict };
      };
      return [{ row: best, relation: "best", comparison: null, reasons: [] }, ...others.map(standing)];
    });
  }

  // A number to three significant digits, as reports.format.ratio shows it.
  function ratio(number) {
    const decimals = number ? Math.max(0, 2 - Number(number.toExponential(2).split("e")[1])) : 0;
    const [whole, fraction] = number.toFixed(decimals).split(".");
    return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (fraction ? `.${fraction}` : "");
  }

  // The sentences of a ranking: the best, and its rivals. `shown(row)` gives value and interval, `nameOf(row)` what a sentence calls it.
  function sentences(standings, rules, shown, nameOf) {
    return [answer(standings[0].row, rules, shown, nameOf), rivals(standings, rules, shown, nameOf)];
  }

  function answer(best, rules, shown, nameOf) {
    const [value, interval] = shown(best);
    const how = interval ? `95 % interval ${interval}` : `no interval: fewer than ${rules.fewest_launches} launches`;
    const place = `is the fastest valid cell${best.emulated ? " of the emulated devices, never ranked against hardware" : ""}`;
    return `${nameOf(best)} ${place}: ${rules.metrics[best.metric].label} ${value} (${how}).`;
  }

  function rivals(standings, rules, shown, nameOf) {
    if (standings.length === 1) return "No other valid cell to compare it with.";
    const behind = ({ row, comparison: found }) => {
      const times = found ? `, ${ratio(found.ratio)} times as long (${ratio(found.low)} to ${ratio(found.high)})` : "";
      return `${nameOf(row)}, ${shown(row)[0]}${times}`;
    };
    const tied = standings.filter((one) => one.relation === "tied");
    if (tied.length) {
      const names = tied.slice(0, 3).map((one) => nameOf(one.row)).join(", ") + (tied.length > 3 ? ` and ${tied.length - 3} more` : "");
      const percent = Number((100 * Math.max(...tied.map((one) => one.floor))).toPrecision(2));
      const slower = standings.find((one) => one.relation === "slower");
      const level = `Tied with ${names}: no difference above ${percent} % is resolved.`;
      return level + (slower ? ` The first resolved one: ${behind(slower)}.` : "");
    }
    const next = standings[1];
    if (next.comparison) return `Runner-up: ${behind(next)}: resolved.`;
    if (next.reasons.join() === "n too small") {
      return `Runner-up: ${behind(next)}; not resolved, with fewer than ${rules.fewest_launches} launches there is no interval.`;
    }
    return `Runner-up: ${behind(next)}; not comparable: ${next.reasons.join(", ")}.`;
  }

  return { judge, rank, ratio, sentences, tQuantile };
})();
