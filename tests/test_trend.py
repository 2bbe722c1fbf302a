"""A trend has the cells of the last run, its values are the tables', and tagged runs come before untagged ones."""

from contextlib import closing
from pathlib import Path

import pytest
from factory_runs import CRASH, broken
from history_runs import cells, keep

from controller import history
from controller.store import Store
from reports.charts.trend import trend_charts
from reports.table import heads, rows
from reports.trend import MOST_CHARTED, trend


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs: the second is tagged, the third is of another suite, in the fourth fp16 crashes; the last lacks fp32."""
    folder = tmp_path_factory.mktemp("results")
    for day in range(1, 9):
        found = cells(100 * day)
        if day == 4:
            found = (found[0], broken("laptop", "fp16", "tflite", "failed", CRASH, launched=True), found[2])
        keep(folder, day, found[day // 8 :], suite="other.yaml" if day == 3 else "suite.yaml", tag="v1" if day == 2 else None)
    return folder


def test_tagged_runs_come_first_and_other_suites_never(results: Path) -> None:
    """Of four runs: the tagged one, the two latest of the suite, and the run itself, in the order of time."""
    with closing(Store.open(results)) as store:
        found = history.trend(store, history.load(store, "20260108"), most=4)
        assert [stop.run[:8] for stop in found.stops] == ["20260102", "20260106", "20260107", "20260108"]
        whole = history.trend(store, history.load(store, "20260105"), most=20)
        assert [stop.run[6:8] for stop in whole.stops] == ["01", "02", "04", "05"]


def test_the_values_are_those_of_the_tables(results: Path) -> None:
    """Each cell of the last run has its headline at each run; where a run has no number the status stands; a cell that is gone is out."""
    with closing(Store.open(results)) as store:
        found = history.trend(store, history.load(store, "20260108"), most=20)
        tables = [rows(store.load_run(stop.run)) for stop in found.stops]
    assert [course.row.variant for course in found.courses] == ["fp16", "int8"]
    for course in found.courses:
        expected = [next(row for row in heads(table) if row.variant == course.row.variant) for table in tables]
        assert [row and row.value for row in course.rows] == [row.value for row in expected]
    assert found.courses[0].shown()[2] == "failed"


def test_the_chart_has_valid_values_relative_to_the_first(results: Path) -> None:
    """Its datums have the id that selects a cell on the page; the first of each cell is 1; the crash leaves a gap."""
    with closing(Store.open(results)) as store:
        last = history.load(store, "20260108")
        found = history.trend(store, last, most=20)
    (chart,) = trend_charts(found, rows(last)).values()
    points = chart.spec["datasets"]["points"]
    assert {point["id"] for point in points} == {course.row.cell for course in found.courses}
    for course in found.courses:
        line = [point for point in points if point["id"] == course.row.cell]
        assert line[0]["value"] == 1
        assert len(line) == sum(row is not None and row.value is not None for row in course.rows)
    assert {"name": "kept", "value": None} in chart.spec["params"]
    assert "<svg" in chart.svg


def test_one_run_alone_has_no_trend(results: Path) -> None:
    """No cell has two values: no course, and no chart."""
    with closing(Store.open(results)) as store:
        first = history.load(store, "20260101")
        found = trend([(first, rows(first))])
    assert found.courses == ()
    assert trend_charts(found, rows(first)) == {}
    assert MOST_CHARTED >= 1
