"""The report's energy and memory: a block for each power boundary, refusals with their reasons, what is not observable in words."""

import dataclasses
import re
from collections.abc import Mapping
from typing import cast

import numpy as np
import pytest
from factory_runs import NO_ROUTE, broken, cell, charts, run_of
from test_power_launch import measured as measured_launch
from test_report import words

from reports import charts as charts_module
from reports import page as page_module
from reports.live import live
from reports.page import render
from reports.records import CellRecord, LaunchRecord, RunRecord
from reports.sections import measured
from reports.table import rows

SECTIONS = ("matrix", "pareto", "energy", "heat", "failures", "sure")


def powered(record: CellRecord, **sensor: object) -> CellRecord:
    """The cell whose launches have 0.5 J gross an inference, as a sensor that is changed so says."""
    made = [measured_launch(one.round, **sensor) for one in record.launches]
    launches = [
        dataclasses.replace(one, values={**one.values, **power.values}, details={**one.details, **power.details})
        for one, power in zip(record.launches, made, strict=True)
    ]
    return dataclasses.replace(record, launches=tuple(launches))


def mixed_power() -> RunRecord:
    """Cells measured on the board and at the wall, one whose sensor hangs, one without a sensor; one told what memory its model took."""
    board, quiet = cell("pi-a", "fp32", "tflite", 1), cell("pi-a", "fp16", "tflite", 3)
    told = [dataclasses.replace(one, values={**one.values, "model_memory_bytes": np.array([3e6])}) for one in board.launches]
    cells = (
        powered(dataclasses.replace(board, launches=tuple(told))),
        powered(cell("laptop", "int8", "tflite", 2), boundary="wall"),
        powered(quiet, rails=[], problem="the sensor hangs"),
        cell("plain", "int8", "tflite", 4),
    )
    return dataclasses.replace(run_of(cells), rate_per_s=5.0)


def test_each_boundary_has_a_block_of_its_own() -> None:
    """No chart and no table holds values of two boundaries, and a cell without a sensor is in none."""
    run = mixed_power()
    table = rows(run)
    drawn = charts(table)
    assert [name for name in drawn if name.startswith("energy")] == ["energy-board", "energy-wall"]
    (energy,) = [part for part in measured(table, drawn, run.rate_per_s) if part.anchor == "energy"]
    devices = {block.title: [next(iter(one.rows.values())).device for one in block.cells] for block in energy.blocks}
    assert devices == {"Boundary: board": ["pi-a", "pi-a"], "Boundary: wall": ["laptop"]}
    assert [block.chart for block in energy.blocks] == [drawn["energy-board"], drawn["energy-wall"]]


def test_the_page_says_energy_power_at_the_rate_and_refusals() -> None:
    """The rate, the power at it (2 W and 5 x 0.3 J), whose readings they are, and why a sensor gave none."""
    page = render(mixed_power())
    section = words(page[page.index('<section id="energy"') : page.index('<section id="footprint"')])
    assert "The target rate is 5/s" in section
    assert re.search(r"3\.(49|50) W", section)
    assert "board by ina226; each launch within" in section
    assert "no energy" in section
    assert "the sensor hangs" in section
    assert '<a href="#energy">Energy and power</a>' in page


def test_what_a_section_leaves_out_is_said_and_what_must_be_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power over time is led to; beyond the most cells and pairings the page says where the rest is; matrix and footings have all cells."""
    monkeypatch.setattr(page_module, "MOST_CELLS", 2)
    monkeypatch.setattr(charts_module, "_MOST_PAIRINGS", 1)
    power = mixed_power()
    failed = [broken("pi-b", variant, "tflite", "unreachable", NO_ROUTE, launched=False) for variant in ("fp32", "fp16", "int8")]
    run = dataclasses.replace(power, cells=(*power.cells, *failed))
    page = render(run)
    sections = {name: page[page.index(f'<section id="{name}"') :].partition("</section>")[0] for name in SECTIONS}
    assert 'href="#chart-heat-1"' in sections["energy"]
    assert 'id="chart-heat-1"' in sections["heat"]
    assert "Of the best 2 cells" in words(sections["energy"])
    assert "Without a chart: the first 1 pairing" in words(sections["pareto"])
    for name, some in (("matrix", run.cells), ("sure", power.cells), ("failures", failed)):
        assert {one.id for one in some} <= set(re.findall(r'data-cell="([^"]*)"', sections[name])), name


def test_a_meter_beside_a_sensor_that_gave_nothing_can_be_limited_in_the_page() -> None:
    """The page's limits are called by the energies' own names, which such a run has in no row."""
    record = powered(cell("pi-a", "int8", "tflite", 1), rails=[], problem="the sensor hangs")
    launches: list[LaunchRecord] = []
    for one in record.launches:
        metered = measured_launch(one.round, boundary="wall")
        values = {name: one.values[name] for name in ("power_window_s", "power_idle_before_s", "power_idle_after_s")}
        readings = {"meter_t_s": metered.values["power_t_s"], "meter_0_uw": metered.values["power_0_uw"]}
        clock = {"meter_clock_offset_s": np.array([0.0]), "meter_clock_error_s": np.array([0.0])}
        changed = {**one.values, **values, **readings, **clock}
        launches.append(dataclasses.replace(one, values=changed, details={**one.details, "meter": metered.details["power"]}))
    run = run_of((dataclasses.replace(record, launches=tuple(launches)),))
    table = rows(run)
    known = {row.metric for row in table if row.value is not None}
    assert "meter_energy_net_j" in known
    assert "energy_net_j" not in {row.metric for row in table}
    told = cast(Mapping[str, object], live(run, table)["metrics"])
    assert {"energy_net_j", "energy_gross_j", *known} <= set(told)


def test_memory_that_nobody_tells_is_not_observable() -> None:
    """The footprint has the one model memory that was told; every other cell, and every accelerator, is not observable, never 0 B."""
    page = render(mixed_power())
    section = words(page[page.index('<section id="footprint"') : page.index('<section id="accuracy"')])
    assert section.count("3.00 to 3.00 MB") == 1
    assert section.count("not observable") == 4 * 5 - 1
    assert " 0 B" not in section


def test_a_run_without_sensors_has_no_energy_section() -> None:
    """Where no device has a power sensor there is nothing to say of energy."""
    assert '<section id="energy"' not in render(run_of((cell("laptop", "fp32", "tflite", 1),)))
