"""Accelerators and power sensors, found in the fake roots of boards.py by the strings of HARDWARE.md."""

import shutil
from dataclasses import replace
from pathlib import Path

import boards as fake
import pytest
from factory_runs import mixed_run, probe

from agent import boards, software
from agent.accelerators import LUXONIS, accelerators
from agent.description import Accelerator, PowerSource
from agent.power_sources import power_sources
from agent.system import System
from reports.provenance import device_sheets


def plugged_in(root: Path) -> list[Accelerator]:
    system = System(str(root))
    return accelerators(system, boards.identify(system))


def only(root: Path) -> Accelerator:
    (found,) = plugged_in(root)
    return found


def power(root: Path) -> list[PowerSource]:
    system = System(str(root))
    return power_sources(system, boards.identify(system))


def source(root: Path) -> PowerSource:
    (found,) = power(root)
    return found


def test_a_libedgetpu_that_no_package_owns_is_told_by_its_path(tmp_path: Path) -> None:
    """As where it was copied or built by hand; a package's is told by its version alone."""
    system = System(str(tmp_path))
    board = boards.identify(system)
    fake.write(tmp_path, {"usr/local/lib/libedgetpu.so.1": ""})
    assert software.versions(system, board) == {"libedgetpu": "/usr/local/lib/libedgetpu.so.1"}
    fake.packages(tmp_path, {"libedgetpu1-max": "16.0"})
    assert software.versions(system, board) == {"libedgetpu1-max": "16.0"}


# Accelerators


@pytest.mark.parametrize(
    ("usb_id", "kind", "firmware"),
    [
        ("1a6e:089a", "coral-usb", "not loaded"),
        ("18d1:9302", "coral-usb", "loaded"),
        ("03e7:2485", "ncs2", "not loaded"),
        ("03e7:f63b", "ncs2", "loaded"),
        ("03e7:2150", "ncs1", "not loaded"),
    ],
)
@pytest.mark.parametrize("speed_mbps", [480, 5000])
def test_a_stick_is_known_before_and_after_its_firmware_loads(
    usb_id: str, kind: str, firmware: str, speed_mbps: int, tmp_path: Path
) -> None:
    """By either id, at its USB path, with its link's speed; that of an NCS2 is never taken for proof."""
    fake.usb_device(tmp_path, "2-1.4", usb_id, speed_mbps, device=12)
    fake.usb_device(tmp_path, "1-1", "1d6b:0002", 480)
    stick = only(tmp_path)
    assert (stick.kind, stick.path, stick.speed_mbps, stick.problem) == (kind, "2-1.4", float(speed_mbps), "")
    assert (stick.details["id"], stick.details["firmware"], stick.details["node"]) == (usb_id, firmware, "/dev/bus/usb/002/012")
    assert stick.details.get("caveat") == (LUXONIS if kind == "ncs2" else None)


def test_two_sticks_of_one_kind_are_told_apart_by_their_ports(tmp_path: Path) -> None:
    """Each has its own path; an interface of a stick (2-1.3:1.0) is no stick."""
    for port, device in (("2-1.3", 3), ("2-1.4", 4), ("2-1.4:1.0", 5)):
        fake.usb_device(tmp_path, port, "18d1:9302", 5000, device)
    assert [stick.path for stick in plugged_in(tmp_path)] == ["2-1.3", "2-1.4"]


def test_a_coral_on_pcie_has_its_address_and_heat(tmp_path: Path) -> None:
    """The PCI address is its place; temperature and the points where it slows down are in degrees Celsius."""
    fake.coral_pcie_host(tmp_path)
    coral = only(tmp_path)
    assert (coral.kind, coral.path, coral.speed_mbps, coral.problem) == ("coral-pcie", "0000:02:00.0", None, "")
    assert coral.details == {
        "id": "1ac1:089a",
        "node": "/dev/apex_0",
        "driver": "1.2",
        "status": "ALIVE",
        "temp_c": "45.3",
        "trip_point_0_c": "85",
        "trip_point_1_c": "90",
        "trip_point_2_c": "95",
    }


