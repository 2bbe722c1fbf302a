"""The Pi 5's power management chip, which only vcgencmd reads; it sees no USB device (HARDWARE.md, section 4)."""

import re
import time
from typing import Any, Dict, List

from agent.sensors import Found, PowerSensor, Reading, SensorError, watts
from agent.system import System, user_name

LINE = re.compile(r"^ *(\w+)_([AV]) (?:current|volt)\(\d+\)=(\d+(?:\.\d+)?)([AV])$", re.MULTILINE)
REFUSALS = ("Can't open device file", "VCHI initialization failed")


def rails_w(said: str) -> Dict[str, float]:
    """Return the power by rail in what `vcgencmd pmic_read_adc` prints: of those that have both a current and a voltage."""
    values = {(rail, kind): float(value) for rail, kind, value, unit in LINE.findall(said) if kind == unit}
    return {rail: current * values[rail, "V"] for (rail, kind), current in values.items() if kind == "A" and (rail, "V") in values}


def problem(system: System, said: str) -> str:
    """Return why what vcgencmd said has no rails."""
    if not system.program("vcgencmd"):
        return "vcgencmd, which reads it, is not there"
    first = said.strip().split("\n")[0]
    if first.startswith(REFUSALS):
        return "vcgencmd: {}: {} must be in group video".format(first, user_name())
    return "vcgencmd pmic_read_adc: {}".format(first or "no answer")


class Pi5Pmic(PowerSensor):
    """The sum of all rails that the first look found; a later reading without one of them is none."""

    name = "pi5_pmic"
    scope = "soc"
    period_s = 0.25

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        super().__init__(system, options)
        self.rails: List[str] = []

    def probe(self) -> Found:
        """Return the rails that have both a current and a voltage."""
        said = self._ask()
        self.rails = list(rails_w(said))
        return Found(self.scope, self.rails, tuple(self.rails), "" if self.rails else problem(self.system, said), {}, {})

    def read(self) -> List[Reading]:
        """Return the power of each rail."""
        begin = time.monotonic()
        said = self._ask()
        t, found = (begin + time.monotonic()) / 2, rails_w(said)
        lost = [rail for rail in self.rails if rail not in found]
        if lost or not found:
            raise SensorError("vcgencmd does not tell {}".format(lost[0]) if found else problem(self.system, said))
        return [Reading(rail, t, watts(found[rail], rail)) for rail in self.rails or found]

    def _ask(self) -> str:
        return self.system.ask("vcgencmd", "pmic_read_adc")


SENSOR = Pi5Pmic
