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
    from collections.abc import Sequence

    from reports.records import RunRecord
    from reports.table import Row


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


def export(
    run: options.Run = "latest", to: To = Format.CSV, results: options.Results = options.RESULTS, output: options.Output = None
) -> None:
    """Write a run's table in another format: every cell, and each number to the last digit."""
    from controller import history
    from controller.store import Store
    from reports import table

    record = history.load(Store.open(results), run)
    rows = table.rows(record)
    if to == Format.PARQUET:
        _write_parquet(record, rows, output)
    else:
        write(_text(to, record, rows), output)


def _text(to: Format, record: "RunRecord", rows: "Sequence[Row]") -> str:
    import json

    from reports import openmetrics, table

    match to:
        case Format.JSON:
            return json.dumps(table.to_json(rows, record), indent=2, allow_nan=False) + "\n"
        case Format.OPENMETRICS:
            return openmetrics.to_openmetrics(record, rows)
        case _:
            return table.to_csv(rows)


def _write_parquet(record: "RunRecord", rows: "Sequence[Row]", output: Path | None) -> None:
    from reports import parquet

    with _extra("pyarrow", "parquet"), _binary(output) as file:
        parquet.write_table(record, rows, file)


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
