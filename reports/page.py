"""The HTML report: one file that needs no network, reads whole without scripts, and prints."""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reports import format as fmt
from reports import text
from reports.baseline import Baseline
from reports.certainty import checks, device_states, footings
from reports.charts import MOST_CELLS, Chart, Drawing, cell_charts, further_charts, runtime
from reports.charts.base import foremost
from reports.charts.drawing import Draw
from reports.charts.trend import trend_charts
from reports.cheapest import Answer, price
from reports.duty_cycle import BATTERY_WH, RATES_PER_H, duty_cycles
from reports.embedded import compact, compact_spec
from reports.failures import failures
from reports.heat import courses
from reports.labels import cell_names, ordered_cells, sentence_name
from reports.live import live
from reports.matrix import matrices
from reports.metrics import GLOSSARY, METRICS, headline
from reports.pareto import pairings
from reports.provenance import artifact_sheets, conditions, device_sheets, settings
from reports.records import RunRecord
from reports.sections import facts, leaders, measured, operations
from reports.table import Row, by_cell, rows, to_json
from reports.verdict import Finding, verdict

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("page.js", "verdict.js", "explore.js", "duty.js", "filters.js", "charts.js")  # one after the other they are one script


def render(run: RunRecord, baseline: Baseline | None = None, kept: Path | None = None) -> str:
    """The report of a run as HTML, with the section on its baseline where one is given; write it as UTF-8.

    `kept`, a folder, spares the next report some of the work.
    Its Content-Security-Policy allows its own scripts by hash and nothing from anywhere else.
    """
    with Drawing() as drawing:
        return _render(run, baseline, kept, drawing.draw)


def _render(run: RunRecord, baseline: Baseline | None, kept: Path | None, draw: Draw) -> str:
    from markupsafe import Markup

    table = rows(run)
    drawn = cell_charts(table, run.cells, draw)
    paired = pairings(run, table)
    overtime = courses(run, table)
    drawn |= further_charts(table, paired, overtime, draw) | trend_charts(baseline and baseline.trend, table, draw)
    scripts = (runtime(kept), "\n".join((_TEMPLATES / name).read_text("utf-8") for name in _SCRIPTS)) if drawn else ()
    return (
        _environment(kept)
        .get_template("report.html.j2")
        .render(
            **_content(run, table, drawn, baseline),
            pairings=paired,
            courses=overtime,
            traces=[course for course in overtime if "power" in course.series],
            charts=drawn,
            policy=_policy(scripts),
            style=Markup((_TEMPLATES / "page.css").read_text("utf-8")),  # noqa: S704  our own file
            icons=Markup((_TEMPLATES / "icons.svg").read_text("utf-8")),  # noqa: S704  our own file
            data=_embedded(compact(to_json(table, run))),
            live=_embedded(live(run, table)),
            specs=_embedded({name: compact_spec(chart.spec) for name, chart in drawn.items()}) if drawn else "",
            scripts=[Markup(script) for script in scripts],  # noqa: S704  our own and vl_convert's
        )
    )


def _content(run: RunRecord, table: list[Row], drawn: Mapping[str, Chart], baseline: Baseline | None) -> dict[str, Any]:
    decided = verdict(run, table)
    cells = by_cell(table)
    grounds = footings(run, table)
    parts = measured(table, drawn, run.rate_per_s)
    profiles = operations(run, table)
    anchors = [("pareto", "Trade-offs")] if any(name.startswith("pareto") for name in drawn) else []
    anchors += [(part.anchor, part.title) for part in parts]
    anchors += [("heat", "Heat")] if "heat-1" in drawn else []
    anchors += [("operations", "Operations")] if profiles else []
    anchors += [("baseline", "Baseline")] if baseline else []

    def facts_of(cell: str) -> list[Row]:
        return facts(cells[cell])

    def answer_of(finding: Finding) -> Answer | None:
        return decided.gated.leading(finding.model, finding.workload, emulated=finding.emulated)

    return {
        "shown": _shown,
        "interval": _interval,
        "ratio": fmt.ratio,
        "percent": fmt.percent,
        "sentence_name": sentence_name,
        "headline": headline,
        "leaders": leaders,
        "answer_of": answer_of,
        "answers_told": [answer_of(one) for at, one in enumerate(decided.findings) if not (one.emulated and at)] or decided.gated.answers,
        "price": price,
        "run": run,
        "suite": text.line(run.suite),
        "decided": decided,
        "several": len({(one.model, one.workload) for one in decided.findings}) > 1,
        "models": list(dict.fromkeys(row.model for row in table)),
        "names": cell_names(table),
        "statuses": {row.cell: row.status for row in table},
        "metrics": METRICS,
        "matrices": matrices(table, decided),
        "facts": facts_of,
        "measured": parts,
        "duty_cycles": duty_cycles(table),
        "rates": RATES_PER_H,
        "battery": f"{BATTERY_WH:g}",
        "operations": profiles,
        "baseline": baseline,
        "accelerators": any(one.accelerated() for one in profiles),
        "seconds": _seconds,
        "crowded": len(cells) > MOST_CELLS,
        "foremost": {next(iter(found.values())).cell for found in foremost(ordered_cells(table), MOST_CELLS)},
        "most": MOST_CELLS,
        "failures": failures(run, table),
        "footings": grounds,
        "checks": checks(run, table, grounds),
        "states": device_states(run),
        "devices": device_sheets(run),
        "artifacts": artifact_sheets(run),
        "settings": settings(run),
        "conditions": conditions(run),
        "glossary": GLOSSARY,
        "navigation": _navigation(anchors),
    }


def _shown(row: Row) -> str:
    return fmt.value(row.metric, row.value)


def _seconds(number: float | None) -> str:
    """A time that is no row of the table, as those are shown."""
    return fmt.value("latency_p50_s", number)


def _interval(row: Row) -> str:
    return fmt.interval(row.metric, row.value, row.low, row.high)


def _navigation(parts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    ends = [("failures", "Failures"), ("sure", "How sure"), ("provenance", "Provenance"), ("glossary", "Glossary")]
    return [("verdict", "Verdict"), ("matrix", "Matrix"), *parts, *ends]


@cache
def _environment(kept: Path | None) -> Any:
    from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined

    return Environment(
        bytecode_cache=FileSystemBytecodeCache(str(kept)) if kept and os.access(kept, os.W_OK) else None,
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: object) -> object:
    """Whatever a template prints: strings that are not markup lose their invisible characters here, and are escaped afterwards."""
    return text.visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _embedded(document: object) -> Any:
    """A document as JSON for a script element: no character in it can end the element or open a comment."""
    from markupsafe import Markup

    shown = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return Markup(shown.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704  escaped above


def _policy(scripts: Iterable[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {hashes}; {rest}"
