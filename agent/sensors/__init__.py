"""The seam between fleetmark and a power sensor: one module for each, which exposes its class as ``SENSOR``.

Sensors only read. What they read is hostile until checked: a reading that is no plausible number is an error, never a number.
"""

import importlib
import math
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Type

from agent.schema import FaultError
from agent.system import System, clean

NAMES = ("ina3221", "ina2xx", "pi5_pmic", "rapl", "nvml", "command", "csv_log")
# Those outside of the devices, which the controller reads.
METERS = ("shelly", "tasmota")
METER_PERIOD_S = 1.0  # how often they measure
METER_TIMEOUT_S = 0.5  # for a connection, and again for the whole of an answer
# What the inventory may call them beside their own names.
ALIASES = {
    "jetson": "ina3221",
    "csv": "csv_log",
    **dict.fromkeys(("ina219", "ina220", "ina226", "ina230", "ina231", "ina260"), "ina2xx"),
}
BOUNDARIES = ("wall", "board", "soc", "rail", "stick", "none")
POWER, ENERGY = "power", "energy"
MAX_POWER_W = 10000.0


class SensorError(Exception):
    """Why a sensor gave no reading, in one line."""


class Reading(NamedTuple):
    """What one rail said at time `t` (monotonic seconds): watts, or the joules of a counter."""

    rail: str
    t: float
    value: float


class Found(NamedTuple):
    """What a sensor is made of: its rails, those of them whose sum is the whole of its boundary, and why it cannot be read, if so.

    Without a total every rail stands for itself and the boundary is `rail`. `ranges_j`: where a rail's counter wraps. `details`: what a
    person has to know to believe it, such as the shunt.
    """

    scope: str
    rails: List[str]
    total: Tuple[str, ...]
    problem: str
    ranges_j: Dict[str, float]
    details: Dict[str, str]


class PowerSensor:
    """One sensor of the system: power in W or an energy counter in J, as `kind` says; `period_s` is how often reading it makes sense.

    `options` is what the inventory says of it; `boundary` there overrides the sensor's own.
    """

    name = ""
    scope = "rail"
    kind = POWER
    period_s = 0.1

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        self.system = system
        self.options = options

    def probe(self) -> Found:
        """Return what it is made of; never raises."""
        raise NotImplementedError

    def read(self) -> List[Reading]:
        """Return a reading of every rail that gave one, none where there is nothing new; raises SensorError."""
        raise NotImplementedError


def get(name: str) -> Type[PowerSensor]:
    """Return the class of the sensor called `name`; raises FaultError for a name nobody has."""
    module = ALIASES.get(name, name)
    if module not in (*NAMES, *METERS):
        known = ", ".join(sorted((*NAMES, *METERS, *ALIASES)))
        raise FaultError("meter_lost", "no power sensor is called {!r}".format(clean(name)), "use one of {}".format(known), "power")
    return importlib.import_module("agent.sensors." + module).SENSOR  # type: ignore[no-any-return]


def missing(scope: str, problem: str) -> Found:
    """Return what is found of a sensor that is not there."""
    return Found(scope, [], (), problem, {}, {})


def watts(value: Optional[float], what: str) -> float:
    """Return a power that is a plausible one, raise SensorError for any other."""
    if value is None or not math.isfinite(value) or not 0 <= value < MAX_POWER_W:
        raise SensorError("{}: {}".format(what, "no number" if value is None else "{:g} W is no power".format(value)))
    return value
