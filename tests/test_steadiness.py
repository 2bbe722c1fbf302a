"""What makes a launch unsteady or throttled, and that neither is averaged in; the device is a fake root with the strings of HARDWARE.md."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents import Agent, fault, phases
from factory_runs import conditions, launch, mixed_run
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.schema import Conditions, Event, load
from agent.settle import wait
from agent.telemetry import MAX_READINGS, Recorder
from controller.collect import Collected, collect
from reports import page
from reports.failures import failures
from reports.figures import figures
from reports.steadiness import Steadiness, drift, judge
from reports.table import rows

CLOCK = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
ZONE = "sys/class/thermal/thermal_zone0/"
BEFORE, AFTER = conditions("before"), conditions("after")
N = 1000


def noise(seed: int, spread: float, n: int = N) -> NDArray[np.float64]:
    return 1e-3 * np.exp(np.abs(np.random.default_rng(seed).normal(0, spread, n)))


def judged(latency_s: NDArray[np.float64], before: Conditions = BEFORE, after: Conditions = AFTER, **more: Any) -> Steadiness:
    single = {"window_s": 3.0, "warmup_settled": 1.0, "warmup_s": 1.0}
    arrays = {name: np.atleast_1d(np.array(value, np.float64)) for name, value in {**single, **more}.items()}
    return judge({"latency_s": latency_s, **arrays}, before, after, backend="onnxruntime", workload="single_stream")


# Drift


@pytest.mark.parametrize("spread", [0.001, 0.05, 0.3])
def test_noise_that_stays_the_same_is_steady(spread: float) -> None:
    """However noisy, a launch whose halves are alike is valid: at most 1 in 100 is not."""
    assert sum(judged(noise(seed, spread)).status != "valid" for seed in range(200)) <= 2


@pytest.mark.parametrize("shift", [1.08, 1.3, 3.0])
def test_a_slower_second_half_is_unsteady_and_says_by_how_much(shift: float) -> None:
    """Without evidence that the device did it, a slow-down half way is `unsteady`, with the drift as its reason."""
    found = judged(noise(0, 0.01) * np.where(np.arange(N) < N / 2, 1, shift))
    assert found.status == "unsteady"
    assert found.drift == pytest.approx(shift - 1, rel=0.05)
    assert f"{100 * (found.drift or 0):.1f} % slower" in found.reasons[0]


def test_a_launch_that_only_gets_noisy_is_unsteady() -> None:
    """Noise that only adds time, in the second half alone, with every clock as it was: `unsteady`, not `throttled`."""
    clocks = {"trace_clock_hz": [1.5e9] * 4, "trace_clock_hz_t_s": [0.0, 1.0, 2.0, 2.9]}
    found = judged(np.concatenate([noise(0, 0.01, 500), noise(1, 0.5, 500)]), **clocks)
    assert found.status == "unsteady"


def test_a_sustained_launch_that_slows_down_is_valid_and_says_so() -> None:
    """It is what the workload looks for."""
    latency_s = np.concatenate([np.full(500, 0.010), np.full(500, 0.012)])
    values = {"latency_s": latency_s, "window_s": np.array([11.0])}
    short, long = (judge(values, BEFORE, AFTER, backend="tflite", workload=name) for name in ("single_stream", "sustained"))
    assert (short.status, long.status) == ("unsteady", "valid")
    assert long.reasons == short.reasons != ()


def test_a_burst_of_other_work_is_no_drift() -> None:
    """A tenth of the window that is ten times as slow, wherever it is, leaves the launch valid."""
    for at in range(0, N, 100):
        latency_s = noise(at, 0.02)
        latency_s[at : at + 100] *= 10
        assert judged(latency_s).status == "valid"


def test_a_median_that_never_settles_is_unsteady() -> None:
    """A warm-up that ended at its limit is told with how long it was."""
    found = judged(noise(0, 0.01), warmup_settled=0.0, warmup_s=60.0)
    assert (found.status, found.reasons) == ("unsteady", ("the median had not settled after 60.0 s of warm-up",))


def test_what_is_too_short_is_not_judged() -> None:
    """In a window of half a second, as profile quick has it, or of few queries, there is no drift to tell from noise."""
    slower = noise(0, 0.01) * np.where(np.arange(N) < N / 2, 1, 2)
    assert judged(slower, window_s=0.5).drift is None
    assert judged(slower[::11]).status == "valid"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e3), min_size=2, max_size=200))
def test_a_drift_is_a_finite_number(latency_s: list[float]) -> None:
    """Whatever the latencies, also zeros of a coarse clock."""
    assert np.isfinite(drift(np.array(latency_s))) or min(latency_s) < 1e-290


# Evidence


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({"get_throttled": 0x50000}, {"get_throttled": 0x50000}, ""),
        ({"get_throttled": 0x0}, {"get_throttled": 0x40000}, "get_throttled went from 0x0 to 0x40000: throttled"),
        ({"get_throttled": 0x50000}, {"get_throttled": 0x50005}, "get_throttled went from 0x50000 to 0x50005: under-voltage, throttled"),
        ({"get_throttled": 0x0}, {"get_throttled": 0x80008}, "get_throttled went from 0x0 to 0x80008: soft temperature limit"),
        ({"core_throttle_count": 7}, {"core_throttle_count": 7}, ""),
        ({"core_throttle_count": 7}, {"core_throttle_count": 9}, "core_throttle_count rose from 7 to 9"),
        ({"soctherm_oc/oc1_event_cnt": 0}, {"soctherm_oc/oc1_event_cnt": 1}, "soctherm_oc/oc1_event_cnt rose from 0 to 1"),
        ({}, {"core_throttle_count": 9}, ""),
    ],
)
def test_a_new_flag_is_evidence_and_an_old_one_is_not(before: dict[str, int], after: dict[str, int], reason: str) -> None:
    """Sticky bits and counters count by their difference; what could not be read before tells nothing."""
    found = judged(noise(0, 0.01), BEFORE._replace(throttle=before), AFTER._replace(throttle=after))
    assert found.reasons == ((reason,) if reason else ())
    assert found.status == ("throttled" if reason else "valid")


@pytest.mark.parametrize(("peak", "status"), [(79.9, "valid"), (80.0, "throttled")])
def test_a_temperature_at_its_limit_is_evidence(peak: float, status: str) -> None:
    """The highest reading of the window against the trip point."""
    assert judged(noise(0, 0.01), BEFORE, AFTER._replace(peaks_c={"cpu": peak})).status == status


def test_the_clock_is_held_to_what_the_inventory_expects() -> None:
    """A clock that is low from the beginning is seen only by who knows what it should be."""
    values = {"window_s": np.array([3.0]), "trace_clock_hz": np.full(3, 6e8), "trace_clock_hz_t_s": np.arange(3.0)}
    verdicts = [judge(values, BEFORE, AFTER, backend="tflite", workload="single_stream", clock_hz=hz).status for hz in (None, 1.5e9)]
    assert verdicts == ["valid", "throttled"]


def test_the_coral_usb_is_never_said_to_be_fine() -> None:
    """It tells no temperature: whether it was throttled is unknown, and said so."""
    before = BEFORE._replace(usb_mbps={"coral-usb 2-1.4": 5000.0})
    found = judge({}, before, AFTER, backend="edgetpu", workload="single_stream")
    assert "unknown" in found.unknown[0]


# The simulated device

# A runtime that is the real one, but for 10 ms each inference takes, and 20 from the hundredth on, when it also does `then`.
SLOW_HALF_WAY = """
import sys, time
sys.path.remove(__file__.rpartition("/")[0])
del sys.modules["onnxruntime"]
import onnxruntime
class Session(onnxruntime.InferenceSession):
    calls = 0
    def run_with_iobinding(self, *arguments):
        self.calls += 1
        if self.calls == 100:
            {then}
        time.sleep(0.01 if self.calls < 100 else 0.02)
        super().run_with_iobinding(*arguments)
