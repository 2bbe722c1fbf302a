"""Two cells are faster, slower, tied or not comparable by rule 11, regressions need rule 12, and identical cells give the noise floor."""

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory_runs import cell, run_of
from scipy import stats
from simulated_fleet import SERVICES, fleet, row_of

from controller import plan, suite
from controller.inventory import Device
from controller.store import Store
from reports.certainty import checks, footings
from reports.comparison import TWIN, UNSENSED, compare_rows, judge, noise_floors, sampling_effects
from reports.figures import REFERENCE
from reports.records import CellRecord, NoiseFloor
from reports.regressions import changes
from reports.table import Row, rows
from reports.verdict import verdict

STEADY = [1.00, 1.01, 0.99, 1.005, 0.995]


def times(factor: float, **changed: Any) -> Row:
    """The steady row, so many times as slow."""
    return row_of([factor * value for value in STEADY], **changed)


def pairs(name: str) -> list[tuple[Row, Row]]:
    heads = [metrics["latency_p90_s"] for metrics in fleet(name)]
    return list(zip(heads[::2], heads[1::2], strict=True))


@pytest.mark.parametrize("name", SERVICES)
def test_identical_cells_are_rarely_different(name: str) -> None:
    """Of 1,000 pairs of identical cells at most 6 % have an interval without 1, by Welch and paired by round, and fewer a verdict."""
    paired = [compare_rows(first, second) for first, second in pairs(name)]
    welch = [compare_rows(first, dataclasses.replace(second, run="another")) for first, second in pairs(name)]
    for found in (paired, welch):
        different = [one for one in found if one is not None and not one.low <= 1 <= one.high]
        assert 20 <= len(different) <= 60
    judged = [judge(first, second).verdict for first, second in pairs(name)]
    assert 5 <= len(judged) - judged.count("tied") <= 60


@pytest.mark.parametrize(
    ("factor", "said"), [(1.2, "slower"), (1 / 1.2, "faster"), (1.04, "slower"), (1.025, "tied"), (1.0, "tied")], ids=str
)
def test_a_difference_is_resolved_above_the_floor(factor: float, said: str) -> None:
    """A constant factor over rounds with hardly any spread: 2.5 % is a tie though its interval excludes 1, 4 % is not."""
    jitter = row_of([factor * value * (1 + 1e-4 * at) for at, value in enumerate(STEADY)])
    found = judge(jitter, row_of(STEADY))
    assert found.verdict == said
    assert found.comparison is not None
    assert found.comparison.ratio == pytest.approx(factor, rel=1e-3)


def test_a_wide_interval_is_a_tie() -> None:
    """30 % apart with launches that spread by more is not resolved."""
    assert judge(row_of([1.0, 2.0, 1.3, 0.9, 1.6]), row_of([1.0, 0.8, 1.5, 0.7, 1.2], run="another")).verdict == "tied"


def test_twice_the_noise_floor_of_either_device_raises_the_floor() -> None:
    """8 % is slower where the noise floor is 2 %, and a tie where one of the two devices has 5 %."""
    floors = {"laptop": NoiseFloor(0.02, 3), "pi-a": NoiseFloor(0.05, 1)}
    second = row_of(STEADY)
    assert (judge(times(1.08), second, floors).verdict, judge(times(1.08), second, floors).floor) == ("slower", 0.04)
    other = judge(times(1.08, device="pi-a"), second, floors)
    assert (other.verdict, other.floor) == ("tied", 0.1)


def test_a_rate_is_slower_when_it_is_lower() -> None:
    """Throughput has the verdict of its cost: half the rate is slower, and the ratio is 2."""
    half, whole = (times(factor, metric="throughput_per_s") for factor in (0.5, 1.0))
    found = judge(half, whole)
    assert found.verdict == "slower"
    assert found.comparison is not None
    assert found.comparison.ratio == pytest.approx(2)