def test_a_coral_on_pcie_without_its_driver_says_so(tmp_path: Path) -> None:
    """The bus sees it, no /dev/apex_0 is there; beside one that has its driver it is the second."""
    fake.pci_device(tmp_path, "0000:03:00.0", "0x1ac1", "0x089a")
    fake.pci_device(tmp_path, "0000:04:00.0", "0x8086", "0x089a")
    assert "driver" in only(tmp_path).problem
    fake.apex(tmp_path, 0, "0000:02:00.0")
    assert [(one.path, bool(one.problem)) for one in plugged_in(tmp_path)] == [("0000:02:00.0", False), ("0000:03:00.0", True)]


def test_a_coral_dev_board_has_its_own(tmp_path: Path) -> None:
    """Its Edge TPU is named after the board; without a driver it is there all the same, with the problem."""
    fake.coral_dev_board(tmp_path)
    coral = only(tmp_path)
    assert (boards.identify(System(str(tmp_path))).soc, coral.kind, coral.problem) == ("imx8mq", "coral-dev-board", "")
    shutil.rmtree(tmp_path / "sys")
    shutil.rmtree(tmp_path / "dev")
    assert "driver" in only(tmp_path).problem


def test_an_nvidia_gpu_is_asked_of_nvidia_smi(tmp_path: Path) -> None:
    """Name, address as Linux writes it, compute capability, memory and driver; its power sensor too."""
    fake.nvidia_pc(tmp_path)
    gpu = only(tmp_path)
    assert (gpu.kind, gpu.name, gpu.path, gpu.problem) == ("nvidia-gpu", "NVIDIA GeForce RTX 3060", "0000:01:00.0", "")
    assert gpu.details == {"sm": "8.6", "driver": "550.54.15", "memory_bytes": str(12288 << 20)}
    nvml = next(one for one in power(tmp_path) if one.driver == "nvml")
    assert (nvml.rails, nvml.boundary, nvml.problem) == (["0000:01:00.0"], "rail", "")


def test_an_nvidia_driver_that_does_not_tell_the_compute_capability_is_no_problem(tmp_path: Path) -> None:
    """Driver 470 refuses the whole query for that field: all else is told without it."""
    fake.nvidia_pc(tmp_path)
    refusal = 'Field "compute_cap" is not a valid field to query.'
    row = "NVIDIA GeForce RTX 3060, 0, 12053 MiB, 470.256.02, 00000000:01:00.0"
    fake.script(tmp_path, "nvidia-smi", f"case $1 in *compute_cap*) echo '{refusal}'; exit 2;; *) echo '{row}';; esac\n")
    gpu = only(tmp_path)
    assert (gpu.name, gpu.path, gpu.problem) == ("NVIDIA GeForce RTX 3060", "0000:01:00.0", "")
    assert gpu.details == {"driver": "470.256.02", "memory_bytes": str(12053 << 20)}


def test_an_nvidia_gpu_that_nvidia_smi_does_not_show_is_found_in_proc(tmp_path: Path) -> None:
    """Where nvidia-smi fails its words are the problem; where it is missing, the driver's files tell what they know."""
    fake.nvidia_pc(tmp_path)
    failure = "Failed to initialize NVML: Driver/library version mismatch"
    fake.script(tmp_path, "nvidia-smi", f'echo "{failure}"; exit 18\n')
    gpu = only(tmp_path)
    assert (gpu.name, gpu.path, gpu.problem) == ("NVIDIA GeForce RTX 3060", "0000:01:00.0", f"nvidia-smi: {failure}")
    (tmp_path / "usr/bin/nvidia-smi").unlink()
    assert only(tmp_path) == gpu._replace(problem="", details={"driver": "550.54.15"})


# Power


def test_a_pi_5_has_its_power_chips_rails(tmp_path: Path) -> None:
    """The rails with both current and voltage, for the SoC's boundary; those with one of the two alone are none."""
    fake.raspberry_pi_5(tmp_path)
    fake.program(tmp_path, "vcgencmd", {"pmic_read_adc": fake.PMIC + "      ALONE_A current(30)=0.50000000A\n"})
    found = source(tmp_path)
    assert found == PowerSource("pi5_pmic", "soc", ["3V7_WL_SW", "3V3_SYS", "VDD_CORE"], "", {})


