"""Runs of odd shapes in a real Chromium: nothing valid, one sample, one device, one variant, forty devices, all that can be measured."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, come_alive, opened, saved
from factory_runs import FORMATS, NO_ROUTE, SIZES, broken, cell, fleet_run, run_of
from playwright.sync_api import Browser

from benchmarks import report
from reports import format as fmt
from reports.labels import sentence_name
from reports.page import render
from reports.records import Gate, RunRecord
from reports.table import rows
from reports.verdict import verdict


def gated(run: RunRecord) -> RunRecord:
    """The run with a gate that its fastest cell breaks."""
    limit = Gate("all", "size_bytes", 100_000.0, None, "size_kb <= 100", tuple(run.devices))
    return dataclasses.replace(run, gates=(limit,))


SHAPES = {
    "nothing-valid": run_of(tuple(broken("pi-b", variant, "tflite", "unreachable", NO_ROUTE, launched=False) for variant in SIZES)),
    "one-sample": run_of((cell("laptop", "fp32", "tflite", 1, launches=1, samples=1),)),
    "one-device": run_of(tuple(cell("pi-a", variant, backend, at) for at, variant in enumerate(SIZES) for backend in FORMATS)),
    "one-variant": run_of(tuple(cell(device, "int8", "tflite", at) for at, device in enumerate(("laptop", "pi-a", "qemu-pi")))),
    "forty-devices": fleet_run(40),
    "energy-heat-operations": report.run_of(6),
}
SHAPES["gates"] = gated(SHAPES["energy-heat-operations"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def answer(run: RunRecord) -> list[str]:
    """What the first screen has to say: the best cell that keeps the gates, its figure and interval, or that there is none."""
    decided = verdict(run, rows(run))
    if not decided.findings:
        return ["Nothing to rank"]
    best = decided.gated.answers[0].best if decided.gated.answers else decided.findings[0].standings[0].row
    assert best
    return [sentence_name(best), fmt.value(best.metric, best.value), fmt.interval(best.metric, best.value, best.low, best.high)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_reads_well(browser: Browser, tmp_path: Path, shape: str) -> None:
    """The answer is whole in the first 1280 x 800, nothing is wider than 1280 or 320, no barrier for axe-core, no complaint.

    Forty devices have no colours that the others lack: only contrast, which takes axe-core longest, is not asked again.
    """
    with opened(browser, saved(tmp_path, shape, render(SHAPES[shape]))) as view:
        come_alive(view)
        shown = view.first_screen()
        assert [part for part in answer(SHAPES[shape]) if part not in shown] == []
        assert view.width() <= 1280
        assert view.barriers(*(["color-contrast"] if shape == "forty-devices" else [])) == []
        with view.resized(320):
            assert view.width() <= 320
        assert view.complaints == []
        assert view.violations() == []
