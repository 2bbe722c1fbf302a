"""What the supervisor sees of the device during a launch, about once a second, kept in memory until the window is over.

Only files are read, whose names are looked up once.
"""

import time
from typing import Callable, Dict, List, NamedTuple, Optional

from agent import conditions, throttling
from agent.schema import Measurement
from agent.system import System

PERIOD_S = 1.0
MAX_READINGS = 4096  # beyond it every second one is dropped, and the period doubles


class Moment(NamedTuple):
    """One reading: monotonic time, the fastest processor's clock, the hottest sensor, free memory; None where it cannot be read."""

    t: float
    clock_hz: Optional[float]
    temp_c: Optional[float]
    memory_available_bytes: Optional[int]


UNITS = {"clock_hz": "Hz", "temp_c": "degC", "memory_available_bytes": "B"}


class Recorder:
    """Reads the system below `root` whenever it is `due_s`; `begin` and `end` tell it of the measured window."""

    def __init__(self, root: str = "/", clock: Callable[[], float] = time.monotonic) -> None:
        self.root = root
        self.peaks_c: Dict[str, float] = {}
        self._system = System(root)
        self._clock = clock
        self._period_s = PERIOD_S
        self._next = clock()
        self._moments: List[Moment] = []
        self._window: List[float] = []

    def due_s(self) -> float:
        """Return in how many seconds the next reading is due."""
        return max(0.0, self._next - self._clock())

    def read_if_due(self) -> None:
        """Take a reading if it is time for one."""
        now = self._clock()
        if now >= self._next:
            self._next = now + self._period_s
            self._read(now)

    def begin(self) -> None:
        """Note that the measured window has begun, and take its first reading."""
        self._window = [self._clock()]
        self._next = self._window[0]
        self.read_if_due()

    def end(self) -> None:
        """Note that the measured window is over."""
        self._window = [*self._window[:1], self._clock()]

    def _read(self, now: float) -> None:
        heat = throttling.readings(self._system)
        clocks = [clock for name, clock in conditions.clocks(self._system).items() if name.startswith("cpu")]
        free = conditions.memory_bytes(self.root, "MemAvailable")
        self._moments.append(Moment(now, max(clocks, default=None), max((one.temp_c for one in heat), default=None), free))
        if len(self._window) == 1:
            for one in heat:
                self.peaks_c[one.name] = max(one.temp_c, self.peaks_c.get(one.name, one.temp_c))
        if len(self._moments) > MAX_READINGS:
            self._moments, self._period_s = self._moments[::2], self._period_s * 2

    def series(self) -> List[Measurement]:
        """Return trace_X and the times it was read at, trace_X_t_s in seconds from the window's begin, for each X that could be read.

        Nothing for a launch that never came to its window.
        """
        found: List[Measurement] = []
        for name, unit in UNITS.items() if self._window else ():
            read = [moment for moment in self._moments if getattr(moment, name) is not None]
            if read:
                found.append(Measurement("trace_" + name, unit, [float(getattr(moment, name)) for moment in read]))
                found.append(Measurement("trace_" + name + "_t_s", "s", [moment.t - self._window[0] for moment in read]))
        return found
