"""Power sensors on fake boards laid out as HARDWARE.md's section 4 says, and what becomes of sensors that lie."""

import hashlib
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boards
import pytest
from agents import until

from agent import power, sensors
from agent.power import PowerTrace, Sampler
from agent.schema import FaultError, load
from agent.sensors import PowerSensor, Reading, SensorError, ina2xx
from agent.system import System

AGX_ORIN = {
    "1-0040/hwmon/hwmon2": {"VDD_GPU_SOC": (19000, 100), "VDD_CPU_CV": (19000, 50), "VIN_SYS_5V0": (5000, 800)},
    "1-0041/hwmon/hwmon3": {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5000, 300)},
}


def sensor(root: Path, name: str, **options: Any) -> PowerSensor:
    return sensors.get(name)(System(str(root)), options)


def board(root: Path, make: Callable[[Path], None]) -> Path:
    make(root)
    return root


def values(found: PowerSensor) -> dict[str, float]:
    return {reading.rail: reading.value for reading in found.read()}


def ina226(root: Path, power_uw: str = "4500000\n", number: int = 0) -> Path:
    folder = f"sys/class/hwmon/hwmon{number}"
    files = {"name": "ina226\n", "power1_input": power_uw, "curr1_input": "900\n", "in1_input": "5000\n", "shunt_resistor": "10000\n"}
    return boards.write(root, {f"{folder}/{name}": text for name, text in files.items()})


def rapl(root: Path, counters: Mapping[str, tuple[str, int]]) -> Path:
    for domain, (name, energy_uj) in counters.items():
        files = {"name": f"{name}\n", "energy_uj": f"{energy_uj}\n", "max_energy_range_uj": "262143328850\n"}
        boards.write(root, {f"sys/class/powercap/{domain}/{file}": text for file, text in files.items()})
    return root


def meter(folder: Path, prints: str) -> list[str]:
    return [sys.executable, "-c", f"print({prints!r})"]


# What each sensor reads


def test_a_nano_takes_its_input_rail_alone(tmp_path: Path) -> None:
    """Of the three rails of a Nano, POM_5V_IN is the board; its milliwatts are not summed with the others."""
    nano = sensor(board(tmp_path, boards.jetson_nano), "jetson")
    found = nano.probe()
    assert (found.scope, found.total, found.problem) == ("board", ("POM_5V_IN",), "")
    assert values(nano) == {"POM_5V_IN": 4.531}


def test_the_folder_of_some_images_is_read_too(tmp_path: Path) -> None:
    """iio_device in place of iio:device0 makes no difference."""
    folder = board(tmp_path, boards.jetson_nano) / "sys/bus/i2c/drivers/ina3221x/6-0040"
    (folder / "iio:device0").rename(folder / "iio_device")
    assert values(sensor(tmp_path, "ina3221")) == {"POM_5V_IN": 4.531}


def test_an_orin_nano_multiplies_voltage_and_current(tmp_path: Path) -> None:
    """Behind hwmon there is no power file: VDD_IN is 5032 mV x 942 mA; NC and in7 are no rails."""
    orin = sensor(board(tmp_path, boards.jetson_orin_nano), "ina3221")
    assert orin.probe().rails == ["VDD_IN", "VDD_CPU_GPU_CV"]
    assert values(orin) == {"VDD_IN": pytest.approx(4.740144)}


