"""Power sensors that the device has: which driver reads them, what they see, and why they cannot be read. Reads no power itself."""

import os
import re
from typing import Dict, Iterator, List

from agent.boards import Board
from agent.description import PowerSource
from agent.system import System, clean, user_name

# The rails of a Jetson whose power is the whole board's: one alone, or the sum of those that together are.
TOTALS = (("POM_5V_IN",), ("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
INA2XX = ("ina219", "ina220", "ina226", "ina230", "ina231", "ina260")
PI_5_SOC = "bcm2712"
PMIC_LINE = re.compile(r"^ *(\w+)_([AV]) (?:current|volt)\(\d+\)=[\d.]+[AV]$", re.MULTILINE)
VCGENCMD_REFUSALS = ("Can't open device file", "VCHI initialization failed")
MAX_RAILS = 64


def power_sources(system: System, board: Board) -> List[PowerSource]:
    """Return the power sensors of the board and of its processors."""
    return [*_ina3221(system), *_ina2xx(system), *_pi_5(system, board), *_rapl(system), *_nvml(system, board)]


def _ina3221(system: System) -> Iterator[PowerSource]:
    """A Jetson's monitors, all chips together: the iio driver of Jetson Linux 32, hwmon from 34 on."""
    files = _iio_rails(system)
    layout = "iio" if files else "hwmon"
    files = files or _hwmon_rails(system)
    if not files:
        return
    total = next((names for names in TOTALS if all(name in files for name in names)), ())
    details = {"layout": layout, "folders": _folders(files)}
    if total:
        details["total"] = "+".join(total)
    yield PowerSource("ina3221", "board" if total else "rail", list(files)[:MAX_RAILS], _unreadable(system, files), details)


def _iio_rails(system: System) -> Dict[str, str]:
    """The file of each rail's power, by the rail's name; some images call the folder iio_device, others iio:device0."""
    found: Dict[str, str] = {}
    for name in system.names("sys/bus/i2c/drivers/ina3221x/*-*/iio*device*/rail_name_*"):
        folder, file = os.path.split(name)
        rail = system.line(name)
        if rail and rail != "NC":
            found[rail] = "{}/in_power{}_input".format(folder, file[len("rail_name_") :])
    return found


def _hwmon_rails(system: System) -> Dict[str, str]:
    """The file of each rail's current, by the rail's label; in7 is the sum of the shunts and has no current."""
    found: Dict[str, str] = {}
    for name in system.names("sys/bus/i2c/drivers/ina3221/*-*/hwmon/hwmon*/in[1-3]_label"):
        folder, file = os.path.split(name)
        rail = system.line(name)
        if rail and rail != "NC":
            found[rail] = "{}/curr{}_input".format(folder, file[len("in") : -len("_label")])
    return found


def _folders(files: Dict[str, str]) -> str:
    return clean(" ".join(sorted({"/" + os.path.dirname(file) for file in files.values()})))


def _unreadable(system: System, files: Dict[str, str]) -> str:
    """Why the first of the files that cannot be read cannot."""
    refusals = (system.refusal(file) for file in files.values())
    return next((refusal for refusal in refusals if refusal), "")


def _ina2xx(system: System) -> Iterator[PowerSource]:
    """Single-rail monitors. The driver assumes a shunt of 0.01 ohm; a breakout board's 0.1 ohm makes its readings ten times too large."""
    for name in system.names("sys/class/hwmon/hwmon*/name"):
        chip, folder = system.line(name), os.path.dirname(name)
        if chip not in INA2XX:
            continue
        details = {"chip": chip, "folder": "/" + folder}
        shunt = system.number(folder + "/shunt_resistor")
        if shunt is not None:
            details["shunt_ohm"] = "{:g}".format(shunt / 1e6)
        rail = system.line(folder + "/in1_label") or chip
        yield PowerSource("ina2xx", "rail", [rail], system.refusal(folder + "/power1_input"), details)


def _pi_5(system: System, board: Board) -> Iterator[PowerSource]:
    """The Pi 5's power management chip, which only vcgencmd reads; it sees no USB device."""
    if board.soc != PI_5_SOC or not system.programs:
        return
    said = system.ask("vcgencmd", "pmic_read_adc")
    found = PMIC_LINE.findall(said)
    rails = [rail for rail, unit in found if unit == "A" and (rail, "V") in found]
    yield PowerSource("pi5_pmic", "soc", rails[:MAX_RAILS], "" if rails else _vcgencmd_problem(system, said), {})


def _vcgencmd_problem(system: System, said: str) -> str:
    if not system.program("vcgencmd"):
        return "vcgencmd, which reads it, is not there"
    first = said.strip().split("\n")[0]
    if first.startswith(VCGENCMD_REFUSALS):
        return "vcgencmd: {}: {} must be in group video".format(first, user_name())
    return "vcgencmd pmic_read_adc: {}".format(first or "no answer")


def _rapl(system: System) -> Iterator[PowerSource]:
    """The energy counters of an x86 processor, for root only since Linux 5.10; they see no USB device."""
    files: Dict[str, str] = {}
    for name in system.names("sys/class/powercap/intel-rapl:*/name"):
        folder = os.path.dirname(name)
        parent = system.line("sys/class/powercap/{}/name".format(":".join(os.path.basename(folder).split(":")[:2])))
        domain = system.line(name)
        files[domain if domain == parent else "{}/{}".format(parent, domain)] = folder + "/energy_uj"
    if files:
        yield PowerSource("rapl", "soc", list(files)[:MAX_RAILS], _unreadable(system, files), {})


def _nvml(system: System, board: Board) -> Iterator[PowerSource]:
    """NVIDIA GPUs that tell their power; a Jetson's NVML starts but answers NotSupported."""
    if board.sm:
        return
    said = system.ask("nvidia-smi", "--query-gpu=pci.bus_id,power.draw", "--format=csv,noheader")
    rails = re.findall(r"^(?:0000)?([0-9a-fA-F:.]+), [\d.]+ W$", said, re.MULTILINE)
    if rails:
        yield PowerSource("nvml", "rail", [rail.lower() for rail in rails][:MAX_RAILS], "", {})
