"""What `fleetmark export` writes is the run's table, whole, in each format, and readable by the format's own tools."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from device_commands import FLEETMARK
from factory_runs import NO_ROUTE, broken, cell, mixed_run, run_of
from pyarrow import parquet as pq
from stored_runs import keep
from typer.testing import CliRunner

from controller import history, schemas
from controller.cli.__main__ import app
from controller.store import Store
from reports.junit import to_junit
from reports.markdown import to_markdown
from reports.records import RunRecord
from reports.table import Row, rows, to_csv

COMMAND = ("export", "latest")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the mixed run, 32 cells, of which every fourth latency is stored."""
    folder = tmp_path_factory.mktemp("results")
    keep(mixed_run(), folder, stride=4)
    return folder


@pytest.fixture(scope="module")
def run(results: Path) -> RunRecord:
    return history.load(Store.open(results), "latest")


@pytest.fixture(scope="module")
def table(run: RunRecord) -> list[Row]:
    return rows(run)


def exported(results: Path, *options: str) -> str:
    """What `export` prints."""
    done = CliRunner().invoke(app, [*COMMAND, "--results", str(results), *options], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_json_is_as_its_shipped_schema_says(results: Path, table: list[Row]) -> None:
    """A real export validates; every property is described and no other is there; without one, or with text for a number, it does not."""
    document = json.loads(exported(results, "--to", "json"))
    schema = json.loads((schemas.FOLDER / "table.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    assert document["rows"][0].keys() == schema["properties"]["rows"]["items"]["properties"].keys()
    assert document["run"].keys() == schema["properties"]["run"]["properties"].keys()
    assert len(document["rows"]) == len(table)
    for wrong in (
        {key: value for key, value in document.items() if key != "run"},
        {**document, "rows": [{**document["rows"][0], "value": "1"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_parquet_has_the_table_with_its_units(results: Path, table: list[Row], tmp_path: Path) -> None:
    """Read by pyarrow, every row and column is that of the table; fields and file say units, and which run it was."""
    target = tmp_path / "new" / "run.parquet"
    exported(results, "--to", "parquet", "-o", str(target))
    read = pq.read_table(target)
    for row, found in zip(table, read.to_pylist(), strict=True):
        found["per_launch"] = tuple((one["round"], one["value"]) for one in found["per_launch"])
        assert Row(**found) == row
    assert read.schema.field("usb_mbps").metadata == {b"unit": b"Mbit/s"}
    about = json.loads(read.schema.metadata[b"fleetmark"])
    assert (about["run"]["id"], about["metrics"]["latency_p90_s"]["unit"]) == (table[0].run, "s")
    assert [path.name for path in target.parent.iterdir()] == ["run.parquet"]


def test_parquet_goes_to_a_pipe_if_asked_and_never_to_a_terminal(results: Path, table: list[Row]) -> None:
    """`-o -` writes the bytes; without -o, or on a terminal, it says that a file has to be named."""
    command = [FLEETMARK, *COMMAND, "--results", results, "--to", "parquet", "-o", "-"]
    piped = subprocess.run(command, capture_output=True, check=True)
    assert pq.read_table(io.BytesIO(piped.stdout)).num_rows == len(table)
    unnamed = CliRunner().invoke(app, [*COMMAND, "--results", str(results), "--to", "parquet"])
    assert (unnamed.stdout, "-o run.parquet" in getattr(unnamed.exception, "next", "")) == ("", True)
    terminal, end = pty.openpty()
    shown = subprocess.run(command, stdout=end, stderr=subprocess.PIPE, check=False)
    os.close(terminal)
    os.close(end)
    assert (shown.returncode, b"-o run.parquet" in shown.stderr) == (2, True)


def test_without_pyarrow_the_extra_is_named(results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error says what to install, and nothing is left at the path."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    target = tmp_path / "run.parquet"
    done = CliRunner().invoke(app, [*COMMAND, "--results", str(results), "--to", "parquet", "-o", str(target)])
    assert getattr(done.exception, "next", "") == "pip install 'fleetmark[parquet]'"
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_is_an_error_that_names_it(results: Path, tmp_path: Path) -> None:
    """A file below what is a file itself: the error names it, and that file stays."""
    (tmp_path / "file").write_text("mine")
    done = CliRunner().invoke(app, [*COMMAND, "--results", str(results), "-o", str(tmp_path / "file" / "run.csv")])
    assert "file/run.csv" in str(done.exception)
    assert (tmp_path / "file").read_text() == "mine"


def test_raw_samples_are_those_of_the_store(tmp_path: Path) -> None:
    """Every value of every launch, exact, with its launch, cell and unit; the index counts what was taken, so strides leave gaps."""
    results = tmp_path / "results"
    keep(run_of((cell("laptop", "fp32", "tflite", 1, launches=2), cell("=1+1", "int8", "tflite", 2, launches=1))), results, stride=4)
    run = history.load(Store.open(results), "latest")
    exported(results, "--raw", "--to", "parquet", "-o", str(tmp_path / "raw.parquet"))
    read = pq.read_table(tmp_path / "raw.parquet")
    expected = [
        (record.cell.device, launch.id, launch.round, metric, at * (4 if len(values) > 1 else 1), value)
        for record in run.cells
        for launch in record.launches
        for metric, values in sorted(launch.values.items())
        for at, value in enumerate(values.tolist())
    ]
    columns = ("device", "launch", "round", "metric", "index", "value")
    assert list(zip(*(read.column(name).to_pylist() for name in columns), strict=True)) == expected
    assert set(read.column("unit").to_pylist()) == {"s"}
    lines = list(csv.DictReader(io.StringIO(exported(results, "--raw"), newline="")))
    assert [(line["launch"], float(line["value"])) for line in lines] == [(one[1], one[-1]) for one in expected]
    assert {line["device"] for line in lines} == {"laptop", "'=1+1"}
    assert list(lines[0]) == read.schema.names


def test_raw_samples_have_no_other_format(results: Path) -> None:
    """The error says which there are."""
    done = CliRunner().invoke(app, [*COMMAND, "--results", str(results), "--raw", "--to", "json"])
    assert "--to csv" in getattr(done.exception, "next", "")


def test_markdown_and_junit_are_those_of_the_reports(results: Path, run: RunRecord, table: list[Row]) -> None:
    """What `export` prints is what the checks of CI write."""
    assert exported(results, "--to", "markdown") == to_markdown(run, table)
    assert exported(results, "--to", "junit") == to_junit(run, table)


def test_mlflow_has_a_run_for_each_cell(tmp_path: Path) -> None:
    """In a real store of MLflow: names as parameters, exact numbers as metrics, its rows as an artifact; a cell without numbers failed.

    A second time nothing is written twice.
    """
    record = run_of((cell("laptop", "fp32", "tflite", 1), broken("pi-b", "fp32", "tflite", "unreachable", NO_ROUTE, launched=False)))
    keep(record, tmp_path / "results")
    table = rows(history.load(Store.open(tmp_path / "results"), "latest"))
    place = (tmp_path / "mlflow").as_uri()
    command = [FLEETMARK, *COMMAND, "--results", tmp_path / "results", "--to", "mlflow", "--tracking-uri", place, "--experiment", "lab"]
    environment = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    again = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (again.stdout, "2 were there before" in again.stderr) == ("", True)
    for identity, record_of, state in zip(done.stdout.split(), record.cells, ("3", "4"), strict=True):  # MLflow's FINISHED and FAILED
        (folder,) = (tmp_path / "mlflow").glob(f"*/{identity}")
        mine = [row for row in table if row.cell == record_of.id]
        assert f"status: {state}\n" in (folder / "meta.yaml").read_text()
        assert (folder / "params" / "device").read_text() == record_of.cell.device
        written = {path.name: float(path.read_text().split()[1]) for path in (folder / "metrics").glob("*")}
        assert {name: value for name, value in written.items() if "." not in name} == {
            row.metric: row.value for row in mine if row.value is not None
        }
        assert {written.get(f"{row.metric}.low") == row.low for row in mine} == {True}
        assert (folder / "artifacts" / "table.csv").read_bytes() == to_csv(mine).encode()


def test_mlflow_writes_no_file(results: Path, tmp_path: Path) -> None:
    """-o beside it would be left unwritten without a word: it is a usage error."""
    words = ["--to", "mlflow", "--tracking-uri", "sqlite://", "-o", str(tmp_path / "x")]
    done = CliRunner().invoke(app, [*COMMAND, "--results", str(results), *words])
    assert "not to a file" in str(done.exception)


def test_mlflow_needs_a_place(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a tracking URI nothing is written anywhere, and the error says how to name one."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(app, [*COMMAND, "--results", str(results), "--to", "mlflow"])
    assert "--tracking-uri" in getattr(done.exception, "next", "")