onnxruntime.InferenceSession = Session
"""


def fake_root(folder: Path, clock_khz: int = 1500000, milli: int = 45000) -> str:
    texts = {CLOCK: clock_khz, ZONE + "type": "cpu-thermal", ZONE + "temp": milli, ZONE + "trip_point_0_type": "passive"}
    for name, text in {**texts, ZONE + "trip_point_0_temp": 80000, "proc/meminfo": "MemAvailable:    3500000 kB"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    return str(folder)


@pytest.mark.parametrize("drops", [True, False])
def test_a_simulated_device_whose_clock_drops_is_throttled_and_without_it_unsteady(tmp_path: Path, drops: bool) -> None:
    """A whole launch below a fake root: the same slow-down is `throttled` with the clock as evidence, or only `unsteady`."""
    agent, root, site = Agent(tmp_path / "cache"), fake_root(tmp_path / "root"), tmp_path / "site"
    site.mkdir()
    then = f"open({f'{root}/{CLOCK}'!r}, 'w').write('600000')" if drops else "pass"
    (site / "onnxruntime.py").write_text(SLOW_HALF_WAY.format(then=then))
    spec = agent.spec(environ={"PYTHONPATH": str(site)}, min_queries=200, warmup_max_s=1.0)
    agent.call("start", spec, "--root", root)
    told = collected(agent, spec.launch)
    values = {name: one.array.astype(np.float64) for name, one in told.samples.items()} | {
        "latency_s": told.samples["latency_ns"].array / 1e9
    }
    found = judge(values, told.before, told.after, backend="onnxruntime", workload="single_stream")
    assert found.status == ("throttled" if drops else "unsteady")
    assert ("below 97 % of 1500 MHz" in found.reasons[0]) == drops
    assert "slower than the first" in found.reasons[-1]
    assert told.after is not None
    assert told.after.limits_c == {"cpu-thermal": 80.0}
    assert told.after.peaks_c == {"cpu-thermal": 45.0}


def collected(agent: Agent, launch: str) -> Collected:
    events = [load(Event, event) for event in agent.follow(launch)]
    return collect(events, lambda file: Path(agent.cache.launch(launch, "files", file.sha256)).read_bytes())


# What becomes of it


def test_neither_status_is_averaged_in_and_both_are_shown_with_their_evidence() -> None:
    """Of a valid, an unsteady and a throttled launch only the valid one's latencies count, and the report tells why of the others."""
    reasons = {"valid": "", "unsteady": "the second half was 9.0 % slower", "throttled": "get_throttled went from 0x0 to 0x40000"}
    launches = tuple(
        dataclasses.replace(launch("one", at, status, {"latency_s": noise(at, 0.01) * (at + 1)}), notes=(reason,) if reason else ())
        for at, (status, reason) in enumerate(reasons.items())
    )
    record = dataclasses.replace(mixed_run().cells[0], status="throttled", launches=launches, fault=None)
    (p50,) = [figure for figure in figures(record, None) if figure.metric == "latency_p50_s"]
    assert p50.value == pytest.approx(1e-3, rel=0.05)
    run = dataclasses.replace(mixed_run(), cells=(record,))
    told = [failure.fault.message for failure in failures(run, rows(run))]
    assert all(reason in "; ".join(told) for reason in reasons.values())
    assert "get_throttled" in page.render(run)


