"""The median of pair ratios and its 95 % interval."""
# scipy ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median ratio with its 95 % interval; NaN bounds below 6 pairs, where no such interval exists."""

    median: float
    low: float
    high: float
    pairs: int

    def is_narrower(self, share: float) -> bool:
        """Tell whether both bounds are within `share` of the median."""
        return max(self.high / self.median - 1, 1 - self.low / self.median) < share

    def is_inside(self, low: float, high: float) -> bool:
        """Tell whether the whole interval lies inside [low, high]."""
        return low <= self.low and self.high <= high


def median_ratio(ratios: Sequence[float]) -> Ratio:
    """Give the median of one ratio a pair, and the interval between two of the sorted ratios (order statistics).

    It assumes nothing of how the ratios are spread, and a disturbed pair moves it by one rank at most. Source: W. J. Conover, Practical
    Nonparametric Statistics (1999), 3.2, by scipy. Raises ValueError without a pair.

    (Tried: stopping at the first of 30 to 400 pairs where it is narrower than 1 %, it covers 93 to 95 % of 2,000 simulated runs, the
    ratios' logs normal with a deviation of 2 or 5 %, Laplace, Student with 2 degrees of freedom, or bimodal.)
    """
    from scipy.stats import quantile_test

    if not ratios:
        raise ValueError("no pairs")
    values = sorted(ratios)
    middle = len(values) // 2
    median = values[middle] if len(values) % 2 else math.sqrt(values[middle - 1] * values[middle])
    found = quantile_test(values, q=1, p=0.5).confidence_interval(CONFIDENCE)
    return Ratio(median, float(found.low), float(found.high), len(values))
