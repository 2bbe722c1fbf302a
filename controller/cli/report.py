"""fleetmark report and fleetmark export."""

import json as json_module
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from controller.cli import options
from controller.cli.output import stderr_text, write


class Format(StrEnum):
    """What `export` writes."""

    CSV = "csv"
    JSON = "json"


Out = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write it; - is stdout.")]


def report(run: options.Run = "latest", results: options.Results = options.RESULTS, output: Out = None) -> None:
    """Write a run's HTML report again."""
    from controller import history
    from controller.store import Store
    from reports import page

    store = Store.open(results)
    record = history.load(store, run)
    written = write(page.render(record), output or results / record.id / "report.html")
    if written:
        stderr_text("the report is in:")
        typer.echo(written)


def export(
    run: options.Run = "latest",
    to: Annotated[Format, typer.Option("--to", help="csv: one row per metric; json: the same, with the run's description.")] = Format.CSV,
    results: options.Results = options.RESULTS,
    output: Out = None,
) -> None:
    """Write a run's table as CSV or JSON, every cell in it."""
    from controller import history
    from controller.store import Store
    from reports import table

    store = Store.open(results)
    record = history.load(store, run)
    rows = table.rows(record)
    text = table.to_csv(rows) if to == Format.CSV else json_module.dumps(table.to_json(rows, record), indent=2) + "\n"
    write(text, output)
