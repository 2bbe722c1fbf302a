"""A launch over time: which launch, what of it, where it was throttled, and what is missing."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from factory_runs import cell, charts, run_of
from test_power_launch import measured
from test_report import words

from reports.heat import MOST_POINTS, Course, courses, thinned
from reports.page import render
from reports.records import CellRecord, LaunchRecord, RunRecord
from reports.table import rows


def traced(launch: LaunchRecord, *, peak_c: float = 60.0, slowed: bool = False, **changes: Any) -> LaunchRecord:
    """The launch with a window of 100 s in which it warms up to `peak_c`, and from 60 s to 80 s runs at two thirds of its clock."""
    t_s = np.arange(-2.0, 103.0)
    held_back = slowed & (t_s >= 60) & (t_s < 80)
    traces = {
        "window_s": np.array([100.0]),
        "latency_s": np.full(5000, 0.02),
        "trace_temp_c": np.interp(t_s, [0, 100], [45, peak_c]),
        "trace_temp_c_t_s": t_s,
        "trace_clock_hz": np.where(held_back, 1.2e9, 1.8e9),
        "trace_clock_hz_t_s": t_s,
    }
    return dataclasses.replace(launch, values={**launch.values, **traces}, **changes)


def with_launches(record: CellRecord, *launches: LaunchRecord) -> CellRecord:
    """The cell with these launches, and the status of the first."""
    return dataclasses.replace(record, launches=launches, status=launches[0].status)


@pytest.fixture(scope="module")
def run() -> RunRecord:
    """A cell that was throttled, one with power that stayed cool, one without traces."""
    hot, cool, plain = cell("pi-a", "int8", "tflite", 1), cell("pi-b2", "int8", "tflite", 2), cell("laptop", "int8", "tflite", 3)
    slow = traced(hot.launches[1], slowed=True, status="throttled", notes=("the clock was below 97 % of 1800 MHz",))
    powered = [
        dataclasses.replace(one, values={**power.values, **one.values}, details=power.details)
        for number in (0, 1)
        for one, power in [(traced(cool.launches[number], peak_c=50.0 + number), measured(number))]
    ]
    return run_of((plain, with_launches(cool, *powered), with_launches(hot, slow, traced(hot.launches[0], peak_c=79.0))))


@pytest.fixture(scope="module")
def found(run: RunRecord) -> list[Course]:
    """The courses of the run."""
    return courses(run, rows(run))


def test_the_throttled_launch_and_else_the_hottest_stands_for_a_cell(found: list[Course]) -> None:
    """The throttled cell is first by its throttled launch though another was hotter; the other by its hottest."""
    assert [(course.row.device, course.launch.round, course.is_throttled) for course in found] == [("pi-a", 1, True), ("pi-b2", 1, False)]


def test_throttled_times_come_from_the_clock(found: list[Course]) -> None:
    """From the first slow reading to the first that is not, with the clocks that show it."""
    (span,) = found[0].throttled
    assert (span.begin_s, span.end_s) == (60.0, 80.0)
    assert "1,200 MHz of 1,800 MHz" in span.evidence


def test_a_temperature_at_its_limit_is_throttled_too() -> None:
    """The factory's limit is 80 °C, which 45 to 85 °C over 100 s reaches after 87.5 s."""
    record = cell("pi-a", "int8", "tflite", 1)
    made = run_of((with_launches(record, traced(record.launches[0], peak_c=85.0)),))
    (course,) = courses(made, rows(made))
    (span,) = course.throttled
    assert span.begin_s == 88.0
    assert "its limit is 80.0 °C" in span.evidence


def course_of(launch: LaunchRecord) -> Course:
    """The course of a cell with this launch alone."""
    run = run_of((with_launches(cell("pi-a", "int8", "tflite", 1), launch),))
    (course,) = courses(run, rows(run))
    return course


def test_one_slow_reading_of_many_is_not_throttling() -> None:
    """A valid launch whose clock was low for at most 1 % of the window is not called throttled, one with over 1 % is."""
    launch = traced(cell("pi-a", "int8", "tflite", 1).launches[0])
    clocks_hz = launch.values["trace_clock_hz"].copy()
    for lows, throttled in ((1, False), (2, True)):
        clocks_hz[50 : 50 + lows] = 1.2e9
        course = course_of(dataclasses.replace(launch, values={**launch.values, "trace_clock_hz": clocks_hz.copy()}))
        assert course.is_throttled is throttled


def test_the_limit_is_that_of_the_hottest_sensor() -> None:
    """At 85 °C a processor with a limit of 100 °C is not throttled, though another sensor, at 40 °C, has a limit of 80 °C."""
    launch = traced(cell("pi-a", "int8", "tflite", 1).launches[0], peak_c=85.0)
    assert launch.before
    assert launch.after
    limits_c = {"cpu": 100.0, "board": 80.0}
    around = {
        "before": launch.before._replace(limits_c=limits_c),
        "after": launch.after._replace(limits_c=limits_c, peaks_c={"cpu": 85.0, "board": 40.0}),
    }
    course = course_of(dataclasses.replace(launch, **around))
    assert (course.limit_c, course.throttled) == (100.0, ())


def test_power_is_on_the_same_axis_with_its_idle_band(found: list[Course]) -> None:
    """5 W within the window that began at 105 s of its clock, 2 W idle before and after; without a sensor it is missing."""
    power = found[1].series["power"]
    assert power.values[(power.t_s > 1) & (power.t_s < 9)].mean() == pytest.approx(5, rel=0.01)
    assert found[1].idle_w == (pytest.approx(2, rel=0.01), pytest.approx(2, rel=0.01))
    assert found[1].boundary == "board"
    assert found[0].missing == ("power is not known over time",)


def test_thinning_keeps_lows_and_highs() -> None:
    """Of 10,000 readings at most 100 are left, in order, with the one low and the one high among them."""
    values = np.ones(10_000)
    values[1234], values[8765] = 0.0, 9.0
    t_s, kept = thinned(np.arange(10_000.0), values, 100)
    assert len(kept) <= 100
    assert (np.diff(t_s) > 0).all()
    assert {0.0, 9.0} <= set(kept.tolist())


def test_the_chart_has_one_time_axis_and_says_what_is_shaded(run: RunRecord, found: list[Course]) -> None:
    """Every panel has the same limits of time and moves by one selection; the throttling is told in words; points stay few."""
    assert set(charts(rows(run), (), found)) & {"heat-1", "heat-2"} == {"heat-1"}  # where one was throttled, those that were not are tables
    throttled, cool = (charts(rows(run), (), [one])[one.name] for one in found)
    assert "throttled where shaded, first after 60 s" in throttled.svg
    assert "idle, " in cool.svg
    (zoom,) = [param for param in cool.spec["params"] if param["name"] == "zoom"]
    assert zoom["views"] == ["temperature", "clock", "power", "latency"]
    assert len(set(re.findall(r"'scale': {'domain': \[[^\]]*\]", str(cool.spec)))) == 1
    points = sum(len(datum.get("t", ())) for data in cool.spec["datasets"].values() for datum in data)
    assert 0 < points <= MOST_POINTS


def test_the_page_has_the_section_where_there_are_traces(run: RunRecord) -> None:
    """With the note of the launch and a table of the numbers; a run without traces has no such section."""
    page = render(run)
    section = words(page[page.index('<section id="heat"') :].partition("</section>")[0])
    assert "the clock was below 97 % of 1800 MHz" in section
    assert "45.0 to 60.0 °C" in section
    assert "power is not known over time" in section
    plain = run_of((cell("laptop", "int8", "tflite", 3),))
    assert courses(plain, rows(plain)) == []