# What is read in between


class FakeClock:
    """Time that only passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_readings_are_a_second_apart_and_timed_from_the_windows_begin(tmp_path: Path) -> None:
    """The first of the window is taken when it begins; the peak is that of the window alone."""
    root, clock = fake_root(tmp_path), FakeClock()
    recorder = Recorder(root, clock.read)
    for _ in range(3):
        recorder.read_if_due()
        clock.sleep(0.5)
    recorder.begin()
    fake_root(tmp_path, 600000, 60000)
    clock.sleep(recorder.due_s())
    recorder.read_if_due()
    recorder.end()
    fake_root(tmp_path, 600000, 70000)
    clock.sleep(1.0)
    recorder.read_if_due()
    series = {one.metric: one.values for one in recorder.series()}
    assert series["trace_clock_hz_t_s"] == [-1.5, -0.5, 0.0, 1.0, 2.0]
    assert series["trace_clock_hz"] == [1.5e9, 1.5e9, 1.5e9, 6e8, 6e8]
    assert series["trace_memory_available_bytes"] == [3_500_000 * 1024.0] * 5
    assert recorder.peaks_c == {"cpu-thermal": 60.0}


def test_a_long_launch_keeps_few_readings(tmp_path: Path) -> None:
    """Beyond the limit every second one goes, and they are taken half as often; what cannot be read has no series."""
    clock = FakeClock()
    recorder = Recorder(str(tmp_path), clock.read)
    recorder.begin()
    assert recorder.series() == []
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 1 kB\n")
    for _ in range(MAX_READINGS + 10):
        clock.sleep(recorder.due_s())
        recorder.read_if_due()
    assert MAX_READINGS / 2 < len(recorder.series()[0].values) < MAX_READINGS / 2 + 20
    assert recorder.due_s() == 2.0


# The start gate


def test_the_gate_opens_when_the_device_has_cooled_down(tmp_path: Path) -> None:
    """It waits as long as the hottest sensor is above the limit, and tells how long that was."""
    root, clock = fake_root(tmp_path, milli=60000), FakeClock()

    def cool(seconds: float) -> None:
        clock.sleep(seconds)
        fake_root(tmp_path, milli=int(60000 - 1000 * (clock.now - 100)))

    gate = wait(50.0, 600.0, lambda: False, root, clock.read, cool)
    assert gate == (10.0, True)


@pytest.mark.parametrize(("busy", "settled"), [(5, True), (50, False)])
def test_the_gate_waits_for_a_low_load_and_gives_up_in_time(tmp_path: Path, busy: int, settled: bool) -> None:
    """Other work holds the launch up for its limit and no longer."""
    root, clock = fake_root(tmp_path), FakeClock()
    stat = tmp_path / "proc/stat"
    stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\n")

    def work(seconds: float) -> None:
        clock.sleep(seconds)
        ticks = int(clock.now - 100)
        stat.write_text(f"cpu  {busy * ticks} 0 0 {(100 - busy) * ticks} 0 0 0 0 0 0\n")

    assert wait(50.0, 30.0, lambda: False, root, clock.read, work) == ((1.0, True) if settled else (30.0, False))


def test_without_a_temperature_there_is_no_gate(tmp_path: Path) -> None:
    """A device whose inventory names none does not wait."""
    assert wait(None, 600.0, lambda: False, fake_root(tmp_path)) is None


def test_a_launch_that_waits_can_be_cancelled_and_one_that_waited_in_vain_says_so(tmp_path: Path) -> None:
    """Cancelled at the gate, a launch starts no worker; given up, it measures, and its deadline has not begun before."""
    agent, root = Agent(tmp_path / "cache"), fake_root(tmp_path / "root", milli=60000)
    waiting = agent.spec(settle_max_temp_c=50.0, settle_timeout_s=3600.0)
    agent.call("start", waiting, "--root", root)
    with agent.following(waiting.launch) as events:
        next(event for event in events if event["data"].get("name") == "settle")
        agent.call("cancel", {"launch": waiting.launch})
    told = agent.follow(waiting.launch)
    assert fault(told)[:2] == ("cancelled", "settle")
    assert phases(told) == ["settle"]
    given_up = agent.spec(settle_max_temp_c=50.0, settle_timeout_s=0.1)
    agent.call("start", given_up, "--root", root)
    found = collected(agent, given_up.launch)
    assert found.fault is None
    assert found.samples["settled"].array.tolist() == [0.0]
