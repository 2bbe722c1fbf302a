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
    OPENMETRICS = "openmetrics"


To = Annotated[
    Format,
    typer.Option(
        "--to",
        help="csv: one row per metric; json: the same, with the run's description and a JSON Schema (controller/schemas); "
        "parquet: the same with units in its metadata, needs -o; openmetrics: text for Prometheus.",
    ),
]


Raw = Annotated[bool, typer.Option("--raw", help="Every stored sample of every launch in place of the table, one a line: csv or parquet.")]


def export(
    run: options.Run = "latest",
    to: To = Format.CSV,
    raw: Raw = False,
    results: options.Results = options.RESULTS,
    output: options.Output = None,
) -> None:
    """Write a run in another format: its table, with every cell and each number to the last digit, or its raw samples."""
    from controller import history
    from controller.store import Store

    store = Store.open(results)
    if raw:
        _write_raw(store, store.find_run(run).id, to, output)
        return
    record = history.load(store, run)
    if to == Format.PARQUET:
        _write_parquet(record, output)
    else:
        write(_text(to, record), output)


def _text(to: Format, record: "RunRecord") -> str:
    import json

    from reports import openmetrics, table

    rows = table.rows(record)
    match to:
        case Format.JSON:
            return json.dumps(table.to_json(rows, record), indent=2, allow_nan=False) + "\n"
        case Format.OPENMETRICS:
            return openmetrics.to_openmetrics(record, rows)
        case _:
            return table.to_csv(rows)


def _write_parquet(record: "RunRecord", output: Path | None) -> None:
    from reports import parquet, table

    with _extra("pyarrow", "parquet"), _binary(output) as file:
        parquet.write_table(record, table.rows(record), file)


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
