"""Every chart can be narrowed to chosen cells by the page, draws what the table says, and carries device strings as data only."""

import re
from typing import Any

import pytest
from factory_runs import mixed_run

from reports.charts import Chart, charts
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
