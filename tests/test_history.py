"""The noise floor of an earlier run with A/A pairs is used by later runs of the same device in the same environment, and said so."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from factory_runs import cell, run_of

from controller import history
from controller.collect import Samples
from controller.store import Store
from reports.certainty import checks, footings
from reports.comparison import TWIN
from reports.records import CellRecord, NoiseFloor, RunRecord
from reports.table import rows
from reports.verdict import verdict

THEN, NOW, LATER = "2026-01-01T12:00:00.000+00:00", "2026-01-02T12:00:00.000+00:00", "2026-01-03T12:00:00.000+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as opened:
        yield opened


def on(version: str, record: CellRecord) -> CellRecord:
    """The cell as a runtime of that version measured it."""
    details = {"runtime": "tflite-runtime", "version": version}
    return dataclasses.replace(record, launches=tuple(dataclasses.replace(one, details=details) for one in record.launches))


def pair(factor: float, version: str = "2.14", device: str = "laptop") -> tuple[CellRecord, CellRecord]:
    """A cell and the same under its second label, so many times as slow."""
    first = on(version, cell(device, "fp32", "tflite", 1))
    launches = [
        dataclasses.replace(one, id=f"{one.id}-aa", values={**one.values, "latency_s": factor * one.values["latency_s"]})
        for one in first.launches
    ]
    named = first.cell._replace(variant=first.cell.variant + TWIN)
    return first, dataclasses.replace(first, id=first.id[::-1], cell=named, launches=tuple(launches))


def stored(store: Store, name: str, started_at: str, cells: tuple[CellRecord, ...], probe: Mapping[str, Any] | None = None) -> None:
    """Write a run of these cells, asked for with --aa if any has a second label, on devices whose probe differs so."""
    twice = any(record.cell.variant.endswith(TWIN) for record in cells)
    document = {"fleetmark": "0", "profile": "quick", "suite": "s", "launches": 3, "request": {"aa": twice}, "provenance": {}}
    store.create_run(name, started_at, document)
    store.add_cells(name, [(record.id, record.cell, None) for record in cells], [])
    for device in run_of(cells).devices.values():
        assert device.probe is not None
        store.set_device(name, dataclasses.replace(device, probe=device.probe._replace(**(probe or {}))))
    for record in cells:
        for one in record.launches:
            launch = dataclasses.replace(one, id=f"{name}-{one.id}", values={})
            store.begin_launch(name, record.id, one.round, launch.id, started_at)
            store.finish_launch(launch, [Samples(metric, "", values) for metric, values in one.values.items()])


def floors(store: Store, name: str = "now") -> dict[str, NoiseFloor]:
    return dict(history.load(store, name).floors)


def test_a_later_run_has_the_latest_earlier_floor(store: Store) -> None:
    """Of two earlier runs with A/A pairs the later one counts, with its id and time; a run that comes afterwards does not."""
    stored(store, "long-ago", "2025-12-01T12:00:00.000+00:00", pair(1.2))
    stored(store, "aa", THEN, pair(1.04))
    stored(store, "now", NOW, (on("2.14", cell("laptop", "int8", "tflite", 2)),))
    stored(store, "afterwards", LATER, pair(1.5))
    assert floors(store) == {"laptop": NoiseFloor(pytest.approx(0.04), 1, "aa", THEN)}


@pytest.mark.parametrize(
    ("probe", "version"),
    [({"kernel": "6.6.0"}, "2.14"), ({"governors": ["performance"]}, "2.14"), ({"power_mode": "5W"}, "2.14"), ({}, "2.15")],
)
def test_another_environment_has_another_floor(store: Store, probe: dict[str, Any], version: str) -> None:
    """With another kernel, governor, power mode or version of the runtime an earlier floor says nothing; one before it that fits does."""
    now = (on(version, cell("laptop", "int8", "tflite", 2)),)
    stored(store, "aa", THEN, pair(1.04))
    stored(store, "now", NOW, now, probe)
    assert floors(store) == {}
    stored(store, "fitting", "2025-12-01T12:00:00.000+00:00", pair(1.2, version), probe)
    assert floors(store)["laptop"].run == "fitting"


def test_a_runtime_that_was_not_measured_twice_has_no_floor(store: Store) -> None:
    """A floor of tflite alone is not that of a run that has onnxruntime too."""
    stored(store, "aa", THEN, pair(1.04))
    stored(store, "now", NOW, (on("2.14", cell("laptop", "int8", "tflite", 2)), on("1.19", cell("laptop", "int8", "onnxruntime", 3))))
    assert floors(store) == {}


def test_a_run_with_pairs_of_its_own_has_its_own_floor(store: Store) -> None:
    """An earlier floor is neither looked up for a device that was measured twice nor for one that nothing was measured on."""
    stored(store, "aa", THEN, (*pair(1.04), *pair(1.07, device="pi-a")))
    failed = dataclasses.replace(cell("pi-a", "int8", "tflite", 2), launches=())
    stored(store, "now", NOW, (*pair(1.2), failed))
    assert floors(store) == {}


def test_a_run_keeps_the_rate_of_its_suite(store: Store) -> None:
    """The target rate is that of the run's document, 1 in runs that were stored before there was one."""
    stored(store, "old", THEN, (cell("laptop", "int8", "tflite", 2),))
    store.create_run("new", NOW, {"fleetmark": "0", "profile": "quick", "suite": "s", "launches": 3, "rate_per_s": 30.0, "provenance": {}})
    assert [history.load(store, name).rate_per_s for name in ("old", "new")] == [1.0, 30.0]


def said(run: RunRecord) -> list[tuple[bool, str]]:
    table = rows(run)
    return [(one.good, one.sentence) for one in checks(run, table, footings(run, table)) if "noise floor" in one.sentence]


def test_the_report_says_where_the_floor_comes_from() -> None:
    """The earlier run and its day are named; the verdict's ties are below twice that floor; a device without one is named too."""
    fast, slow = cell("laptop", "int8", "tflite", 1), cell("laptop", "fp32", "tflite", 1, median_s=0.59e-4)
    run = run_of((fast, slow, cell("pi-a", "int8", "tflite", 3, median_s=5e-4)))
    known = dataclasses.replace(run, floors={"laptop": NoiseFloor(0.05, 2, "20260101-aa", THEN)})
    assert said(known) == [
        (False, "The noise floor of laptop is 5.0 %, from 2 A/A pairs of run 20260101-aa, 2026-01-01: effects below 10 % are ties."),
        (False, "The noise floor of pi-a was not measured (fleetmark run --aa does): effects below 3.0 % are ties, by convention."),
    ]
    relations = {
        name: [one.relation for one in verdict(each, rows(each)).findings[0].standings][:2]
        for name, each in (("none", run), ("5 %", known))
    }
    assert relations == {"none": ["best", "slower"], "5 %": ["best", "tied"]}
    assert math.isclose(verdict(known, rows(known)).findings[0].standings[1].floor, 0.1)
