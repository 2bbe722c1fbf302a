"""The energy counters of an x86 processor, for root only since Linux 5.10; they see no USB device (HARDWARE.md, section 4)."""

import os
import time
from typing import Any, Dict, List

from agent.sensors import ENERGY, Found, PowerSensor, Reading, SensorError, missing
from agent.system import System


def domains(system: System) -> Dict[str, str]:
    """Return the counters' folders by domain: package-0, package-0/core, ..."""
    found: Dict[str, str] = {}
    for name in system.names("sys/class/powercap/intel-rapl:*/name"):
        folder = os.path.dirname(name)
        parent = system.line("sys/class/powercap/{}/name".format(":".join(os.path.basename(folder).split(":")[:2])))
        domain = system.line(name)
        found[domain if domain == parent else "{}/{}".format(parent, domain)] = folder
    return found


class Rapl(PowerSensor):
    """The processor packages together; what is inside of them, or around them as psys is, is no part of the sum."""

    name = "rapl"
    scope = "soc"
    kind = ENERGY
    period_s = 0.1

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        super().__init__(system, options)
        self.folders = {name: folder for name, folder in domains(system).items() if name.startswith("package-") and "/" not in name}

    def probe(self) -> Found:
        """Return the packages; a counter whose range is not told is a problem, for its wrap would be lost."""
        if not self.folders:
            return missing(self.scope, "there is no RAPL counter of a processor package here")
        files = [folder + "/energy_uj" for folder in self.folders.values()]
        problem = next((refusal for refusal in map(self.system.refusal, files) if refusal), "")
        ranges = {name: (self.system.number(folder + "/max_energy_range_uj") or 0) / 1e6 for name, folder in self.folders.items()}
        if not problem and min(ranges.values()) <= 0:
            problem = "the counter's max_energy_range_uj is not told"
        return Found(self.scope, list(self.folders), tuple(self.folders), problem, ranges, {})

    def read(self) -> List[Reading]:
        """Return each package's counter in joules."""
        return [self._reading(name, folder + "/energy_uj") for name, folder in self.folders.items()]

    def _reading(self, name: str, file: str) -> Reading:
        begin = time.monotonic()
        micro = self.system.number(file)
        if micro is None or micro < 0:
            raise SensorError("/{}: {!r} is no reading".format(file, self.system.line(file)[:40]))
        return Reading(name, (begin + time.monotonic()) / 2, micro / 1e6)


SENSOR = Rapl
