"""A comparison of two runs in the terminal and as a JSON document: the same numbers in each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from reports.baseline import Baseline, Line, called
from reports.metrics import METRICS
from reports.records import RunRecord
from reports.regressions import FOLDED
from reports.surroundings import Difference
from reports.table import Row

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST = 8  # differences beside one cell; the JSON has all
_STYLES = {
    "now failed": "bold red",
    "regression": "bold red",
    "suspected": "yellow",
    "worse": "yellow",
    "not confirmed": "cyan",
    "improvement": "green",
    "now valid": "green",
}


def drawn(baseline: Baseline, *, whole: bool = False) -> "RenderableType":
    """The comparison for the terminal; the folded cells one by one too if `whole`. Strings of others are text, never markup."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for line in baseline.lines if whole else baseline.told:
        style = _STYLES.get(line.change.verdict, "")
        details = Text("\n").join([Text(line.cell, "bold"), *(Text(one) for one in details_of(line))])
        grid.add_row(Text(f"{line.mark} {line.change.verdict}", style), details)
    if baseline.folded and not whole:
        grid.add_row(Text("= folded"), Text(folded(baseline)))
    return Group(
        *(Text(one) for one in head(baseline)), Text(), grid, *(Text(one, no_wrap=True, overflow="ignore") for one in tail(baseline))
    )


def head(baseline: Baseline) -> list[str]:
    """Which runs are compared, what came of it, and how the runs as such differ."""
    against = f"{called(baseline.new)} against {called(baseline.base)}"
    again = f", rerun {called(baseline.rerun)}" if baseline.rerun else ""
    differing = [f"The runs differ: {joined(baseline.differences)}."] if baseline.differences else []
    return [against + again, f"{baseline.sentence()}.", *differing]


def tail(baseline: Baseline) -> list[str]:
    """What to do about what is suspected."""
    return ["", baseline.advice] if baseline.advice else []


def details_of(line: Line) -> Iterator[str]:
    """A cell's numbers, why they cannot be compared, its other metrics, and what changed around it, a line each."""
    row = line.change.row
    by = f", {line.by}" if line.by else ""
    yield f"{METRICS[row.metric].label} {line.was} → {line.now}{by}"
    if line.change.reason:
        yield line.change.reason
    yield from (f"{'worse' if shift.worse else 'better'}: {shift}" for shift in line.change.shifts)
    if line.surroundings:
        yield f"changed beside it: {joined(line.surroundings)}"


def folded(baseline: Baseline) -> str:
    """One line for the cells that are not told one by one, and what changed around them."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in baseline.counts.items() if verdict in FOLDED)
    around = baseline.folded_around()
    return f"{counts} (--all shows them){f'; changed beside them: {joined(around)}' if around else ''}"


def joined(differences: Sequence[Difference]) -> str:
    """The first differences in one line, the others counted."""
    more = len(differences) - _MOST
    return "; ".join(map(str, differences[:_MOST])) + (f"; and {more} more" if more > 0 else "")


def document(baseline: Baseline) -> dict[str, object]:
    """The comparison as JSON-ready objects, worst first, nothing folded; numbers in SI units as the table has them."""
    return {
        "base": _run(baseline.base),
        "new": _run(baseline.new),
        "rerun": baseline.rerun and _run(baseline.rerun),
        "counts": baseline.counts,
        "environment": [asdict(one) for one in baseline.differences],
        "cells": [_cell(line) for line in baseline.lines],
        "advice": baseline.advice,
    }


def _run(run: RunRecord) -> Mapping[str, object]:
    return {name: getattr(run, name) for name in ("id", "tag", "started_at", "suite", "profile")}


def _cell(line: Line) -> dict[str, object]:
    change, row = line.change, line.change.row
    found = change.judgement.comparison
    return {
        **{part: getattr(row, part) for part in ("device", "model", "variant", "backend", "workload", "metric", "emulated")},
        "verdict": change.verdict,
        "reason": change.reason,
        "base": _row(change.base),
        "new": _row(change.new),
        "cost_ratio": found
        and {"value": found.ratio, "low": found.low, "high": found.high, "p": change.p, "floor": change.judgement.floor},
        "shown": {"base": line.was, "new": line.now, "change": line.by},
        "shifts": [
            {"metric": one.new.metric, "worse": one.worse, "base": _row(one.base), "new": _row(one.new), "change": one.change}
            for one in change.shifts
        ],
        "environment": [asdict(one) for one in line.surroundings],
    }


def _row(row: Row | None) -> Mapping[str, object] | None:
    names = ("cell", "value", "unit", "low", "high", "n", "status", "reason")
    return row and {name: getattr(row, name) for name in names}
