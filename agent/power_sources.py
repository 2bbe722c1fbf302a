"""Power sensors that the device has: which driver reads them, what they see, and why they cannot be read. Reads no power itself."""

import os
import re
from typing import Iterator, List

from agent.boards import Board
from agent.description import PowerSource
from agent.sensors import ina2xx, ina3221, pi5_pmic, rapl
from agent.system import System

PI_5_SOC = "bcm2712"
MAX_RAILS = 64


def power_sources(system: System, board: Board) -> List[PowerSource]:
    """Return the power sensors of the board and of its processors."""
    return [*_ina3221(system), *_ina2xx(system), *_pi_5(system, board), *_rapl(system), *_nvml(system, board)]


def _ina3221(system: System) -> Iterator[PowerSource]:
    """A Jetson's monitors, all chips together."""
    found = ina3221.SENSOR(system, {}).probe()
    if found.rails:
        details = {**found.details, "total": "+".join(found.total)} if found.total else found.details
        yield PowerSource("ina3221", found.scope, found.rails[:MAX_RAILS], found.problem, details)


def _ina2xx(system: System) -> Iterator[PowerSource]:
    """Monitors of a single rail, each for itself."""
    for chip in ina2xx.chips(system):
        found = ina2xx.SENSOR(system, {"rail": os.path.basename(chip.folder)}).probe()
        yield PowerSource("ina2xx", found.scope, found.rails, found.problem, found.details)


def _pi_5(system: System, board: Board) -> Iterator[PowerSource]:
    if board.soc == PI_5_SOC and system.programs:
        found = pi5_pmic.SENSOR(system, {}).probe()
        yield PowerSource("pi5_pmic", found.scope, found.rails[:MAX_RAILS], found.problem, {})


def _rapl(system: System) -> Iterator[PowerSource]:
    """The counters of the processor's packages and of what is inside of them."""
    folders = rapl.domains(system)
    if folders:
        refusals = (system.refusal(folder + "/energy_uj") for folder in folders.values())
        problem = next((refusal for refusal in refusals if refusal), "")
        yield PowerSource("rapl", rapl.SENSOR.scope, list(folders)[:MAX_RAILS], problem, {})


def _nvml(system: System, board: Board) -> Iterator[PowerSource]:
    """NVIDIA GPUs that tell their power; a Jetson's NVML starts but answers NotSupported."""
    if board.sm:
        return
    said = system.ask("nvidia-smi", "--query-gpu=pci.bus_id,power.draw", "--format=csv,noheader")
    rails = re.findall(r"^(?:0000)?([0-9a-fA-F:.]+), [\d.]+ W$", said, re.MULTILINE)
    if rails:
        yield PowerSource("nvml", "rail", [rail.lower() for rail in rails][:MAX_RAILS], "", {})
