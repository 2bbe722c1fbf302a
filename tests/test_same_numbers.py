"""A number is the same wherever it is read: in the report, the terminal, CSV, JSON, Parquet and OpenMetrics of one stored run."""

import csv
import dataclasses
import html
import io
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from factory_runs import cell, mixed_run
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pyarrow import parquet as pq
from stored_runs import keep
from typer.testing import CliRunner

from agent.schema import cell_id
from controller.cli.__main__ import app
from reports import format as fmt
from reports.metrics import headline
from reports.openmetrics import family

FOREIGN = {"tool": "trtexec"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command says of a run with cells of every kind, one of them measured by another program."""
    folder = tmp_path_factory.mktemp("same")
    run, other = mixed_run(), cell("laptop", "fp32", "openvino", 77)
    named = other.cell._replace(options=FOREIGN)
    launches = tuple(dataclasses.replace(launch, id=f"foreign-{launch.id}") for launch in other.launches)
    other = dataclasses.replace(other, id=cell_id(named), cell=named, launches=launches)
    keep(dataclasses.replace(run, cells=(*run.cells, other)), folder)

    def says(*command: str) -> str:
        done = CliRunner(env={"COLUMNS": "220"}).invoke(app, [*command, "--results", str(folder)], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    says("export", "latest", "--to", "parquet", "-o", str(folder / "run.parquet"))
    exports = {name: says("export", "latest", "--to", name) for name in ("csv", "json", "openmetrics")}
    report = says("report", "latest", "-o", "-")
    return {**exports, "report": report, "terminal": says("runs", "show", "latest"), "parquet": str(folder / "run.parquet")}


@pytest.fixture(scope="module")
def numbers(told: dict[str, str]) -> list[dict[str, Any]]:
    """The rows of the CSV that have a number, each with its cell as JSON names it."""
    lines = list(csv.DictReader(io.StringIO(told["csv"], newline="")))
    cells = [row["cell"] for row in json.loads(told["json"])["rows"]]
    return [{**line, "cell": cell} for line, cell in zip(lines, cells, strict=True) if line["value"]]


def exact(row: dict[str, Any]) -> tuple[float | None, ...]:
    return tuple(float(row[name]) if row[name] not in ("", None) else None for name in ("value", "low", "high", "n"))


def test_the_exports_are_exact(told: dict[str, str], numbers: list[dict[str, Any]]) -> None:
    """CSV, JSON and Parquet agree on value, interval and n of every row to the last bit, and OpenMetrics on every value."""
    expected = {(row["cell"], row["metric"]): exact(row) for row in numbers}
    assert {(row["cell"], row["metric"]): exact(row) for row in json.loads(told["json"])["rows"] if row["value"] is not None} == expected
    read = pq.read_table(Path(told["parquet"])).to_pylist()
    assert {(row["cell"], row["metric"]): exact(row) for row in read if row["value"] is not None} == expected
    families = {found.name: found for found in text_string_to_metric_families(told["openmetrics"])}
    for (identity, metric), (value, *_) in expected.items():
        (sample,) = (one for one in families[family(metric)].samples if one.labels["cell"] == identity)
        assert sample.value == value


def test_the_report_shows_every_number_of_the_exports(told: dict[str, str], numbers: list[dict[str, Any]]) -> None:
    """Formatted from the CSV, each value stands in the report's rows on that cell, and its interval beside the metric it is ranked by."""
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", told["report"], flags=re.DOTALL)
    shown: dict[str, str] = defaultdict(str)
    for found in re.finditer(r'<(\w+)[^>]*\bdata-cell="([^"]*)"[^>]*>(.*?)</\1>', body, re.DOTALL):
        shown[found[2]] += " " + " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found[3])).split())
    for row in numbers:
        value, low, high, _ = exact(row)
        figure = fmt.value(row["metric"], value)
        assert f" {figure} " in f"{shown[row['cell']]} ", (row["metric"], row["cell"])
        if row["metric"] == headline(row["workload"]):
            assert f"{figure} {fmt.interval(row['metric'], value, low, high)}" in shown[row["cell"]]
    assert "foreign protocol" in body


def test_the_terminal_shows_the_ranked_number_of_every_cell(told: dict[str, str], numbers: list[dict[str, Any]]) -> None:
    """In the line of its device and backend, the figure formatted from the CSV stands; the other program's says that it is foreign."""
    lines = [" ".join(line.split()) for line in told["terminal"].splitlines()]
    ranked = [row for row in numbers if row["metric"] == headline(row["workload"])]
    assert len(ranked) == 27
    for row in ranked:
        emulated = " (emulated)" if row["device"] == "qemu-pi" else ""
        name = f"{row['device']}{emulated} {row['backend']}" + (" (foreign protocol) " if row["protocol"] else " ")
        (line,) = (line for line in lines if line.startswith(name) and not line.startswith(f"{name}tool="))
        assert f" {fmt.value(row['metric'], float(row['value']))} " in f"{line} "
