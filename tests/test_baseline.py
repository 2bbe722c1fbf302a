"""The report's baseline section: what changed, worst first, what did not in a fold, and what is different around each cell."""

import dataclasses
import html
import re
from typing import Any

import pytest
from factory_runs import CRASH, broken, cell, run_of

from reports.baseline import Baseline, against
from reports.page import render
from reports.records import CellRecord, RunRecord
from reports.surroundings import Difference
from reports.table import rows
from reports.trend import trend

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202egnp"


def later(run: RunRecord, probed: dict[str, Any] | None = None, told: dict[str, Any] | None = None, **named: Any) -> RunRecord:
    """The run as a new one, with these facts of its devices, and these details of its launches."""
    devices = {
        name: dataclasses.replace(device, probe=device.probe and device.probe._replace(**(probed or {})))
        for name, device in run.devices.items()
    }
    cells = tuple(dataclasses.replace(one, launches=tuple(_told(launch, told or {}) for launch in one.launches)) for one in run.cells)
    return dataclasses.replace(run, **{"id": "20250202-120000-later", "devices": devices, "cells": cells, **named})


def _told(launch: Any, told: dict[str, Any]) -> Any:
    conditions = {name: value for name, value in told.items() if name in ("governors", "power_mode", "usb_mbps")}
    details = {name: value for name, value in told.items() if name not in conditions}
    states = {when: getattr(launch, when)._replace(**conditions) for when in ("before", "after")}
    return dataclasses.replace(launch, details={**launch.details, **details}, **states)


def slowed(record: CellRecord, factor: float) -> CellRecord:
    launches = [dataclasses.replace(one, values={**one.values, "latency_s": factor * one.values["latency_s"]}) for one in record.launches]
    return dataclasses.replace(record, launches=tuple(launches))


@pytest.fixture(scope="module")
def base() -> RunRecord:
    return run_of(tuple(cell("pi-a", variant, "tflite", at) for at, variant in enumerate(("fp32", "fp16", "int8-dynamic", "int8"))))


@pytest.mark.parametrize(
    ("probed", "told", "expected"),
    [
        ({"kernel": "6.6.31"}, {}, Difference("kernel", "6.1.0", "6.6.31")),
        ({"os": "Synthetic Linux 13"}, {}, Difference("OS", "Synthetic Linux 12", "Synthetic Linux 13")),
        ({"container": "docker"}, {}, Difference("container", "", "docker")),
        ({}, {"governors": ["performance"]}, Difference("governor", "ondemand", "performance")),
        ({}, {"threads": 2}, Difference("setting threads", "4", "2")),
        ({}, {"providers": ["CPU", "GPU"]}, Difference("setting providers", "CPU", "CPU, GPU")),
        ({}, {"usb_speed_mbps": 480}, Difference("USB link", "", "480 Mbit/s")),
    ],
)
def test_what_changed_around_a_cell_is_beside_it(
    base: RunRecord, probed: dict[str, Any], told: dict[str, Any], expected: Difference
) -> None:
    """A fact that is another in the new run is beside each cell of the device; one that is the same is beside none."""
    found = against(base, later(base, probed, told))
    assert {line.surroundings for line in found.lines} == {(expected,)}
    assert {line.surroundings for line in against(base, later(base)).lines} == {()}


def test_a_runtime_an_artifact_and_a_profile_that_changed_are_told(base: RunRecord) -> None:
    """The runtime with its version and the artifact beside the cell, the profile once for the runs."""
    first = base.cells[0]
    other = dataclasses.replace(first, cell=first.cell._replace(artifact="d" * 64))
    before = later(base, told={"runtime": "tflite-runtime", "version": "2.13"}, id="base")
    after = later(
        dataclasses.replace(base, cells=(other, *base.cells[1:])), told={"runtime": "ai-edge-litert", "version": "2.1"}, profile="strict"
    )
    found = against(before, after)
    beside = {line.change.row.variant: {one.what: (one.base, one.new) for one in line.surroundings} for line in found.lines}
    assert beside["fp16"] == {"runtime": ("tflite-runtime 2.13", "ai-edge-litert 2.1")}
    assert beside["fp32"] == {**beside["fp16"], "artifact": ("a" * 12, "d" * 12)}
    assert found.differences == (Difference("profile", "quick", "strict"),)


def test_a_device_that_did_not_answer_has_no_differences(base: RunRecord) -> None:
    """Without a probe nothing is known of it, which is not a change of its kernel."""
    lost = tuple(broken("pi-a", one.cell.variant, "tflite", "unreachable", CRASH, launched=False) for one in base.cells)
    silent = dataclasses.replace(base.devices["pi-a"], probe=None)
    found = against(base, dataclasses.replace(base, cells=lost, devices={"pi-a": silent}))
    assert {line.change.verdict for line in found.lines} == {"now failed"}
    assert {difference.what for line in found.lines for difference in line.surroundings} == {"artifact"}


def changed(base: RunRecord) -> Baseline:
    """One cell 20 % slower on another kernel, the others as they were, with the trend."""
    new = dataclasses.replace(later(base, {"kernel": HOSTILE}), cells=(*base.cells[:3], slowed(base.cells[3], 1.2)))
    tagged = dataclasses.replace(base, tag="baseline")
    return against(tagged, new, trend=trend([(tagged, rows(tagged)), (new, rows(new))]), advice=("Run it again:", "fleetmark run s"))


@pytest.fixture(scope="module")
def section(base: RunRecord) -> str:
    found = changed(base)
    (section,) = re.findall(r'<section id="baseline">.*?</section>', render(found.new, found), re.DOTALL)
    return section


def words(document: str) -> str:
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", document, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_section_tells_what_changed_and_folds_the_rest(section: str) -> None:
    """The slower cell stands outside of the fold with its figures and interval, the three unchanged ones inside; advice is a command."""
    outside = words(re.sub(r"<details.*?</details>", "", section, flags=re.DOTALL))
    assert "1 suspected, 3 unchanged of 4 cells" in outside
    assert re.search(r"suspected int8 on pi-a with tflite p90 latency \S+ µs \S+ µs \+20 %", outside)
    assert "Run it again: fleetmark run s" in outside
    assert "fp16 on pi-a" not in outside
    folds = re.findall(r"<details.*?</details>", section, flags=re.DOTALL)
    assert words(folds[0]).startswith("3 unchanged")
    assert words(folds[0]).count("= unchanged") == 3


def test_what_a_device_says_of_itself_stays_text(section: str) -> None:
    """A kernel's name that is markup with a terminal escape and a mark that turns text around is shown, escaped."""
    assert "<img" not in section
    assert "\x1b" not in section
    assert "\u202e" not in section
    assert "kernel 6.1.0 → <img src=x onerror=alert(1)>" in words(section)


def test_the_trend_is_a_chart_and_a_table(section: str) -> None:
    """A drawing of each cell over both runs, and below it the figures of each run, the base by its tag."""
    assert 'id="chart-trend"' in section
    assert "<svg" in section
    shown = words(section)
    assert "cell baseline 01-01 12:00" in shown
    assert shown.count("fp16") >= 2


def test_a_report_without_a_baseline_has_no_section(base: RunRecord) -> None:
    """Neither the section nor a way to it."""
    assert "#baseline" not in render(base)
