"""fleetmark check."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import options
from controller.cli.output import even_if_unread, stderr_text, stdout_json, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.store import Store
    from reports.cheapest import Gated
    from reports.records import RunRecord
    from reports.table import Row

Gates = Annotated[Path | None, typer.Option("--gates", help="Gates to use in place of the run's: a suite, or the content of its `gates:`.")]
Junit = Annotated[
    Path | None, typer.Option("--junit", metavar="PATH", help="Write JUnit XML: a test case for each gate on each cell; - is stdout.")
]
Markdown = Annotated[Path | None, typer.Option("--markdown", metavar="PATH", help="Write a summary in Markdown; - is stdout.")]
Github = Annotated[
    bool | None,
    typer.Option("--github/--no-github", help="Annotations and a step summary for GitHub Actions; by default where it runs there."),
]


def check(
    run: options.Run = "latest",
    gates: Gates = None,
    junit: Junit = None,
    markdown: Markdown = None,
    github: Github = None,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    json: options.Json = False,
) -> int:
    """Check a run against gates, for CI.

    A gate is a budget, such as latency_p90_ms: 20, that each valid cell of its devices must keep. Exit code 1: a cell is over a limit, or
    lacks the number; 4: a device was unreachable; 3: cells failed, or are unsteady or throttled. Where the 95 % interval reaches over the
    limit, it says so.
    """
    from controller.gates import exit_code
    from reports import table
    from reports.cheapest import gated
    from reports.junit import to_junit
    from reports.markdown import to_markdown

    on_stdout = _on_stdout({"--json": json, "--junit": str(junit) == "-", "--markdown": str(markdown) == "-"})
    record = _load(run, gates, options.open_store(results, url))
    rows = table.rows(record)
    found = gated(record, rows)
    code = exit_code(record, len(found.failures))
    with even_if_unread():
        if json:
            stdout_json("check", _document(record, found, code))
        elif not on_stdout:
            _show(record, rows, found)
    for path, text in ((junit, to_junit), (markdown, to_markdown)):
        if path:
            with even_if_unread():
                write(text(record, rows), path)
    if os.environ.get("GITHUB_ACTIONS") == "true" if github is None else github:
        _tell_github(record, rows, found)
    return code


def _on_stdout(asked: "Mapping[str, bool]") -> list[str]:
    """The options that write to stdout, one at most."""
    from controller.errors import FleetmarkError

    found = [option for option, is_there in asked.items() if is_there]
    if len(found) > 1:
        raise FleetmarkError(f"{' and '.join(found)} would both be on stdout", next="give one of them, or a file to the other")
    return found


def _load(run: str, gates: Path | None, store: "Store") -> "RunRecord":
    """The run with the gates to check it against."""
    from dataclasses import replace

    from controller import gate_file, history
    from controller.errors import FleetmarkError
    from controller.gates import bind

    record = history.load(store, run)
    if gates:
        record = replace(record, gates=bind(gate_file.load(gates), record.devices.values()))
    if not record.gates:
        why = f"its suite, {record.suite}, has no `gates:`"
        raise FleetmarkError(
            f"run {record.id} has no gates to check",
            why,
            f"fleetmark check {record.id} --gates FILE, with e.g. `all: {{latency_p90_ms: 20}}`",
        )
    return record


def _show(record: "RunRecord", rows: "Sequence[Row]", found: "Gated") -> None:
    from collections import Counter

    from rich.console import Console
    from rich.text import Text

    from reports.summary import causes, gate_lines

    console = Console(soft_wrap=True)
    lines = [line for head, failing in gate_lines(found.rulings) for line in (head, *(Text("    ") + one for one in failing))]
    answers = [Text(answer.sentence) for answer in found.answers]
    for at, block in enumerate(filter(None, (lines, answers, causes(record, rows)))):
        console.print(*[""] * (at > 0), *block, sep="\n")
    outcomes = Counter(ruling.outcome for ruling in found.rulings)
    stderr_text(f"{len(found.rulings)} gates on run {record.id}: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))


def _tell_github(record: "RunRecord", rows: "Sequence[Row]", found: "Gated") -> None:
    """Annotations to stderr, where the runner reads them too; the summary to the file that it names."""
    import sys

    from controller.errors import FleetmarkError
    from reports.github import annotations, capped
    from reports.markdown import to_markdown

    sys.stderr.write("".join(f"{line}\n" for line in annotations(record, rows, found)))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if not summary:
        return
    try:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(capped(to_markdown(record, rows)))
    except OSError as error:
        what = f"cannot write the step summary to {summary}: {error.strerror}"
        raise FleetmarkError(what, next="mend GITHUB_STEP_SUMMARY, or leave it out with --no-github") from error


def _document(record: "RunRecord", found: "Gated", code: int) -> dict[str, Any]:
    """The check as JSON."""
    from reports.gates import SCOPES

    names = ("cell", "device", "model", "variant", "backend", "workload", "status", "metric", "value", "unit", "low", "high")
    return {
        "run": record.id,
        "exit_code": int(code),
        "gates": [
            {
                "selector": ruling.gate.selector,
                **{scope: list(getattr(ruling.gate, scope)) for scope in SCOPES},
                "gate": ruling.gate.written,
                "metric": ruling.gate.metric,
                "at_most": ruling.gate.at_most,
                "at_least": ruling.gate.at_least,
                "outcome": ruling.outcome,
                "cells": [
                    {
                        **{name: getattr(one.row, name) for name in names},
                        "outcome": one.outcome,
                        "resolved": one.resolved,
                        "note": one.note(),
                    }
                    for one in ruling.cells
                ],
            }
            for ruling in found.rulings
        ],
        "answers": [
            {
                "selector": answer.selector,
                "model": answer.model,
                "workload": answer.workload,
                "best": answer.best and answer.best.cell,
                "runner_up": answer.runner_up and answer.runner_up.cell,
                "judged": answer.judged,
                "failing": answer.missing,
                "sentence": answer.sentence,
            }
            for answer in found.answers
        ],
    }