@pytest.mark.parametrize("words", [fake.NO_VCIO, "VCHI initialization failed"])
def test_a_pi_5_whose_user_may_not_ask_says_which_group(words: str, tmp_path: Path) -> None:
    """vcgencmd's refusals become a problem that names the group; so does a missing vcgencmd become one."""
    fake.raspberry_pi_5(tmp_path)
    fake.script(tmp_path, "vcgencmd", f'echo "{words}" >&2; exit 255\n')
    problem = source(tmp_path).problem
    assert words in problem
    assert "group video" in problem
    (tmp_path / "usr/bin/vcgencmd").unlink()
    assert "not there" in source(tmp_path).problem


def test_a_pi_4_has_no_power_sensor(tmp_path: Path) -> None:
    """None is invented."""
    fake.raspberry_pi_4(tmp_path)
    assert power(tmp_path) == []


def test_an_agx_orins_total_is_three_rails_of_two_chips(tmp_path: Path) -> None:
    """Both chips are one source; the three rails that together are the board are its total."""
    chips = {"1-0040": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "1-0041": ("NC", "VDDQ_VDD2_1V8AO", "NC")}
    for chip, rails in chips.items():
        for number, rail in enumerate(rails, 1):
            folder = f"sys/bus/i2c/drivers/ina3221/{chip}/hwmon/hwmon{chip[-1]}"
            fake.write(tmp_path, {f"{folder}/in{number}_label": f"{rail}\n", f"{folder}/curr{number}_input": "1\n"})
    found = source(tmp_path)
    assert found.rails == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]
    assert (found.boundary, found.details["total"]) == ("board", "VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0")


def test_some_images_call_the_monitors_folder_otherwise(tmp_path: Path) -> None:
    """iio_device is read as iio:device0 is; rails that are no total are a rail's boundary."""
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio_device"
    fake.write(tmp_path, {f"{folder}/rail_name_0": "POM_5V_GPU\n", f"{folder}/in_power0_input": "1113\n"})
    found = source(tmp_path)
    assert (found.rails, found.boundary) == (["POM_5V_GPU"], "rail")


def test_a_monitors_shunt_is_told(tmp_path: Path) -> None:
    """An INA226 with the driver's assumed shunt: in ohm, so that a breakout board's other one can be seen; other hwmons are none."""
    for number, chip in enumerate(("ina226", "cpu_thermal")):
        folder = f"sys/class/hwmon/hwmon{number}"
        fake.write(tmp_path, {f"{folder}/name": f"{chip}\n", f"{folder}/power1_input": "1\n", f"{folder}/shunt_resistor": "10000\n"})
    found = source(tmp_path)
    assert (found.rails, found.problem, found.boundary) == (["ina226"], "", "rail")
    assert found.details == {"chip": "ina226", "folder": "/sys/class/hwmon/hwmon0", "shunt_ohm": "0.01"}


# The report


def test_a_report_names_the_board_its_accelerators_and_its_mode(tmp_path: Path) -> None:
    """The provenance of a Jetson: board with SoC, GPU, JetPack, power mode; of a device with a stick where that is plugged in."""
    fake.jetson_nano(tmp_path)
    stick = Accelerator("ncs2", "Neural Compute Stick 2", "2-1.3", 5000.0, "", {})
    introduced = probe("nano")._replace(
        board=fake.NANO, soc="tegra210", power_mode="MAXN", accelerators=[*plugged_in(tmp_path), stick], container="docker"
    )
    run = mixed_run()
    (sheet,) = device_sheets(replace(run, devices={"nano": replace(run.devices["pi-a"], probe=introduced)}))
    facts = dict(sheet.facts)
    assert facts["board"] == f"{fake.NANO} (tegra210)"
    assert facts["accelerators"] == "NVIDIA tegra210 GPU; Neural Compute Stick 2 at 2-1.3"
    assert (facts["power mode"], facts["JetPack"], facts["container"]) == ("MAXN", "4.6.1", "docker")
