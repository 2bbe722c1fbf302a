"""Power meters outside of the devices, read on this machine while a launch runs, and what relates this clock to the device's."""

import time
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from agent import sensors
from agent.power import METER, SENSOR, PowerTrace, Sampler
from agent.schema import FaultError, dump, load
from agent.sensors import SensorError
from agent.system import System
from controller import redaction
from controller.collect import Collected, Samples
from controller.inventory import Meter
from controller.remote import Remote

ROUND_TRIPS = 20
MOST_FAILED = 0.1  # of a meter's readings, for what is left to cover a window
CLOCK_OFFSET, CLOCK_ERROR = f"{METER}_clock_offset_s", f"{METER}_clock_error_s"


@dataclass(frozen=True, slots=True)
class Offset:
    """By how much a device's monotonic clock is ahead of this machine's, in seconds: from `low_s` to `high_s`."""

    low_s: float
    high_s: float

    @property
    def middle_s(self) -> float:
        """The best estimate."""
        return (self.low_s + self.high_s) / 2

    @property
    def error_s(self) -> float:
        """By how much the estimate may be off."""
        return (self.high_s - self.low_s) / 2

    def until(self, later: "Offset") -> "Offset":
        """What holds at every time between the two, however far the clocks drifted apart, if they did so in one direction."""
        return Offset(min(self.low_s, later.low_s), max(self.high_s, later.high_s))


def compare(remote: Remote) -> Offset:
    """Ask a device for its time again and again; the shortest round trip bounds the offset best. Raises FaultError."""
    found: list[Offset] = []
    asked_s = time.monotonic()
    for there_s in remote.clock(ROUND_TRIPS):
        found.append(Offset(there_s - time.monotonic(), there_s - asked_s))
        asked_s = time.monotonic()
    return min(found, key=lambda offset: offset.error_s)


def options(meter: Meter) -> dict[str, Any]:
    """Give what a meter's driver has to know, its password among it: not to be stored or shown. Raises FaultError `meter_lost`."""
    told = meter.model_dump(exclude={"driver", "token"})
    if meter.token is None:
        return told
    password = _secret(meter.token)
    redaction.learn(f"{meter.user}:{password}")  # as Basic sends it
    return {**told, "password": password}


def _secret(token: str) -> str:
    try:
        return redaction.reveal(token)
    except ValueError as error:
        raise FaultError("meter_lost", str(error), "mend `token` of the meter, or export the variable before the run") from None


class Readings:
    """What a meter reads inside of a `with` block, in a thread; one that cannot be read costs nothing but its energy."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._problem = ""
        self._sampler: Sampler | None = None

    def __enter__(self) -> Self:
        try:
            self._sampler = Sampler(System("/"), self._meter.driver, options(self._meter))
            self._sampler.start()
        except FaultError as error:
            self._problem = error.fault.message
        return self

    def __exit__(self, *_: object) -> None:
        if self._sampler is not None:
            self._sampler.stop()

    def added_to(self, collected: Collected, offset: Offset) -> Collected:
        """What a launch told, the readings with it: on this machine's clock, with the offset of the device's."""
        columns = self._sampler.columns() if self._sampler else ()
        samples = [Samples(metric.replace(SENSOR, METER, 1), unit, np.array(values)) for metric, unit, values in columns]
        samples += [Samples(CLOCK_OFFSET, "s", np.array([offset.middle_s])), Samples(CLOCK_ERROR, "s", np.array([offset.error_s]))]
        trace = self._sampler.trace() if self._sampler else _unread(self._meter, self._problem)
        return replace(_with(collected, trace), samples=collected.samples | {one.metric: one for one in samples})


def unmetered(collected: Collected, meter: Meter, problem: str) -> Collected:
    """What a launch told, and why nobody read its meter."""
    return _with(collected, _unread(meter, problem))


def lost(collected: Collected) -> str:
    """Give why a launch has no energy from a meter that was read, as far as its readings are lost; empty if they are not."""
    if CLOCK_OFFSET not in collected.samples:
        return ""
    trace: PowerTrace = load(PowerTrace, collected.details[METER])
    return trace.problem if trace.failed >= MOST_FAILED * trace.reads else ""


def _with(collected: Collected, trace: PowerTrace) -> Collected:
    return replace(collected, details={**collected.details, METER: dump(trace)})


def _unread(meter: Meter, problem: str) -> PowerTrace:
    return PowerTrace(meter.driver, meter.boundary, sensors.POWER, [], meter.period_s, [], problem, 0, 0, {})


def read(meter: Meter) -> float:
    """Give the power in W that a meter shows now. Raises FaultError `meter_lost`."""
    sensor = sensors.get(meter.driver)(System("/"), options(meter))
    problem = sensor.probe().problem
    try:
        if not problem:
            return sensor.read()[0].value
    except SensorError as error:
        problem = str(error)
    raise FaultError("meter_lost", problem, f"see whether {meter.url} answers from this machine; mend `meters` in inventory.yaml")
