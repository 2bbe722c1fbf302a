"""Which variants no other beats, and which one costs a whole fleet the least."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """A variant's figures, all better when smaller: points lost, bytes, seconds (None where nothing is measured, on all points alike)."""

    name: str
    loss_pp: float
    size_bytes: int
    latency_s: float | None = None


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse than `other` and somewhere better."""
    pairs = list(zip(_figures(one), _figures(other), strict=True))
    return all(mine <= theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)


def front(points: Iterable[Point]) -> list[Point]:
    """The Pareto set: the points that none dominates, the smallest first."""
    all_points = list(points)
    kept = [one for one in all_points if not any(dominates(other, one) for other in all_points)]
    return sorted(kept, key=lambda one: (one.size_bytes, one.loss_pp, one.name))


def regrets(latencies_s: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """By variant, the largest ratio over the devices of its latency to that of the device's fastest variant.

    `latencies_s`: by device, then by variant, of those alone that are accurate enough. A variant that was not measured on every device has
    no regret.
    """
    by_device = [found for found in latencies_s.values() if found]
    everywhere: Sequence[str] = [name for name in by_device[0] if all(name in found for found in by_device)] if by_device else []
    return {name: max(found[name] / min(found.values()) for found in by_device) for name in everywhere}


def _figures(point: Point) -> tuple[float, ...]:
    figures = (point.loss_pp, float(point.size_bytes))
    return figures if point.latency_s is None else (*figures, point.latency_s)