def test_an_agx_orin_sums_three_rails(tmp_path: Path) -> None:
    """Without a total rail the board is the sum of three, over both chips; unconnected ones and the rest do not count."""
    for folder, rails in AGX_ORIN.items():
        for number, (rail, (millivolt, milliampere)) in enumerate(rails.items(), 1):
            files = {f"in{number}_label": rail, f"in{number}_input": millivolt, f"curr{number}_input": milliampere}
            boards.write(tmp_path, {f"sys/bus/i2c/drivers/ina3221/{folder}/{name}": f"{value}\n" for name, value in files.items()})
    orin = sensor(tmp_path, "ina3221")
    found = orin.probe()
    assert (found.scope, found.total) == ("board", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
    assert sum(values(orin).values()) == pytest.approx(1.9 + 0.95 + 4.0)


def test_rails_without_a_known_total_are_not_summed(tmp_path: Path) -> None:
    """A board whose rails nobody knows has the boundary rail, and no total."""
    folder = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    boards.write(tmp_path, {f"{folder}/in1_label": "VDD_X\n", f"{folder}/in1_input": "5000\n", f"{folder}/curr1_input": "100\n"})
    found = sensor(tmp_path, "ina3221").probe()
    assert (found.scope, found.total) == ("rail", ())


def test_an_ina226_is_in_microwatts_and_tells_its_shunt(tmp_path: Path) -> None:
    """power1_input 4500000 is 4.5 W, and the shunt that the driver reckons with is shown."""
    monitor = sensor(ina226(tmp_path), "ina226")
    assert monitor.probe().details["shunt_ohm"] == "0.01"
    assert values(monitor) == {"ina226": 4.5}


def test_one_of_several_monitors_has_to_be_named(tmp_path: Path) -> None:
    """Two INA226: none is guessed; the one that is named is read."""
    ina226(ina226(tmp_path), "1000000\n", number=1)
    assert "hwmon1" in sensor(tmp_path, "ina226").probe().problem
    assert values(sensor(tmp_path, "ina226", rail="hwmon1")) == {"ina226": 1.0}


def test_a_pi_5_sums_the_rails_that_have_both_a_current_and_a_voltage(tmp_path: Path) -> None:
    """The supply and the battery have no current and do not count; the boundary is soc, for USB is not seen."""
    pmic = sensor(board(tmp_path, boards.raspberry_pi_5), "pi5_pmic")
    found = pmic.probe()
    assert (found.scope, found.rails) == ("soc", ["3V7_WL_SW", "3V3_SYS", "VDD_CORE"])
    exact = 0.08002204 * 3.730715 + 0.0790474 * 3.32234 + 0.9287199 * 0.7209762
    assert sum(values(pmic).values()) == pytest.approx(exact)


def test_rapl_counts_the_packages(tmp_path: Path) -> None:
    """Two packages in joules with the range of their counters; their cores and psys, which holds them, are not added."""
    counters = {
        "intel-rapl:0": ("package-0", 5_000_000),
        "intel-rapl:0:0": ("core", 3_000_000),
        "intel-rapl:1": ("package-1", 7_000_000),
        "intel-rapl:2": ("psys", 20_000_000),
    }
    found = sensor(rapl(tmp_path, counters), "rapl")
    assert (found.kind, found.probe().ranges_j["package-1"]) == ("energy", pytest.approx(262143.32885))
    assert values(found) == {"package-0": 5.0, "package-1": 7.0}


NVML = """
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned number, void **gpu) { *gpu = (void *)0x1234; return number ? 2 : 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *mj) {
    *mj = 5000000123ULL;
    return gpu == (void *)0x1234 ? STATUS : 1;
}
"""


def fake_nvml(folder: Path, status: int) -> str:
    """A library that answers as NVIDIA's does: one GPU, its counter in mJ."""
    source, library = folder / "nvml.c", folder / f"libfake-nvml-{status}.so"
    source.write_text(NVML)
    subprocess.run(["cc", "-shared", "-fPIC", f"-DSTATUS={status}", "-o", str(library), str(source)], check=True)
    return str(library)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_nvml_reads_the_energy_counter_in_joules(tmp_path: Path) -> None:
    """The counter is in mJ; a GPU that is not there, and NotSupported as on a Jetson, are problems."""
    library = fake_nvml(tmp_path, 0)
    gpu = sensor(tmp_path, "nvml", library=library)
    assert gpu.probe().problem == ""
    assert values(gpu) == {"gpu0": 5000000.123}
    assert "answers 2" in sensor(tmp_path, "nvml", library=library, gpu=1).probe().problem
    assert "answers 3" in sensor(tmp_path, "nvml", library=fake_nvml(tmp_path, 3)).probe().problem


@pytest.mark.parametrize(("prints", "power_w"), [("4.5", 4.5), ("4.5 W", 4.5), ("4500mW\nmore", 4.5), ("45e-1", 4.5)])
def test_a_command_prints_watts(tmp_path: Path, prints: str, power_w: float) -> None:
    """The first line is a number, in W unless mW stands behind it."""
    found = sensor(tmp_path, "command", command=meter(tmp_path, prints), boundary="wall")
    assert found.probe().problem == ""
    assert values(found) == {"command": pytest.approx(power_w)}


def test_a_log_gives_each_whole_line_once(tmp_path: Path) -> None:
    """A line still being written waits; what was there before is no reading; mW is understood."""
    log = boards.write(tmp_path, {"meter.csv": "time,voltage_v,power (mW)\n1,5.0,999\n"}) / "meter.csv"
    found = sensor(tmp_path, "csv", path="/meter.csv", boundary="board")
    assert found.probe().problem == ""
    assert values(found) == {}
    with log.open("a") as file:
        file.write("2,5.0,4500\n3,5.0,45")
        file.flush()
        assert values(found) == {"power (mW)": 4.5}
        assert values(found) == {}
        file.write("01\n")
    assert values(found) == {"power (mW)": 4.501}


# What is no reading


@pytest.mark.parametrize("text", ["", "n/a\n", "nan\n", "inf\n", "-5\n", "1e300\n", "<html>\n", "\0\0"])
def test_what_is_no_power_is_no_reading(tmp_path: Path, text: str) -> None:
    """Text, infinities, negative and absurd powers raise; they never become a number."""
    with pytest.raises(SensorError):
        sensor(ina226(tmp_path / "ina226", text), "ina226").read()
    nano = board(tmp_path / "nano", boards.jetson_nano)
    boards.write(nano, {"sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input": text})
    with pytest.raises(SensorError):
        sensor(nano, "ina3221").read()
    with pytest.raises(SensorError):
        sensor(tmp_path, "command", command=[sys.executable, "-c", f"print({text.replace(chr(0), '?')!r})"]).read()


def test_two_negative_factors_are_no_power(tmp_path: Path) -> None:
    """A current and a voltage below zero do not make a watt."""
    orin = board(tmp_path, boards.jetson_orin_nano)
    folder = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    boards.write(orin, {f"{folder}/in1_input": "-5032\n", f"{folder}/curr1_input": "-942\n"})
    with pytest.raises(SensorError, match="no reading"):
        sensor(orin, "ina3221").read()


def test_a_pi_5_that_leaves_out_a_rail_gives_no_reading(tmp_path: Path) -> None:
    """A sum without one of its rails would be too small."""
    pmic = sensor(board(tmp_path, boards.raspberry_pi_5), "pi5_pmic")
    pmic.probe()
    boards.program(tmp_path, "vcgencmd", {"pmic_read_adc": boards.PMIC.replace("VDD_CORE_A", "VDD_CORE_Q")})
    with pytest.raises(SensorError, match="VDD_CORE"):
        pmic.read()


def test_vcgencmd_that_may_not_says_the_group(tmp_path: Path) -> None:
    """A user outside of group video is told so."""
    board(tmp_path, boards.raspberry_pi_5)
    boards.script(tmp_path, "vcgencmd", f'echo "{boards.NO_VCIO}"; exit 255\n')
    assert "group video" in sensor(tmp_path, "pi5_pmic").probe().problem


@pytest.mark.parametrize("name", ["ina3221", "ina2xx", "pi5_pmic", "rapl", "command", "csv_log", "nvml"])
def test_a_sensor_that_is_not_there_says_so(tmp_path: Path, name: str) -> None:
    """On a board without any, every probe gives a problem and no rails."""
    boards.raspberry_pi_4(tmp_path)
    (tmp_path / "usr/bin/vcgencmd").unlink()
    found = sensor(tmp_path, name, library="libno-such-library.so").probe()
    assert found.problem
    assert found.rails == []


def test_what_a_command_measures_has_to_be_said(tmp_path: Path) -> None:
    """Without a boundary its watts could not be compared with anything."""
    assert "boundary" in sensor(tmp_path, "command", command=meter(tmp_path, "4.5")).probe().problem
    boards.write(tmp_path, {"meter.csv": "power\n"})
    assert "boundary" in sensor(tmp_path, "csv", path="/meter.csv").probe().problem


def test_a_log_whose_column_is_unclear_asks_for_it(tmp_path: Path) -> None:
    """Two columns of power: none is guessed."""
    boards.write(tmp_path, {"meter.csv": "power_in,power_out\n"})
    assert "column" in sensor(tmp_path, "csv", path="/meter.csv", boundary="board").probe().problem
    assert sensor(tmp_path, "csv", path="/meter.csv", boundary="board", column="power_out").probe().rails == ["power_out"]


def test_a_name_that_nobody_has_is_refused() -> None:
    """The fault names the sensors that there are."""
    with pytest.raises(FaultError) as caught:
        sensors.get("os")
    assert "ina226" in caught.value.fault.next


# The sampler


def sampled(sampler: Sampler, rows: int) -> dict[str, list[int]]:
    """The columns of a sampler that was stopped once it had tried that many readings."""
    sampler.start()
    until(lambda: sampler.trace().reads >= rows, "readings")
    sampler.stop()
    return {metric: list(values) for metric, _, values in sampler.columns()}


def test_the_sampler_keeps_times_and_rails(tmp_path: Path) -> None:
    """Readings are microwatts at rising times, with the sensor's own boundary, and nothing failed."""
    sampler = Sampler(System(str(board(tmp_path, boards.jetson_nano))), "jetson", {})
    columns = sampled(sampler, 3)
    assert set(columns["power_0_uw"]) == {4_531_000}
    assert len(columns) == 2
    assert sorted(set(columns["power_t_ns"])) == columns["power_t_ns"]
    trace = sampler.trace()
    assert (trace.boundary, trace.rails, trace.failed, trace.problem) == ("board", ["POM_5V_IN"], 0, "")


def test_the_sampler_keeps_rails_and_ranges_apart(tmp_path: Path) -> None:
    """Two packages are two columns with their ranges, for they wrap apart; what the inventory says of the boundary holds."""
    root = rapl(tmp_path, {"intel-rapl:0": ("package-0", 1), "intel-rapl:1": ("package-1", 2)})
    sampler = Sampler(System(str(root)), "rapl", {"boundary": "board"})
    columns = sampled(sampler, 1)
    assert (columns["power_0_uj"][0], columns["power_1_uj"][0]) == (1, 2)
    assert (sampler.trace().boundary, sampler.trace().ranges_j) == ("board", [pytest.approx(262143.32885)] * 2)


def test_failed_readings_are_counted_and_the_last_reason_is_kept(tmp_path: Path) -> None:
    """A sensor that says text gives no rows, and why."""
    sampler = Sampler(System(str(ina226(tmp_path, "n/a\n"))), "ina226", {})
    assert sampled(sampler, 2) == {}
    assert sampler.trace().failed == sampler.trace().reads
    assert "no number" in sampler.trace().problem


@pytest.mark.parametrize(
    ("driver", "options", "reason"),
    [("jetson", {}, "no ina3221"), ("os", {}, "no power sensor"), ("ina226", {"boundary": "x"}, "boundary")],
)
def test_a_sampler_without_a_sensor_says_why(tmp_path: Path, driver: str, options: dict[str, str], reason: str) -> None:
    """What cannot be read is never read, and is told in one line."""
    sampler = Sampler(System(str(ina226(tmp_path))), driver, options)
    sampler.start()
    sampler.stop()
    assert reason in sampler.trace().problem
    assert list(sampler.columns()) == []


def test_a_sensor_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading that never ends is told; what was read before is kept."""
    let_go = threading.Event()
    seen: list[int] = []

    def read(found: ina2xx.Ina2xx) -> list[Reading]:
        seen.append(1)
        if len(seen) > 2:
            let_go.wait()
        return [Reading("ina226", float(len(seen)), 1.0)]

    monkeypatch.setattr(ina2xx.Ina2xx, "read", read)
    monkeypatch.setattr(power, "STOPS_WITHIN_S", 0.01)
    sampler = Sampler(System(str(ina226(tmp_path))), "ina226", {})
    columns = sampled(sampler, 3)
    assert columns["power_0_uw"] == [1_000_000, 1_000_000]
    assert "hangs" in sampler.trace().problem
    let_go.set()


def test_what_was_sampled_is_saved_as_it_travels(tmp_path: Path) -> None:
    """Files are named by their sha256 and hold what the events say; the last event is the trace, which loads strictly."""
    sampler = Sampler(System(str(board(tmp_path / "nano", boards.jetson_nano))), "jetson", {})
    columns = sampled(sampler, 2)
    events = list(power.save(sampler, str(tmp_path)))
    assert [kind for kind, _ in events] == ["sample", "sample", "sensor"]
    for _, data in events[:-1]:
        content = (tmp_path / data["sha256"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == data["sha256"]
        assert list(struct.unpack(f"<{len(content) // 8}q", content)) == columns[data["metric"]]
    assert load(PowerTrace, events[-1][1]) == sampler.trace()
