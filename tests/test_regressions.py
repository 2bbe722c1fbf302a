"""Rule 12 over whole runs: a planted regression is found, noise is not, and what else got worse is told beside it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from factory_runs import CRASH, FORMATS, SIZES, UNSUPPORTED, broken, cell, run_of

from agent.schema import Workload
from reports.baseline import Baseline, against
from reports.records import CellRecord, RunRecord

DEVICES = {"laptop": 1e-4, "pi-a": 9e-4}
PLANTED = "int8 on laptop with tflite"


def slowed(record: CellRecord, factor: float) -> CellRecord:
    return valued(record, latency_s=lambda samples: factor * samples)


def valued(record: CellRecord, **changed: Callable[[Any], Any]) -> CellRecord:
    """The cell with raw values replaced by what these functions make of them."""
    launches = [
        dataclasses.replace(one, values={**one.values, **{name: change(one.values[name]) for name, change in changed.items()}})
        for one in record.launches
    ]
    return dataclasses.replace(record, launches=tuple(launches))


def fleet(seed: int, factor: float = 1.0, jitter: float = 0.0) -> RunRecord:
    """A run of 24 cells with 5 launches each, which differ by `jitter` more; that of PLANTED is so many times as slow."""
    cells = [
        shaken(cell(device, variant, backend, seed + 100 * place + 10 * at + number, median_s=pace, launches=5, samples=60), jitter)
        for place, (device, pace) in enumerate(DEVICES.items())
        for at, backend in enumerate(FORMATS)
        for number, variant in enumerate(SIZES)
    ]
    cells[7] = slowed(cells[7], factor)
    return dataclasses.replace(run_of(tuple(cells)), id=f"run-{seed}")


def shaken(record: CellRecord, jitter: float) -> CellRecord:
    """The cell with each launch so much faster or slower, by the first of its samples."""
    return valued(record, latency_s=lambda samples: samples * np.exp(jitter * np.random.default_rng(int(samples[0] * 1e12)).normal()))


def verdicts(found: Baseline) -> dict[str, str]:
    return {line.cell: line.change.verdict for line in found.lines}


@pytest.fixture(scope="module")
def base() -> RunRecord:
    return fleet(0)


def test_one_slower_cell_of_many_is_suspected_and_confirmed(base: RunRecord) -> None:
    """10 % slower in one cell of 24: suspected, a regression with a rerun that is slower too, not confirmed by one that is not."""
    new = fleet(1000, 1.1)
    assert verdicts(against(base, new))[PLANTED] == "suspected"
    assert verdicts(against(base, new, fleet(2000, 1.1)))[PLANTED] == "regression"
    assert verdicts(against(base, new, fleet(2000)))[PLANTED] == "not confirmed"
    assert against(base, new).lines[0].cell == PLANTED


def test_without_a_regression_few_runs_suspect_one() -> None:
    """Of 20 runs of the same 24 cells, launches 5 % apart, at most 3 suspect any, where some interval of every second run excludes 1.

    The adjustment keeps the chance of one at 5 % a run; 4 or more of 20 have a chance of 1.6 % then.
    """
    base = fleet(0, jitter=0.05)
    found = [against(base, fleet(seed, jitter=0.05)) for seed in range(3000, 23000, 1000)]
    slower = [sum(line.change.judgement.verdict == "slower" for line in one.lines) for one in found]
    assert sum(slower) >= 5
    assert sum(1 for one in found if one.counts.get("suspected")) <= 3


def one_cell(change: CellRecord) -> Baseline:
    return against(run_of((cell("laptop", "fp32", "tflite", 1),)), dataclasses.replace(run_of((change,)), id="new"))


def test_a_cell_that_fails_now_is_the_worst_of_all() -> None:
    """It stands before a regression and says why; one that failed before as well is folded, one that works again is told."""
    good = [cell("laptop", name, "tflite", at) for at, name in enumerate(("fp32", "fp16", "int8"))]
    lost = broken("laptop", "int8", "tflite", "failed", CRASH, launched=True)
    missing = broken("laptop", "fp32", "onnxruntime", "unsupported", UNSUPPORTED, launched=False)
    found = against(run_of((*good, missing)), dataclasses.replace(run_of((slowed(good[0], 1.5), good[1], lost, missing)), id="new"))
    assert [line.change.verdict for line in found.lines] == ["now failed", "suspected", "still failed", "unchanged"]
    assert "SIGSEGV" in found.lines[0].change.reason
    assert found.lines[0].now == "crash"
    assert [line.change.verdict for line in found.told] == ["now failed", "suspected"]
    again = against(found.new, found.base)
    assert verdicts(again)["int8 on laptop with tflite"] == "now valid"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("cancelled", "failed", "now failed"),
        ("unsupported", "failed", "now failed"),
        ("skipped", "unreachable", "now failed"),
        ("unreachable", "failed", "still failed"),
        ("failed", "unsupported", "still failed"),
        ("cancelled", "skipped", "still failed"),
    ],
)
def test_of_cells_without_numbers_one_that_went_wrong_only_now_is_told(before: str, after: str, verdict: str) -> None:
    """A cell that was never measured in the base and fails or is not reached now is news, not folded among those that failed before."""
    was, now = (run_of((broken("laptop", "int8", "tflite", status, CRASH, launched=False),)) for status in (before, after))
    assert list(verdicts(against(was, dataclasses.replace(now, id="new"))).values()) == [verdict]


def test_more_throughput_is_an_improvement_and_less_is_suspected() -> None:
    """Of a metric that is better when higher; the change that is told is that of the metric, not of its inverse."""
    before = offline(cell("laptop", "int8", "tflite", 1))
    for factor, verdict, sign in ((1.5, "suspected", "-"), (0.5, "improvement", "+")):
        slower = valued(before, window_s=lambda values, factor=factor: factor * values)
        found = against(run_of((before,)), dataclasses.replace(run_of((slower,)), id="new"))
        (line,) = found.lines
        assert (line.change.row.metric, line.change.verdict, line.by[0][0]) == ("throughput_per_s", verdict, sign)


def offline(record: CellRecord) -> CellRecord:
    return dataclasses.replace(record, cell=record.cell._replace(workload=Workload("offline", {"batch": 8})))


def test_cells_of_one_run_only_are_told() -> None:
    """One that is not in the new run is gone, one that is not in the base is new."""
    kept, left, added = (cell("laptop", name, "tflite", at) for at, name in enumerate(("fp32", "fp16", "int8")))
    found = against(run_of((kept, left)), dataclasses.replace(run_of((kept, added)), id="new"))
    assert verdicts(found) == {
        "fp16 on laptop with tflite": "gone",
        "int8 on laptop with tflite": "new",
        "fp32 on laptop with tflite": "unchanged",
    }


def test_a_lost_accuracy_is_told_by_the_samples_that_changed() -> None:
    """12 of 1,000 answers lost, none gained: the paired interval excludes 0 where the two intervals overlap; 3 lost are not told."""
    before = cell("laptop", "fp32", "tflite", 1)
    for lost, told in ((12, ["accuracy"]), (3, [])):
        worse = valued(before, correct=lambda right, lost=lost: np.where(np.arange(len(right)) >= len(right) - lost, 0.0, right))
        (line,) = one_cell(worse).lines
        assert [shift.new.metric for shift in line.change.shifts] == told
        assert line.change.verdict == ("worse" if told else "unchanged")
    (gained,) = against(run_of((worse,)), run_of((before,))).lines
    assert gained.change.verdict == "unchanged"


def test_accuracies_over_other_samples_need_intervals_that_are_apart() -> None:
    """91 % of 1,000 and 89.5 % of 2,000 samples are not told apart; 80 % of 2,000 are."""
    before = cell("laptop", "fp32", "tflite", 1)
    for share, verdict in ((0.895, "unchanged"), (0.8, "worse")):
        other = valued(before, correct=lambda _, share=share: (np.arange(2000) < 2000 * share).astype(float))
        assert one_cell(other).lines[0].change.verdict == verdict


def test_memory_is_judged_and_sizes_are_told_to_the_byte() -> None:
    """30 % more memory and one byte more are worse; a faster cell that lost accuracy is worse and not an improvement."""
    before = cell("laptop", "fp32", "tflite", 1)
    assert before.size_bytes is not None
    for changed, metric in (
        (valued(before, peak_memory_bytes=lambda one: 1.3 * one), "peak_memory_bytes"),
        (dataclasses.replace(before, size_bytes=before.size_bytes + 1), "size_bytes"),
        (valued(slowed(before, 0.5), correct=lambda right: 0 * right), "accuracy"),
    ):
        (line,) = one_cell(changed).lines
        assert (line.change.verdict, [shift.new.metric for shift in line.change.shifts]) == ("worse", [metric])
    (smaller,) = one_cell(dataclasses.replace(before, size_bytes=before.size_bytes - 1)).lines
    assert (smaller.change.verdict, [shift.worse for shift in smaller.change.shifts]) == ("unchanged", [False])
