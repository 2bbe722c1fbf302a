"""Every chart can be narrowed to chosen cells by the page, draws what the table says, and carries device strings as data only."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from factory_runs import cell, charts, mixed_run, run_of
from numpy.typing import NDArray

from reports.charts import Chart
from reports.ecdf import MOST_POINTS, ecdf
from reports.sections import measured
from reports.table import rows


@pytest.fixture(scope="module")
def drawn() -> dict[str, Chart]:
    """The charts of the mixed run."""
    return charts(rows(mixed_run()))


def datums(chart: Chart) -> list[dict[str, Any]]:
    """All that a chart draws from."""
    return [datum for data in chart.spec["datasets"].values() for datum in data]


def test_every_chart_can_be_narrowed_to_cells(drawn: dict[str, Chart]) -> None:
    """Each specification has the parameter `kept`, null at first, and each of its datums the id of a cell of the run."""
    cells = {record.id for record in mixed_run().cells}
    for chart in drawn.values():
        assert {"name": "kept", "value": None} in chart.spec["params"]
        assert {datum["id"] for datum in datums(chart)} <= cells


def test_the_percentile_of_the_latency_chart_can_be_chosen(drawn: dict[str, Chart]) -> None:
    """It has the parameter `percentile`, its datums name theirs as the table does, and its axis may be switched to or from a logarithm."""
    chart = drawn["latency"]
    assert {"name": "percentile", "value": None} in chart.spec["params"]
    assert {datum["metric"] for datum in datums(chart)} >= {"latency_p50_s", "latency_p90_s", "latency_p95_s", "latency_p99_s"}
    assert "'type': 'log'" in str(chart.spec)


def test_drawings_have_no_needless_digits(drawn: dict[str, Chart]) -> None:
    """No coordinate of an SVG is finer than a hundredth of a pixel, and it refers to no file."""
    for chart in drawn.values():
        assert not re.findall(r"<[^>]*\d\.\d{3}[^>]*>", chart.svg)
        assert set(re.findall(r'(?:href|src)="([^"]*)"', chart.svg)) == set()


def test_distributions_keep_their_tails_in_few_points() -> None:
    """Of 30,000 latencies with one outlier at most 200 points are left, the smallest and the outlier among them, and shares never fall."""
    samples = np.sort(np.append(np.random.default_rng(1).lognormal(0, 0.1, 29_999), 50.0))
    points = ecdf(samples)
    assert len(points) <= MOST_POINTS
    assert (points[0][0], points[-1]) == (samples[0], (50.0, 1.0))
    assert all(before[1] < after[1] for before, after in pairwise(points))
    assert sum(share > 0.99 for _, share in points) >= 20


def test_few_latencies_are_all_points() -> None:
    """Three samples give three steps of a third each; none give none."""
    assert ecdf(np.array([1.0, 2.0, 4.0])) == [(1.0, pytest.approx(1 / 3)), (2.0, pytest.approx(2 / 3)), (4.0, 1.0)]
    assert ecdf(np.empty(0)) == []


def test_distributions_are_under_the_percentiles() -> None:
    """Twelve are drawn, the best of each device first, and it says so; the other cells have theirs for when they are chosen."""
    run = mixed_run()
    chart = charts(rows(run), records=run.cells)["latency"]
    lines = chart.spec["datasets"]["ecdf"]
    assert len(lines) == 26
    assert {record.cell.device for record in run.cells if record.id in {line["id"] for line in lines if line["first"]}} == {
        "laptop",
        "pi-a",
        "qemu-pi",
    }
    assert sum(line["first"] for line in lines) == 12
    assert "the best 12 of 26 cells, of each device first" in chart.svg
    assert all(len(line["latency"]) == len(line["share"]) <= MOST_POINTS for line in lines)


def test_every_task_has_its_own_metric_in_the_accuracy_section() -> None:
    """A detector's mAP@0.5 is drawn as accuracy is, in a block of its own; a cell without labels has its drift."""
    labelled, found, plain = (cell("laptop", name, "tflite", at) for at, name in enumerate(("fp32", "fp16", "int8")))
    map50 = {"map50": 0.75 + np.linspace(-0.01, 0.01, 201)}
    found = dataclasses.replace(
        found, launches=tuple(dataclasses.replace(one, values=without(one.values) | map50) for one in found.launches)
    )
    drift = {"drift_cosine": np.array([0.99])}
    plain = dataclasses.replace(
        plain, launches=tuple(dataclasses.replace(one, values=without(one.values) | drift) for one in plain.launches)
    )
    table = rows(run_of((labelled, found, plain)))
    drawn = charts(table)
    assert "74.00 %" in drawn["accuracy-map50"].svg
    assert {datum["id"] for datum in drawn["accuracy-map50"].spec["datasets"]["map50"]} == {found.id}
    (part,) = [part for part in measured(table, drawn, 1.0) if part.anchor == "accuracy"]
    assert [(block.title, [one.id for one in block.cells], block.chart is None) for block in part.blocks] == [
        ("Accuracy", [labelled.id], False),
        ("mAP@0.5", [found.id], False),
        ("Drift", [plain.id], True),
    ]


def without(values: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """What a launch measured but for the answers to labelled samples, and the drift."""
    return {name: value for name, value in values.items() if name != "correct" and not name.startswith("drift")}


def test_declaring_charts_compiles_no_grammar_of_addresses() -> None:
    """Importing altair imports jsonschema but not what that would check IRIs with, which is not marked as absent either."""
    tell = 'print([name in sys.modules for name in ("altair", "jsonschema", "rfc3987_syntax")])'
    program = f"import sys; from reports.charts.base import load_altair; load_altair(); {tell}"
    told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert told.strip() == "[True, True, False]"
