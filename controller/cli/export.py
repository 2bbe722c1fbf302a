"""fleetmark export."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from controller.cli import options
from controller.cli.output import replacing, stderr_text, write

if TYPE_CHECKING:
    from controller.store import Store
    from reports.records import RunRecord


class Format(StrEnum):
    """What `export` writes."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    MARKDOWN = "markdown"
    JUNIT = "junit"
    OPENMETRICS = "openmetrics"
    MLFLOW = "mlflow"


To = Annotated[
    Format,
    typer.Option(
        "--to",
        help="csv: one row per metric; json: the same, with the run's description and a JSON Schema (controller/schemas); "
        "parquet: the same with units in its metadata, needs -o; markdown: a summary; junit: cells and gates as test cases; "
        "openmetrics: text for Prometheus; mlflow: a run of MLflow for each cell.",
    ),
]


Raw = Annotated[bool, typer.Option("--raw", help="Every stored sample of every launch in place of the table, one a line: csv or parquet.")]

TrackingUri = Annotated[
    str | None, typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="Where --to mlflow writes, such as sqlite:///mlflow.db.")
]
Experiment = Annotated[str, typer.Option("--experiment", help="The experiment that --to mlflow adds to, made if it is new.")]


def export(
    run: options.Run = "latest",
    to: To = Format.CSV,
    raw: Raw = False,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    output: options.Output = None,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = "fleetmark",
) -> None:
    """Write a run in another format: its table, with every cell and each number to the last digit, or its raw samples."""
    from controller import history
    from controller.errors import FleetmarkError

    store = options.open_store(results, url)
    if raw:
        _write_raw(store, store.find_run(run).id, to, output)
        return
    record = history.load(store, run)
    if to == Format.PARQUET:
        _write_parquet(record, output)
    elif to == Format.MLFLOW:
        if output is not None:
            raise FleetmarkError("--to mlflow writes to MLflow, not to a file", next="leave -o out; --tracking-uri says where")
        _log(record, tracking_uri, experiment)
    else:
        write(_text(to, record), output)


def _text(to: Format, record: "RunRecord") -> str:
    import json

    from reports import openmetrics, table
    from reports.junit import to_junit
    from reports.markdown import to_markdown

    rows = table.rows(record)
    match to:
        case Format.JSON:
            return json.dumps(table.to_json(rows, record), indent=2, allow_nan=False) + "\n"
        case Format.OPENMETRICS:
            return openmetrics.to_openmetrics(record, rows)
        case Format.MARKDOWN:
            return to_markdown(record, rows)
        case Format.JUNIT:
            return to_junit(record, rows)
        case _:
            return table.to_csv(rows)


def _write_parquet(record: "RunRecord", output: Path | None) -> None:
    from reports import parquet, table

    with _extra("pyarrow", "parquet"), _binary(output) as file:
        parquet.write_table(record, table.rows(record), file)


def _log(record: "RunRecord", tracking_uri: str | None, experiment: str) -> None:
    from controller import mlflow_export
    from controller.errors import FleetmarkError
    from reports import table

    if not tracking_uri:
        raise FleetmarkError("MLflow has no place", next="--tracking-uri sqlite:///mlflow.db, or set MLFLOW_TRACKING_URI")
    with _extra("mlflow", "mlflow"):
        rows = table.rows(record)
        runs = mlflow_export.log(record, rows, tracking_uri, experiment)
    for run in runs:
        typer.echo(run)
    there = len({row.cell for row in rows}) - len(runs)
    stderr_text(f"{len(runs)} new runs of MLflow, in the experiment {experiment}" + (f"; {there} were there before" if there else ""))


def _write_raw(store: "Store", run_id: str, to: Format, output: Path | None) -> None:
    from io import TextIOWrapper

    from controller.errors import FleetmarkError
    from reports import parquet, raw

    launches = store.raw(run_id)
    if to == Format.PARQUET:
        with _extra("pyarrow", "parquet"), _binary(output) as file:
            parquet.write_raw(launches, file)
    elif to != Format.CSV:
        raise FleetmarkError(f"raw samples are not exported as {to}", next="--to csv or --to parquet; without --raw the table goes")
    elif output is None or str(output) == "-":
        raw.write_csv(launches, sys.stdout)
    else:
        with replacing(output) as file:
            text = TextIOWrapper(file, "utf-8", newline="")
            raw.write_csv(launches, text)
            text.detach()
        stderr_text(f"written: {output}")


@contextmanager
def _binary(output: Path | None) -> Generator[IO[bytes]]:
    """The file that bytes go to: one that replaces `output` when it is whole, or a buffer that is copied to stdout."""
    import shutil
    import tempfile

    from controller.errors import FleetmarkError

    if output and str(output) != "-":
        with replacing(output) as file:
            yield file
        stderr_text(f"written: {output}")
        return
    if output is None or sys.stdout.isatty():
        raise FleetmarkError("parquet is binary, no text for a terminal", next="name a file: -o run.parquet; -o - for a pipe")
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout.buffer)


@contextmanager
def _extra(package: str, extra: str) -> Generator[None]:
    """Tell which extra has the package where it cannot be imported."""
    from controller.errors import FleetmarkError

    try:
        yield
    except ImportError as error:
        raise FleetmarkError(f"{package} cannot be imported: {error}", next=f"pip install 'fleetmark[{extra}]'") from error
