"""A power monitor of one rail behind hwmon: INA219, INA226, INA260 and their like (HARDWARE.md, section 4)."""

import os
import time
from typing import Any, Dict, List, NamedTuple

from agent.sensors import Found, PowerSensor, Reading, missing, watts
from agent.system import System

CHIPS = ("ina219", "ina220", "ina226", "ina230", "ina231", "ina260")


class Chip(NamedTuple):
    """One chip: its name, its folder, its rail, and the shunt in ohm that the driver reckons with, empty where it does not tell."""

    name: str
    folder: str
    rail: str
    shunt_ohm: str


def chips(system: System) -> List[Chip]:
    """Return the chips that the kernel knows. Its 0.01 ohm shunt is a guess: 0.1, as on breakout boards, reads ten times too large."""
    found: List[Chip] = []
    for name in system.names("sys/class/hwmon/hwmon*/name"):
        chip, folder = system.line(name), os.path.dirname(name)
        if chip in CHIPS:
            shunt = system.number(folder + "/shunt_resistor")
            shunt_ohm = "" if shunt is None else "{:g}".format(shunt / 1e6)
            found.append(Chip(chip, folder, system.line(folder + "/in1_label") or chip, shunt_ohm))
    return found


class Ina2xx(PowerSensor):
    """The only such chip, or the one whose hwmon folder or rail the option `rail` names."""

    name = "ina2xx"
    scope = "rail"
    period_s = 0.1

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        super().__init__(system, options)
        wanted = options.get("rail")
        self.chips = [chip for chip in chips(system) if wanted in (None, chip.rail, os.path.basename(chip.folder))]

    def probe(self) -> Found:
        """Return its rail; several chips and no choice among them is a problem."""
        if len(self.chips) != 1:
            names = ", ".join("{} ({})".format(os.path.basename(chip.folder), chip.rail) for chip in self.chips)
            return missing(
                self.scope, "several monitors, name one by `rail`: " + names if names else "there is no INA219, INA226 or INA260 here"
            )
        chip = self.chips[0]
        details = {"chip": chip.name, "folder": "/" + chip.folder}
        if chip.shunt_ohm:
            details["shunt_ohm"] = chip.shunt_ohm
        return Found(self.scope, [chip.rail], (chip.rail,), self.system.refusal(chip.folder + "/power1_input"), {}, details)

    def read(self) -> List[Reading]:
        """Return the rail's power, which the file gives in microwatts."""
        chip, begin = self.chips[0], time.monotonic()
        micro = self.system.number(chip.folder + "/power1_input")
        power_w = watts(None if micro is None else micro / 1e6, "/{}/power1_input".format(chip.folder))
        return [Reading(chip.rail, (begin + time.monotonic()) / 2, power_w)]


SENSOR = Ina2xx
