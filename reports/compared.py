"""A comparison of two runs in the terminal, as Markdown and as a JSON document: the same numbers in each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from reports import text
from reports.baseline import Baseline, Line, joined
from reports.markdown import escaped
from reports.metrics import METRICS
from reports.records import RunRecord
from reports.table import Row

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {"bad": "bold red", "doubtful": "yellow", "good": "green"}


def drawn(baseline: Baseline, *, whole: bool = False) -> "RenderableType":
    """The comparison for the terminal; the folded cells one by one too if `whole`. Strings of others are text, never markup."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for line in baseline.lines if whole else baseline.told:
        details = Text("\n").join([Text(line.cell, "bold"), *(Text(one) for one in details_of(line))])
        grid.add_row(Text(f"{line.mark} {line.change.verdict}", _STYLES.get(line.tone, "")), details)
    if baseline.folded and not whole:
        grid.add_row(Text("= folded"), Text(folded(baseline)))
    return Group(*(Text(one) for one in baseline.sentences()), Text(), grid, *_advice(baseline.advice))


def _advice(advice: Sequence[str]) -> "Iterator[RenderableType]":
    """The sentence, then the commands, never folded so that they can be copied."""
    from rich.text import Text

    for at, one in enumerate(advice):
        yield Text(f"  {one}", no_wrap=True, overflow="ignore") if at else Text(f"\n{one}")


def details_of(line: Line) -> Iterator[str]:
    """A cell's numbers, why they cannot be compared, its other metrics, and what changed around it, a line each."""
    row = line.change.row
    by, span = line.by
    told = f", {by} ({span})" if by else ""
    yield f"{METRICS[row.metric].label} {line.was} → {line.now}{told}"
    if line.change.reason:
        yield line.change.reason
    yield from (f"{'worse' if shift.worse else 'better'}: {shift}" for shift in line.change.shifts)
    if line.surroundings:
        yield f"changed beside it: {joined(line.surroundings)}"


def folded(baseline: Baseline) -> str:
    """One line for the cells that are not told one by one, and what changed around them."""
    around = baseline.folded_around()
    return f"{baseline.folded_counts()} (--all shows them){f'; changed beside them: {joined(around)}' if around else ''}"


def to_markdown(baseline: Baseline, *, whole: bool = False) -> str:
    """The comparison as GitHub-flavoured Markdown for a pull request; no string of others is markup."""
    lines = [
        f"# {escaped(baseline.sentences()[1])}",
        "",
        *(escaped(one) + "\n" for one in (baseline.sentences()[0], *baseline.sentences()[2:])),
    ]
    shown = baseline.lines if whole else baseline.told
    if shown:
        lines += [_markdown_row(["", "cell", "base", "new", "change", "beside it"]), "| --- | --- | ---: | ---: | ---: | --- |"]
        lines += [_markdown_row(_fields(line)) for line in shown]
    if baseline.folded and not whole:
        lines += ["", f"{escaped(folded(baseline))}"]
    if baseline.advice:
        lines += ["", escaped(baseline.advice[0]), "```", *map(text.line, baseline.advice[1:]), "```"]
    return "\n".join(lines) + "\n"


def _fields(line: Line) -> list[str]:
    by, span = line.by
    beside = [line.change.reason, *map(str, line.change.shifts), joined(line.surroundings)]
    told = "; ".join(one for one in beside if one)
    cell = f"{line.cell}, {METRICS[line.change.row.metric].label}"
    return [f"{line.mark} {line.change.verdict}", cell, line.was, line.now, f"{by} ({span})" if by else "", told]


def _markdown_row(fields: Sequence[str]) -> str:
    return f"| {' | '.join(map(escaped, fields))} |"


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
        "shown": {"base": line.was, "new": line.now, "change": line.by[0], "interval": line.by[1]},
        "shifts": [
            {"metric": one.new.metric, "worse": one.worse, "base": _row(one.base), "new": _row(one.new), "change": one.change}
            for one in change.shifts
        ],
        "environment": [asdict(one) for one in line.surroundings],
    }


def _row(row: Row | None) -> Mapping[str, object] | None:
    names = ("cell", "value", "unit", "low", "high", "n", "status", "reason")
    return row and {name: getattr(row, name) for name in names}
