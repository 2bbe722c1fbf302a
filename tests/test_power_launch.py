"""A launch with a power sensor, from the sampler on a fake board to energy per inference."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import boards
import factory_runs
import numpy as np
import pytest
from agents import Agent

from agent.schema import Event, FaultError, load
from controller.collect import Collected, collect
from reports import energy_figures
from reports.energy import Energy, Refusal
from reports.figures import Figure
from reports.records import LaunchRecord

POWER = "sys/class/hwmon/hwmon0/power1_input"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A fake board with an INA226 that says 4 W and 5 W in turn."""
    made = boards.write(tmp_path / "root", {"sys/class/hwmon/hwmon0/name": "ina226\n", POWER: "4000000\n"})
    done = threading.Event()

    def flicker() -> None:
        said = 0
        while not done.wait(0.02):
            said += 1
            boards.write(made, {f"{POWER}.new": f"{4_000_000 + said % 2 * 1_000_000}\n"})
            (made / f"{POWER}.new").rename(made / POWER)

    thread = threading.Thread(target=flicker)
    thread.start()
    yield made
    done.set()
    thread.join()


def collected(agent: Agent, root: Path, **changes: Any) -> Collected:
    """The record of a launch on the fake board."""
    spec = agent.spec(**changes)
    agent.call("start", spec, "--root", str(root))
    files = Path(agent.cache.launch(spec.launch, "files"))
    events = [load(Event, event) for event in agent.follow(spec.launch)]
    return collect(events, lambda file: (files / file.sha256).read_bytes())


def stored(found: Collected) -> LaunchRecord:
    """The launch as the store gives it: nanoseconds are seconds then."""
    values = {name.removesuffix("_ns") + "_s" if name.endswith("_ns") else name: one for name, one in found.samples.items()}
    arrays = {name: one.array.astype(float).ravel() / (1e9 if one.metric.endswith("_ns") else 1) for name, one in values.items()}
    return LaunchRecord("launch", 0, "valid", "", arrays, details=found.details)


def test_a_launch_brings_its_readings_home(tmp_path: Path, root: Path) -> None:
    """Readings around and in the measured window arrive with their boundary, and give between 4 and 5 W."""
    found = collected(Agent(tmp_path / "cache"), root, min_duration_s=1.5, power={"driver": "ina226", "boundary": "board"})
    assert found.fault is None
    energy = energy_figures.launch_energy(stored(found))
    assert isinstance(energy, Energy), energy
    assert energy.boundary == "board"
    assert 4 <= energy.average_w <= 5
    assert energy.peak_w == 5
    assert energy.idle_w is not None
    assert 4 <= energy.idle_w <= 5


def test_a_launch_without_its_sensor_is_measured_and_says_why(tmp_path: Path) -> None:
    """A sensor that is not there costs no launch: latencies are there, and a reason in energy's place."""
    boards.raspberry_pi_4(tmp_path / "root")
    found = collected(Agent(tmp_path / "cache"), tmp_path / "root", power={"driver": "jetson"})
    assert found.fault is None
    assert "latency_ns" in found.samples
    energy = energy_figures.launch_energy(stored(found))
    assert isinstance(energy, Refusal)
    assert energy.reason == "there is no ina3221 here"


# Figures


def measured(number: int, **changes: Any) -> LaunchRecord:
    """A launch of 10 s with 100 inferences: 2 W idle, 5 W in between, at 10 Hz."""
    t_s = np.arange(0, 20, 0.1) + 100
    power_w = np.where((t_s >= 105) & (t_s < 115), 5.0, 2.0) + np.random.default_rng(number).normal(0, 0.01, len(t_s))
    values: Mapping[str, Any] = {
        "queries": [100],
        "power_t_s": t_s,
        "power_0_uw": power_w * 1e6,
        "power_window_s": [105, 115],
        "power_idle_before_s": [101, 104],
        "power_idle_after_s": [116, 119],
    }
    about = {
        "driver": "ina226",
        "boundary": "board",
        "kind": "power",
        "rails": ["in"],
        "period_s": 0.1,
        "ranges_j": [0.0],
        "problem": "",
        "reads": 200,
        "failed": 0,
        "details": {},
    }
    arrays = {name: np.array(value, float) for name, value in values.items()}
    return LaunchRecord(str(number), number, "valid", "", arrays, details={"power": {**about, **changes}})


