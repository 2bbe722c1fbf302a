"""A Jetson's power monitors, all chips together (HARDWARE.md, section 4)."""

import os
import time
from typing import Any, Dict, List, NamedTuple, Optional

from agent.sensors import Found, PowerSensor, Reading, SensorError, missing, watts
from agent.system import System, clean

# The rails of a Jetson whose power is the whole board's: one alone, or the sum of those that together are.
TOTALS = (("POM_5V_IN",), ("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))


class Rail(NamedTuple):
    """The files of a rail: of its power in mW, or of its voltage in mV and its current in mA."""

    power: str
    voltage: str
    current: str

    @property
    def file(self) -> str:
        """Return the file without which there is no reading."""
        return self.power or self.current


def rails(system: System) -> Dict[str, Rail]:
    """Return the rails by name: by the iio driver of Jetson Linux 32, else by hwmon, from 34 on; unconnected ones are left out."""
    return _iio(system) or _hwmon(system)


def total_of(names: Any) -> Any:
    """Return the rails among `names` that together are the whole board, none where they are not known to be."""
    return next((total for total in TOTALS if all(name in names for name in total)), ())


def _iio(system: System) -> Dict[str, Rail]:
    """Some images call the folder iio_device, others iio:device0."""
    found: Dict[str, Rail] = {}
    for name in system.names("sys/bus/i2c/drivers/ina3221x/*-*/iio*device*/rail_name_*"):
        folder, file = os.path.split(name)
        rail = system.line(name)
        if rail and rail != "NC":
            found[rail] = Rail("{}/in_power{}_input".format(folder, file[len("rail_name_") :]), "", "")
    return found


def _hwmon(system: System) -> Dict[str, Rail]:
    """in7 is the sum of the shunts' voltages, which is no rail."""
    found: Dict[str, Rail] = {}
    for name in system.names("sys/bus/i2c/drivers/ina3221/*-*/hwmon/hwmon*/in[1-3]_label"):
        folder, file = os.path.split(name)
        rail, number = system.line(name), file[len("in") : -len("_label")]
        if rail and rail != "NC":
            found[rail] = Rail("", "{}/in{}_input".format(folder, number), "{}/curr{}_input".format(folder, number))
    return found


class Ina3221(PowerSensor):
    """The board's total where its rails are known to give one, else each rail for itself."""

    name = "ina3221"
    scope = "board"
    period_s = 0.1

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        super().__init__(system, options)
        self.rails = rails(system)
        self.total = total_of(self.rails)

    def probe(self) -> Found:
        """Return the rails; `problem` is why the first that cannot be read cannot."""
        if not self.rails:
            return missing(self.scope, "there is no ina3221 here")
        problem = next((refusal for refusal in map(self.system.refusal, (rail.file for rail in self.rails.values())) if refusal), "")
        folders = sorted({"/" + os.path.dirname(rail.file) for rail in self.rails.values()})
        layout = "iio" if next(iter(self.rails.values())).power else "hwmon"
        details = {"layout": layout, "folders": clean(" ".join(folders))}
        return Found("board" if self.total else "rail", list(self.rails), self.total, problem, {}, details)

    def read(self) -> List[Reading]:
        """Return the rails of the total, or all of them where there is none."""
        return [self._reading(name) for name in self.total or self.rails]

    def _reading(self, name: str) -> Reading:
        rail, begin = self.rails[name], time.monotonic()
        if rail.power:
            power_w: Optional[float] = self._number(rail.power) / 1e3
        else:
            power_w = self._number(rail.voltage) * self._number(rail.current) / 1e6
        return Reading(name, (begin + time.monotonic()) / 2, watts(power_w, name))

    def _number(self, name: str) -> float:
        value = self.system.number(name)
        if value is None or value < 0:
            raise SensorError("/{}: {!r} is no reading".format(name, self.system.line(name)[:40]))
        return value


SENSOR = Ina3221
