"""Empirical distributions of latencies, with few points and whole tails."""

import math

import numpy as np
from numpy.typing import NDArray

from reports.figures import counted
from reports.records import CellRecord

MOST_POINTS = 200


def latencies(record: CellRecord) -> NDArray[np.float64]:
    """The latencies in s of the launches that the cell's numbers rest on, pooled and in order of size; empty where there are none."""
    return np.sort(np.concatenate([np.empty(0), *(launch.values.get("latency_s", np.empty(0)) for launch in counted(record))]))


def ecdf(ordered: NDArray[np.float64], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """(value, share of values not above it) at no more than `most` ranks, the lowest and the highest among them.

    Half of the ranks are evenly apart, half evenly on the scale of log odds, which gives the tails their share. `ordered` is 1-D.
    """
    n = len(ordered)
    if not n:
        return []
    reach = math.log(2 * n)
    odds: NDArray[np.float64] = 1 / (1 + np.exp(-np.linspace(-reach, reach, most // 2)))
    ranks = np.concatenate([np.linspace(0, n - 1, most - most // 2), odds * (n - 1)]) if n > most else np.arange(n)
    kept = np.unique(np.rint(ranks).astype(int))
    return [(float(ordered[at]), float(at + 1) / n) for at in kept]
