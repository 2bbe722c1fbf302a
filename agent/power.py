"""Samples a power sensor in a thread of its own: readings stay in memory until the measuring is over."""

import hashlib
import os
import sys
import threading
import time
from array import array
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from agent import sensors
from agent.schema import FaultError, Measurement, SampleFile, dump
from agent.sensors import BOUNDARIES, Found, PowerSensor, SensorError
from agent.system import System, clean

SENSOR, METER = "power", "meter"  # how the raw values of a device's own sensor are called, and those of a meter outside of it
MAX_ROWS = 100000
MAX_RAILS = 16
STOPS_WITHIN_S = 1.0
REST_S = 0.5  # from the worker's end, or from the launch's begin, until the device counts as idle
IDLE_S = 3.0
STEP_S = 0.05


class PowerTrace(NamedTuple):
    """What belongs to the readings of one sensor: `rails` names the columns, which together are the boundary.

    `kind` is power (files in microwatts) or energy (a counter, in microjoules, that wraps at `ranges_j`). `problem` is what the sensor
    last said instead of a reading, empty if it never did. `reads` were tried, `failed` of them gave nothing that is a reading.
    """

    driver: str
    boundary: str
    kind: str
    rails: List[str]
    period_s: float
    ranges_j: List[float]
    problem: str
    reads: int
    failed: int
    details: Dict[str, str]


class Sampler:
    """Reads the sensor called `driver` at its own rate from `start` to `stop`; a sensor that hangs holds nobody up."""

    def __init__(self, system: System, driver: str, options: Dict[str, Any]) -> None:
        self.system = system
        self.driver = driver
        self.options = options
        self.boundary = str(options.get("boundary") or "")
        self._sensor: Optional[PowerSensor] = None
        self._found: Optional[Found] = None
        self._rails: List[str] = []
        self._rows: List[Tuple[int, List[int]]] = []
        self._problem = ""
        self._reads = self._failed = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def start(self) -> None:
        """Begin to look for the sensor and to read it."""
        self._thread.start()

    def stop(self) -> None:
        """Let a reading that is under way end, for STOPS_WITHIN_S; one that does not is told and left alone."""
        self._stopping.set()
        self._thread.join(STOPS_WITHIN_S)
        if self._thread.is_alive():
            self._problem = "the sensor hangs: a reading does not end"

    def is_reading(self) -> bool:
        """Tell whether readings are made, or the sensor is still being looked for."""
        return self._thread.is_alive()

    def trace(self) -> PowerTrace:
        """Return what belongs to the readings."""
        sensor, found, rails = self._sensor, self._found, self._rails
        boundary = self.boundary or (found.scope if found else "none")
        ranges_j = [found.ranges_j.get(rail, 0.0) for rail in rails] if found else []
        period_s, kind = (sensor.period_s, sensor.kind) if sensor else (PowerSensor.period_s, PowerSensor.kind)
        details = found.details if found else {}
        return PowerTrace(self.driver, boundary, kind, rails, period_s, ranges_j, self._problem, self._reads, self._failed, details)

    def columns(self) -> Iterator[Tuple[str, str, "array[int]"]]:
        """Give (metric, unit, int64 values) of the times in ns and of each rail in millionths of W or J; nothing without readings."""
        rows = self._rows[:]
        if not rows:
            return
        unit = "uJ" if self._sensor and self._sensor.kind == sensors.ENERGY else "uW"
        yield "power_t_ns", "ns", array("q", [t for t, _ in rows])
        for at in range(len(self._rails)):
            yield "power_{}_{}".format(at, unit.lower()), unit, array("q", [values[at] for _, values in rows])

    def _run(self) -> None:
        try:
            self._look()
        except (FaultError, OSError, ValueError, TypeError) as error:
            self._problem = clean(str(error))
        if not self._problem:
            self._sample()

    def _look(self) -> None:
        sensor = sensors.get(self.driver)(self.system, self.options)
        found = sensor.probe()
        self._problem = found.problem or self._boundary_problem() or _whole_problem(found)
        self._rails = list(found.total or found.rails)[:MAX_RAILS]
        self._sensor, self._found = sensor, found

    def _boundary_problem(self) -> str:
        return "" if self.boundary in ("", *BOUNDARIES) else "no boundary is called {!r}".format(clean(self.boundary))

    def _sample(self) -> None:
        """Read on time; a reading that came late moves those after it, so that none are made in a burst."""
        assert self._sensor is not None  # noqa: S101 - it was found
        due = time.monotonic()
        while len(self._rows) < MAX_ROWS and not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._sensor.period_s, time.monotonic())
            self._reads += 1
            try:
                self._take(self._sensor)
            except (SensorError, OSError, ValueError) as error:
                self._failed += 1
                self._problem = clean(str(error))

    def _take(self, sensor: PowerSensor) -> None:
        readings = {reading.rail: reading for reading in sensor.read()}
        if not readings:
            return
        lost = [rail for rail in self._rails if rail not in readings]
        if lost:
            raise SensorError("{} gave no reading".format(lost[0]))
        t = sum(readings[rail].t for rail in self._rails) / len(self._rails)
        self._rows.append((int(t * 1e9), [round(readings[rail].value * 1e6) for rail in self._rails]))


