"""fleetmark runs."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import options
from controller.cli.output import stdout_json, stdout_lines, stdout_table

if TYPE_CHECKING:
    from controller.store import RunRow

NAMED = "The run: its id, a unique prefix of one, a tag, or latest."

app = typer.Typer(help="The history of runs.", no_args_is_help=True)


@app.callback()
def runs() -> None:
    """Group the commands on runs."""


@app.command("list")
def list_runs(results: options.Results = options.RESULTS, url: options.Store = None, json: options.Json = False) -> None:
    """List the runs, the latest first."""

    found = options.open_store(results, url).list_runs()
    documents = [
        {
            "id": run.id,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "tag": run.tag,
            "suite": run.document["suite"],
            "profile": run.document["profile"],
            "cells": run.cells,
            "launches": run.launches,
        }
        for run in found
    ]
    if json:
        stdout_json("runs", documents)
        return
    columns = ["run", "tag", "age", "state", "suite", "profile", "cells", "launches"]
    stdout_table(columns, [_shown(run) for run in found], right=["age", "cells", "launches"])


def _shown(run: "RunRow") -> list[str]:
    state = "" if run.finished_at else "not finished"
    suite, profile = str(run.document["suite"]), str(run.document["profile"])
    return [run.id, run.tag or "", _age(run.started_at), state, suite, profile, str(run.cells), str(run.launches)]


def _age(started_at: str) -> str:
    """How long ago that was, in the largest unit of which it is at least one."""
    from datetime import UTC, datetime

    minutes = max(0, int((datetime.now(UTC) - datetime.fromisoformat(started_at)).total_seconds()) // 60)
    units = ((24 * 60, "d"), (60, "h"), (1, "min"))
    size, unit = next((one for one in units if minutes >= one[0]), units[-1])
    return f"{minutes // size} {unit}"


@app.command("show")
def show(
    run: options.Run = "latest", results: options.Results = options.RESULTS, url: options.Store = None, json: options.Json = False
) -> None:
    """Show a run's matrix, verdict and failures again."""
    from rich.console import Console

    from controller import history
    from reports import summary, table

    store = options.open_store(results, url)
    record = history.load(store, run)
    found = table.rows(record)
    if json:
        stdout_json("run", table.to_json(found, record))
        return
    Console().print(summary.summary(record, found))


@app.command("tag")
def tag(
    run: Annotated[str, typer.Argument(metavar="RUN", help=NAMED)],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The tag; reports are compared with the run tagged baseline.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Take the tag from the run that has it, and the run's other tag from it.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the run's tag away.")] = False,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    json: options.Json = False,
) -> None:
    """Give a run a name that every command takes for it; no two runs have the same."""
    from controller import history
    from controller.errors import FleetmarkError

    if (name is None) != remove:
        raise FleetmarkError("give either a NAME or --remove", next=f"fleetmark runs tag {run} baseline")
    store = options.open_store(results, url)
    found = store.find_run(run)
    store.tag_run(found.id, None if name is None else history.valid_tag(store, name), force=force)
    if json:
        stdout_json("run", {"id": found.id, "tag": name})
    else:
        stdout_lines([(f"run {found.id} is tagged {name}" if name else f"run {found.id} has no tag any more", "")])


@app.command("trend")
def trend(
    run: options.Run = "latest",
    metric: Annotated[str, typer.Option("--metric", help="Another metric of the table than the headline, such as size_bytes.")] = "",
    last: Annotated[int, typer.Option("--last", min=2, help="Of how many runs.")] = 8,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    json: options.Json = False,
) -> None:
    """Show how a metric of each cell went: over the tagged runs, and the latest of the same suite, up to RUN."""
    from controller import history
    from controller.errors import FleetmarkError
    from reports.baseline import cell_name
    from reports.metrics import METRICS

    store = options.open_store(results, url)
    record = history.load(store, run)
    found = history.trend(store, record, metric, last)
    if json:
        stdout_json("trend", {"runs": [asdict(stop) for stop in found.stops], "cells": [course.document() for course in found.courses]})
        return
    if not found.courses:
        what = f"{metric} of a cell" if metric else "a cell"
        raise FleetmarkError(f"no earlier run shares {what} with {record.id}", next="fleetmark runs tag RUN NAME keeps a run in the trend")
    several = len({(one.row.model, one.row.workload) for one in found.courses}) > 1
    labels = [METRICS[one.row.metric].label for one in found.courses]
    is_one = len(set(labels)) == 1
    columns = [f"cell, {labels[0]}" if is_one else "cell", "metric", *(stop.label for stop in found.stops)]
    rows = [[cell_name(one.row, several), "" if is_one else label, *one.shown()] for one, label in zip(found.courses, labels, strict=True)]
    stdout_table(columns, rows, right=columns[2:])
