"""What a device did, as it told, on the controller's clock."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

NO_PHASE = "details"  # what a runtime tells of itself comes between phases, as if it were one


class Step(NamedTuple):
    """A phase as it was heard of: when, and the device's clock if the device told it."""

    name: str
    heard_s: float
    clock_s: float | None


@dataclass(slots=True)
class Span:
    """What a track does: one phase, or a launch with its phases."""

    begin_s: float
    name: str = ""  # of a launch
    args: dict[str, str] = field(default_factory=dict[str, str])
    steps: list[Step] = field(default_factory=list[Step])


def placed(steps: Sequence[Step], end_s: float) -> Iterator[tuple[Step, float, float]]:
    """Give each step with its begin and end on our clock: in order, none before the first was heard of, none after it was itself."""
    clocks = [(step.heard_s, step.clock_s) for step in steps if step.clock_s is not None and math.isfinite(step.clock_s)]
    offset_s = min((heard_s - clock_s for heard_s, clock_s in clocks), default=0.0)
    kept, begins = [step for step in steps if step.name != NO_PHASE], list[float]()
    for step in kept:
        told_s = step.heard_s if step.clock_s is None else step.clock_s + offset_s
        begins.append(max(begins[-1] if begins else steps[0].heard_s, min(told_s, step.heard_s)))
    for step, (begin_s, until_s) in zip(kept, pairwise([*begins, end_s]), strict=True):
        yield step, begin_s, until_s