def _whole_problem(found: Found) -> str:
    """Why the rails that were found give no power of anything."""
    if found.total or len(found.rails) == 1:
        return ""
    return "its rails are not known to add up: {}".format(clean(", ".join(found.rails)))


class Recording:
    """The sampling of one launch: idle before it, its measured window, idle after it. Without `asked` and `idle_s` nothing happens.

    `asked` is the launch's `power`: the sensor as `driver`, and its options. `cancelled` ends the waiting. `idle_s` is how long the
    device idles each time at least, the first quarter to come to rest, for a meter that somebody else reads.
    """

    def __init__(self, asked: Optional[Dict[str, Any]], root: str, cancelled: Callable[[], bool], idle_s: float = 0.0) -> None:
        self._sampler = None if asked is None else Sampler(System(root), str(asked.get("driver")), asked)
        self._cancelled = cancelled
        self._is_metered = idle_s > 0
        self._rest_s, self._idle_s = max(REST_S, idle_s / 4), max(idle_s * 3 / 4, IDLE_S if asked else 0.0)
        self._spans: Dict[str, List[float]] = {}

    def before(self) -> None:
        """Start, and see the device idle."""
        if self._sampler is not None:
            self._sampler.start()
        self._idle("power_idle_before_s")

    def phase(self, name: str) -> None:
        """Note when the measured window begins and ends."""
        if name == "measure":
            self._spans["power_window_s"] = [time.monotonic()]
        elif name == "measured" and "power_window_s" in self._spans:
            self._spans["power_window_s"].append(time.monotonic())

    def after(self) -> None:
        """See the device idle again if there was a measured window, and stop."""
        if len(self._spans.get("power_window_s", [])) == 2:
            self._idle("power_idle_after_s")
        if self._sampler is not None:
            self._sampler.stop()

    def save(self, folder: str) -> Iterator[Tuple[str, Any]]:
        """Write the readings to `folder` and give the events that tell of them; raises OSError."""
        for metric, span in self._spans.items() if self._is_metered or self._sampler else ():
            if len(span) == 2:
                yield "measure", dump(Measurement(metric, "s", span))
        if self._sampler is not None:
            for event in save(self._sampler, folder):
                yield event

    def _idle(self, metric: str) -> None:
        """Wait while anybody reads; the span begins once the device has come to rest."""
        end = time.monotonic() + self._rest_s
        while time.monotonic() < end and self._waits():
            time.sleep(STEP_S)
        begin = time.monotonic()
        while time.monotonic() < begin + self._idle_s and self._waits():
            time.sleep(STEP_S)
        self._spans[metric] = [begin, time.monotonic()]

    def _waits(self) -> bool:
        is_read = self._is_metered or (self._sampler is not None and self._sampler.is_reading())
        return is_read and not self._cancelled()


def save(sampler: Sampler, folder: str) -> Iterator[Tuple[str, Any]]:
    """Write the readings to `folder` under their sha256 and give the events that tell of them; raises OSError."""
    for metric, unit, values in sampler.columns():
        if sys.byteorder == "big":
            values.byteswap()
        content = values.tobytes()
        sha256 = hashlib.sha256(content).hexdigest()
        with open(os.path.join(folder, sha256), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield "sample", dump(SampleFile(metric, unit, "int64", [len(values)], 1, sha256, len(content)))
    yield "sensor", dump(sampler.trace())
