"""About how long a run still takes: by the launches that it has measured, before those by its plan."""

import statistics
import time
from collections.abc import Iterable, Mapping


class Estimate:
    """Lanes run at the same time, so that the longest counts. `planned_s` are the seconds of a launch by cell id."""

    def __init__(self, planned_s: Mapping[str, float] | None = None) -> None:
        self._planned_s = dict(planned_s or {})
        self._took_s: dict[str, list[float]] = {}
        self._lanes: dict[str, tuple[float, float]] = {}  # by lane: what it still had to do, and when

    def plan(self, planned_s: Mapping[str, float], lanes: Mapping[str, Iterable[str]]) -> None:
        """Begin with the plan: the seconds of a launch by cell id, and for each lane its launches' cells."""
        self._planned_s.update(planned_s)
        for lane, cells in lanes.items():
            self.has_left(lane, cells)

    def took(self, cell: str, seconds: float) -> None:
        """Note a launch."""
        self._took_s.setdefault(cell, []).append(seconds)

    def launch_s(self, cell: str) -> float:
        """Give the median of the cell's launches; before there are any, what the plan says."""
        return statistics.median(self._took_s[cell]) if cell in self._took_s else self._planned_s.get(cell, 0.0)

    def has_left(self, lane: str, cells: Iterable[str]) -> None:
        """Note what a lane has to do still: the cells of its launches, each as often as it is launched."""
        self._lanes[lane] = (sum(map(self.launch_s, cells)), time.monotonic())

    def left_s(self) -> float:
        """Give about how many seconds are left."""
        now = time.monotonic()
        return max((max(0.0, left_s - (now - at_s)) for left_s, at_s in list(self._lanes.values())), default=0.0)