def test_rounds_that_match_are_paired() -> None:
    """Drift over the rounds, shared by both cells, hides 10 % from Welch's t and not from pairs; other rounds, devices, runs have none."""
    drift = [1.0, 1.3, 1.6, 1.9, 2.2]
    first, second = row_of([1.1 * value for value in drift]), row_of([value * (1 + 0.01 * (at % 2)) for at, value in enumerate(drift)])
    assert judge(first, second).verdict == "slower"
    known = stats.ttest_rel(np.log([value for _, value in first.per_launch]), np.log([value for _, value in second.per_launch]))
    found = compare_rows(first, second)
    assert found is not None
    assert found.p == pytest.approx(known.pvalue)
    moved = tuple((at + 1, value) for at, value in second.per_launch)
    changed: list[Mapping[str, Any]] = [{"device": "pi-a"}, {"run": "another"}, {"per_launch": moved}]
    for change in changed:
        assert judge(first, dataclasses.replace(second, **change)).verdict == "tied"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "throttled"}, "throttled"),
        ({"status": "unsteady"}, "unsteady"),
        ({"boundary": "wall"}, "other boundary"),
        ({"usb_mbps": 480.0}, "other USB speed"),
        ({"emulated": "qemu-aarch64"}, "emulated"),
        ({"workload": "offline"}, "another workload"),
        ({"model": "other"}, "another model"),
        ({"metric": "latency_p50_s"}, "another metric"),
        ({"value": None, "reason": "n too small"}, "n too small"),
        ({"per_launch": ((0, 1.0), (1, 1.0))}, "n too small"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_has_its_reason(change: dict[str, Any], reason: str) -> None:
    """In both directions there is no verdict, no ratio and the reason, however far the values are apart."""
    usual = row_of(STEADY, usb_mbps=5000.0, boundary="board")
    odd = dataclasses.replace(times(2.0, usb_mbps=5000.0, boundary="board"), **change)
    for first, second in ((usual, odd), (odd, usual)):
        found = judge(first, second)
        assert (found.verdict, found.comparison, found.reasons) == ("not comparable", None, (reason,))


def test_a_cell_without_a_stick_is_compared_with_one_that_has_one() -> None:
    """Only two USB links can differ; a processor beside a stick is what the tool is for."""
    assert judge(times(2.0), row_of(STEADY, usb_mbps=5000.0)).verdict == "slower"


@pytest.mark.parametrize(("told", "speed"), [(480, 480.0), (True, None), (-1, None), (1e300, None), ("480", None), (None, None)])
def test_the_usb_speed_is_the_backends_and_never_nonsense(told: object, speed: float | None) -> None:
    """A row has the link's speed as the launch's details tell it, and none where that is no plausible number."""
    record = cell("coral", "int8", "tflite", 1)
    launches = [dataclasses.replace(launch, details={"usb_speed_mbps": told}) for launch in record.launches]
    assert {row.usb_mbps for row in rows(run_of((dataclasses.replace(record, launches=tuple(launches)),)))} == {speed}


def test_a_neural_compute_sticks_usb_speed_is_that_of_the_conditions() -> None:
    """A cell on it has the slowest link of its sticks, whatever other accelerators there are; one on the processor has none."""
    record = cell("nuc", "fp16", "openvino", 1)
    state = record.launches[0].before
    assert state is not None
    sticks = state._replace(usb_mbps={"ncs2 2-1.4": 5000.0, "ncs2 1-2": 480.0, "coral-usb 1-3": 12.0})
    launches = tuple(dataclasses.replace(launch, before=sticks) for launch in record.launches)
    for options, speed in (({"device": "MYRIAD"}, 480.0), ({}, None)):
        named = dataclasses.replace(record, cell=record.cell._replace(options=options), launches=launches)
        assert {row.usb_mbps for row in rows(run_of((named,)))} == {speed}


def twin(record: CellRecord, factor: float = 1.0) -> CellRecord:
    """The same cell under its second label, so many times as slow, whatever the round."""
    launches = [dataclasses.replace(one, values={**one.values, "latency_s": factor * one.values["latency_s"]}) for one in record.launches]
    named = record.cell._replace(variant=record.cell.variant + TWIN)
    return dataclasses.replace(record, id=record.id[::-1], cell=named, launches=tuple(launches))


def test_the_noise_floor_is_the_root_mean_square_of_the_pairs() -> None:
    """Pairs 1 % and 7 % apart, without any spread, have 5 % together, for their device alone; a device without pairs has none."""
    one, other = cell("laptop", "fp32", "tflite", 1), cell("laptop", "int8", "tflite", 2)
    run = run_of((one, twin(one, math.exp(0.01)), other, twin(other, math.exp(-0.07)), cell("pi-a", "fp32", "tflite", 3)))
    assert noise_floors(rows(run)) == {"laptop": NoiseFloor(pytest.approx(math.expm1(0.05)), 2)}


def test_a_pair_that_is_equal_by_luck_has_its_standard_error_as_floor() -> None:
    """Two labels whose launches differ by +-10 % and are equal on average do not make a floor of zero."""
    rows_ = [row_of([math.exp(value) for value in each], variant=name) for name, each in
             (("fp32", [0.0, 0.0, 0.0, 0.0]), ("fp32" + TWIN, [0.1, -0.1, 0.1, -0.1]))]  # fmt: skip
    (floor,) = noise_floors(rows_).values()
    assert math.log1p(floor.share) == pytest.approx(0.1 / math.sqrt(3))


def test_a_fleet_stays_within_twice_its_floor() -> None:
    """Of identical simulated cells, 93 to 99 % have a ratio within twice the floor that other pairs of them gave."""
    found = pairs("launches differ")
    known = [(first, dataclasses.replace(second, variant=first.variant + TWIN)) for first, second in found[:500]]
    floor = noise_floors([row for pair in known for row in pair])["laptop"]
    assert floor.pairs == 500
    ratios = [compare_rows(first, second) for first, second in found[500:]]
    within = sum(one is not None and abs(math.log(one.ratio)) <= 2 * math.log1p(floor.share) for one in ratios)
    assert 465 <= within <= 495


def test_the_report_states_the_floor_and_ranks_no_cell_twice() -> None:
    """A run with A/A pairs 5 % apart has a check that says so for the device, its verdict uses it, and no second label is ranked."""
    fast, slow = cell("laptop", "int8", "tflite", 1), cell("laptop", REFERENCE, "tflite", 1, median_s=0.59e-4)
    run = run_of((fast, twin(fast, 1.05), slow, twin(slow, 1.05)))
    table = rows(run)
    said = [check for check in checks(run, table, footings(run, table)) if "noise floor" in check.sentence]
    assert [(check.good, check.sentence) for check in said] == [
        (False, "The noise floor of laptop is 5.0 %, from 2 A/A pairs: effects below 10 % are ties.")
    ]
    (finding,) = verdict(run, table).findings
    assert [(one.row.variant, one.relation) for one in finding.standings] == [("int8", "best"), (REFERENCE, "tied")]
    assert "no difference above 10 % is resolved" in " ".join(finding.sentences)


def test_a_run_with_aa_plans_each_cell_under_two_labels(tmp_path: Path) -> None:
    """Twice the cells, in pairs that differ in the label alone, so the device gets the same launch."""
    path = tmp_path / "suite.yaml"
    path.write_text("version: 1\nmodels: {m: {source: m.onnx}}\nrecipes: [fp32, int8]\nbackends: [onnxruntime]\n")
    planned = plan.plan(suite.load(path), [Device(name="laptop", kind="local")])
    twice = plan.doubled(planned)
    assert [one.recipe + one.label for one in twice] == ["fp32", "fp32" + TWIN, "int8", "int8" + TWIN]
    assert [dataclasses.replace(one, label="") for one in twice[1::2]] == planned == twice[::2]


def test_a_device_with_a_power_sensor_is_measured_without_it_too(tmp_path: Path) -> None:
    """Its cells are planned three times, those of the others twice."""
    path = tmp_path / "suite.yaml"
    path.write_text("version: 1\nmodels: {m: {source: m.onnx}}\nrecipes: [fp32]\nbackends: [onnxruntime]\n")
    planned = plan.plan(suite.load(path), [Device(name="laptop", kind="local"), Device(name="plain", kind="local")])
    labels = [(one.device, one.label) for one in plan.doubled(planned, {"laptop"})]
    assert labels == [("laptop", ""), ("laptop", TWIN), ("laptop", UNSENSED), ("plain", ""), ("plain", TWIN)]


def unsensed(record: CellRecord, factor: float) -> CellRecord:
    """The same cell without the power sensor, so many times as slow, whatever the round."""
    named = record.cell._replace(variant=record.cell.variant + UNSENSED)
    return dataclasses.replace(twin(record, factor), cell=named)


def test_the_report_says_what_sampling_costs() -> None:
    """Of two cells the one that is 10 % slower with the sensor than without is told, a limit; 0.1 % is none; no other label is ranked."""
    one, other = cell("laptop", "int8", "tflite", 1), cell("laptop", REFERENCE, "tflite", 2)
    for factor, good, times in ((1 / 1.1, False, "1.10"), (1 / 1.001, True, "1.00")):
        run = run_of((one, unsensed(one, factor), other, unsensed(other, 1.0)))
        table = rows(run)
        (said,) = [check for check in checks(run, table, footings(run, table)) if "power sensor" in check.sentence]
        assert said.good == good
        assert f"laptop on, int8 with tflite costs {times} times as much" in said.sentence
        assert "the most of 2 cells" in said.sentence
        assert len(sampling_effects(table)["laptop"]) == 2
        assert all(UNSENSED not in standing.row.variant for standing in verdict(run, table).findings[0].standings)


def test_a_real_run_with_aa_measures_both_labels(tmp_path: Path) -> None:
    """On this machine: cells of one artifact, with one launch each in the same round; the power sensor is asked in two of them."""
    sensor = f"power: {{driver: csv_log, path: {tmp_path}/none.csv, boundary: wall}}"
    inventory = f"version: 1\ndevices:\n  laptop: {{kind: local, agent: {{cache_dir: {tmp_path}/agent}}, {sensor}}}\n"
    (tmp_path / "inventory.yaml").write_text(inventory)
    model = Path(__file__).parent.parent / "examples" / "fashion" / "model.tflite"
    command = [str(Path(sys.executable).with_name("fleetmark")), "run", str(model), "--aa", "--backend", "tflite", "--launches", "1"]
    environ = {**os.environ, "FLEETMARK_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False)
    store = Store.open(tmp_path / "results")
    row = store.find_run("latest")
    cells = store.load_run(row.id).cells
    assert [one.cell.variant for one in cells] == ["fp32", "fp32" + TWIN, "fp32" + UNSENSED], done.stderr
    assert ["power" in one.launches[0].details for one in cells] == [True, True, False]
    assert len({one.cell.artifact for one in cells}) == 1
    assert all("latency_s" in launch.values and launch.round == 0 for one in cells for launch in one.launches)
    assert [len(one.launches) for one in cells] == [1, 1, 1]
    assert row.document["request"]["aa"] is True


def named(variant: str, factor: float, run: str) -> Row:
    return times(factor, variant=variant, run=run)


def test_a_regression_needs_a_confirming_rerun() -> None:
    """20 % slower is suspected without a rerun, a regression with one that agrees, not confirmed by one that does not; worst first."""
    base = [named(name, 1.0, "base") for name in ("a", "b", "c", "d", "e")]
    factors = {"a": 0.5, "b": 1.01, "c": 1.2, "d": 1.3, "e": 1.25}
    new = [named(name, factor, "new") for name, factor in factors.items()]
    assert [(one.new.variant, one.verdict) for one in changes(base, new)] == [
        ("d", "suspected"), ("e", "suspected"), ("c", "suspected"), ("b", "unchanged"), ("a", "improvement"),
    ]  # fmt: skip
    rerun = [named("c", 1.21, "rerun"), named("d", 1.0, "rerun")]
    assert [(one.new.variant, one.verdict) for one in changes(base, new, rerun)] == [
        ("c", "regression"), ("e", "suspected"), ("d", "not confirmed"), ("b", "unchanged"), ("a", "improvement"),
    ]  # fmt: skip


def test_many_cells_do_not_make_a_regression() -> None:
    """Over 1,000 comparisons of identical noisy cells some intervals exclude 1 by 3 % and more; adjusted, not one is suspected."""
    found = pairs("launches differ")
    base = [dataclasses.replace(first, variant=str(at), run="base") for at, (first, _) in enumerate(found)]
    new = [dataclasses.replace(second, variant=str(at), run="new") for at, (_, second) in enumerate(found)]
    judged = changes(base, new)
    assert sum(one.judgement.verdict == "slower" for one in judged) >= 5
    assert {one.verdict for one in judged} == {"unchanged"}
    raw = [one.judgement.comparison.p for one in judged if one.judgement.comparison]
    assert [one.p for one in judged] == pytest.approx(stats.false_discovery_control(raw).tolist())


def test_a_cell_that_failed_in_the_new_run_is_told_apart() -> None:
    """It is told as now failed, with its status, and takes part in no adjustment."""
    (found,) = changes([named("a", 1.0, "base")], [dataclasses.replace(named("a", 2.0, "new"), status="failed", value=None)])
    assert (found.verdict, found.judgement.reasons, found.p) == ("now failed", ("failed",), None)
