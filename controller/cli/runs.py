"""fleetmark runs."""

import typer

from controller.cli import options
from controller.cli.output import stdout_json, stdout_table

app = typer.Typer(help="The history of runs.", no_args_is_help=True)


@app.callback()
def runs() -> None:
    """Group the commands on runs."""


@app.command("list")
def list_runs(results: options.Results = options.RESULTS, json: options.Json = False) -> None:
    """List the runs, the latest first."""
    from controller.store import Store

    found = Store.open(results).list_runs()
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
    rows = [
        [
            run.id,
            run.tag or "",
            "finished" if run.finished_at else "not finished",
            run.document["suite"],
            run.document["profile"],
            str(run.cells),
            str(run.launches),
        ]
        for run in found
    ]
    stdout_table(["run", "tag", "state", "suite", "profile", "cells", "launches"], rows, right=["cells", "launches"])


@app.command("show")
def show(run: options.Run = "latest", results: options.Results = options.RESULTS, json: options.Json = False) -> None:
    """Show a run's matrix, verdict and failures again."""
    from rich.console import Console

    from controller import history
    from controller.store import Store
    from reports import summary, table

    store = Store.open(results)
    record = history.load(store, run)
    found = table.rows(record)
    if json:
        stdout_json("run", table.to_json(found, record))
        return
    Console().print(summary.summary(record, found))