def figures(*launches: LaunchRecord) -> dict[str, Figure]:
    cell = replace(factory_runs.mixed_run().cells[0], launches=launches)
    return {figure.metric: figure for figure in energy_figures.energy_figures(cell)}


def test_energy_is_per_inference_with_interval_and_boundary() -> None:
    """50 J gross and 30 J net over 100 inferences, within 1 %; the boundary is on every figure and the error in words."""
    found = figures(*(measured(number) for number in range(5)))
    expected = {
        "energy_gross_j": 0.5,
        "energy_net_j": 0.3,
        "power_average_w": 5.0,
        "power_peak_w": 5.0,
        "power_idle_w": 2.0,
        "power_at_rate_w": 2.3,
    }
    assert {metric: figure.value for metric, figure in found.items()} == {m: pytest.approx(v, rel=0.01) for m, v in expected.items()}
    assert {figure.boundary for figure in found.values()} == {"board"}
    assert all(figure.interval and figure.n == 5 for figure in found.values())
    assert "board by ina226; each launch within" in found["energy_gross_j"].message


def test_power_at_a_rate_is_idle_power_and_net_energy_at_that_rate() -> None:
    """At 5 inferences/s 2 W idle and 5 x 0.3 J, 10/s being measured; 11/s are refused with the reason, and without idle there is none."""
    launches = tuple(measured(number) for number in range(3))
    cell = replace(factory_runs.mixed_run().cells[0], launches=launches)
    rates = {rate: {one.metric: one for one in energy_figures.energy_figures(cell, rate)}["power_at_rate_w"] for rate in (5.0, 11.0)}
    assert rates[5.0].value == pytest.approx(3.5, rel=0.01)
    assert (rates[11.0].value, rates[11.0].reason) == (None, energy_figures.TOO_FAST)
    assert rates[11.0].message == "11 inferences/s are more than were measured"
    restless = [replace(one, values={**one.values, "power_idle_after_s": np.array([])}) for one in launches]
    assert "power_at_rate_w" not in figures(*restless)


def test_boundaries_are_never_averaged() -> None:
    """Launches measured at the wall and on the board give no energy together."""
    found = figures(measured(0), measured(1, boundary="wall"))
    assert found["energy_gross_j"].value is None
    assert "board, wall" in found["energy_gross_j"].message


def test_no_energy_has_its_reason_and_no_sensor_no_figure() -> None:
    """A sensor whose readings are refused says why; where none was asked nothing is said."""
    silent = measured(0, rails=[], problem="the sensor hangs")
    assert figures(silent)["energy_gross_j"].message == "the sensor hangs"
    assert figures(replace(silent, details={})) == {}


@pytest.mark.parametrize("change", [{"boundary": "moon"}, {"kind": "heat"}, {"ranges_j": "all"}, {"extra": 1}])
def test_a_sensor_that_is_not_as_agreed_is_refused(change: dict[str, Any]) -> None:
    """A boundary or a kind that nobody knows, and fields that are not the record's, are `protocol`."""
    data = {**measured(0).details["power"], **change}  # type: ignore[dict-item]
    with pytest.raises(FaultError) as caught:
        collect([Event(1, 0, 0.0, "sensor", data)], lambda _: b"")
    assert caught.value.fault.code == "protocol"


def test_what_a_device_says_of_its_sensor_is_shown_in_one_clean_line() -> None:
    """Escape sequences and line ends of a device do not reach the table."""
    message = figures(measured(0, rails=[], problem="\x1b[31mred\nline"))["energy_gross_j"].message
    assert message.isprintable()
