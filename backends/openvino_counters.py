"""OpenVINO's performance counters on the CPU: whole microseconds on average over all inferences since the load, the slow first ones too.

Seen in 2026.4: the counters of a model whose first inference took 474 us fell as 474/n. Other plugins tell of the last inference.
"""

from typing import Callable, List, NamedTuple

from backends import Operation


class Counter(NamedTuple):
    """An operation with its average so far; not `executed` are those that do not run, and those of less than 1 us."""

    operation: Operation
    executed: bool


class Averages:
    """Counts a session's inferences, and gives the operations' averages over those from `begin` to `end`."""

    def __init__(self, infer: Callable[[], None], read: Callable[[], List[Counter]]) -> None:
        self._infer, self._read = infer, read
        self._ran = self._before = 0
        self._first = []  # type: List[Counter]
        self._counters = []  # type: List[Counter]

    def infer(self) -> None:
        """Run the inference, and count it."""
        self._infer()
        self._ran += 1
        if self._ran == 1:
            self._first = self._read()

    def begin(self) -> None:
        """Note what has been counted so far."""
        self._before, self._counters = self._ran, self._read()

    def end(self) -> List[Operation]:
        """Return the operations with their averages since `begin`, to about 1.5 us; those that took 1 us in the first inference."""
        count = max(1, self._ran - self._before)
        return [
            now.operation._replace(seconds=max(0.0, (_total(now, self._ran) - _total(then, self._before)) / count))
            for first, then, now in zip(self._first, self._counters, self._read())
            if first.executed or now.executed
        ]


def _total(counter: Counter, inferences: int) -> float:
    return (counter.operation.seconds or 0.0) * inferences
