"""What may be said of samples: percentiles that n allows, 95 % intervals over launches, comparisons, proportions.

The launch is the replicate, because iterations inside one launch are correlated: intervals and comparisons take one number a launch.
"""
# scipy ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
FEWEST_LAUNCHES = 3


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval in the unit of its value."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`ratio` of two geometric means with its 95 % interval, the standard error of its logarithm, and the two-sided p-value of ratio 1."""

    ratio: float
    low: float
    high: float
    error: float
    p: float


def smallest_sample(quantile: float) -> int:
    """How many samples put the quantile below the largest of them with 95 % confidence: the least n with quantile**n <= 0.05.

    Source: W. J. Conover, Practical Nonparametric Statistics (1999), one-sided tolerance limits; p90 29, p95 59, p99 299, p99.9 2995.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(quantile))


def percentile(samples: NDArray[np.float64], quantile: float) -> float:
    """The smallest sample that at least the share `quantile` of all samples does not exceed: nearest rank, no interpolation.

    Source: Hyndman and Fan, Sample Quantiles in Statistical Packages (1996), definition 1. `samples` is 1-D and not empty.
    """
    return percentiles(samples, [quantile])[0]


def percentiles(samples: NDArray[np.float64], quantiles: Sequence[float]) -> list[float]:
    """`percentile` for each of `quantiles`, in one pass over the samples."""
    found: list[float] = np.quantile(samples, quantiles, method="inverted_cdf").tolist()
    return found


def mean_interval(values: Sequence[float]) -> Interval | None:
    """The interval of the mean by Student's t with len(values) - 1 degrees of freedom; None below 3 values or if one is not finite.

    Source: Student, The Probable Error of a Mean (1908).
    """
    if len(values) < FEWEST_LAUNCHES or not np.isfinite(values).all():
        return None
    mean = float(np.mean(values))
    half = _t_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean - half, mean + half)


def log_interval(values: Sequence[float]) -> Interval | None:
    """`mean_interval` on the log scale, back on the values' own: for latencies, rates and ratios. None if a value is not positive."""
    if min(values, default=0) <= 0:
        return None
    logs = mean_interval(np.log(values).tolist())
    return logs and Interval(math.exp(logs.low), math.exp(logs.high))


def compare(first: Sequence[float], second: Sequence[float], *, paired: bool) -> Comparison | None:
    """How many times `first` is `second`, both given as one statistic a launch.

    None below 3 launches on either side, or if a statistic is not positive and finite. Welch's t on logs, which needs no equal variances;
    where launches are paired (same length, same order) Student's t on the differences of logs, whose one variance is what is left of
    both: the drift that a pair shares is not in it.
    Source: B. L. Welch, The Generalization of Student's Problem (1947), with the degrees of freedom of Satterthwaite (1946); Student, The
    Probable Error of a Mean (1908), whose illustrations compare pairs.
    """
    if min(len(first), len(second)) < FEWEST_LAUNCHES or not all(0 < value < math.inf for value in (*first, *second)):
        return None
    x, y = np.log(first), np.log(second)
    difference = float(np.mean(x) - np.mean(y))
    if paired:
        error, freedom = float(np.std(x - y, ddof=1)) / math.sqrt(len(x)), float(len(x) - 1)
    else:
        error, freedom = _welch(float(np.var(x, ddof=1)) / len(x), len(x), float(np.var(y, ddof=1)) / len(y), len(y))
    half = _t_quantile(freedom) * error
    ratios = (math.exp(difference), math.exp(difference - half), math.exp(difference + half))
    return Comparison(*ratios, error, _two_sided_p(difference, error, freedom))


def adjusted_p(values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, in their order, each adjusted for all: at most 0.05 keeps 5 % false ones among those found.

    Source: Benjamini and Hochberg, Controlling the False Discovery Rate (1995).
    """
    from scipy.stats import false_discovery_control

    return false_discovery_control(values).tolist() if values else []


def proportion_interval(successes: int, n: int) -> Interval:
    """The interval of a share of n > 0 independent samples; source: E. B. Wilson, Probable Inference (1927), the score interval."""
    z = _normal_quantile()
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def paired_change(reference: NDArray[np.float64], variant: NDArray[np.float64]) -> tuple[float, Interval]:
    """The change of a share over the same samples (0 or 1 each, 1-D, same length and order), with its interval.

    Source: Bonett and Price, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired Data (2012),
    one of the two recommended by Fagerland, Lydersen and Laake (2014); like McNemar's test it rests on the discordant samples alone,
    and it does not collapse to nothing when there are none.
    """
    n = len(reference)
    gained = int(np.count_nonzero(variant > reference))
    lost = int(np.count_nonzero(variant < reference))
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = _normal_quantile() * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return (gained - lost) / n, Interval(max(-1.0, up - down - half), min(1.0, up - down + half))


def resampled_interval(values: NDArray[np.float64]) -> Interval | None:
    """The interval that holds 95 % of a statistic's values over bootstrap draws; None without draws.

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife (1979), the percentile method.
    """
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _welch(first: float, count_first: int, second: float, count_second: int) -> tuple[float, float]:
    """(standard error, degrees of freedom) of a difference of means whose squared standard errors are `first` and `second`."""
    if first + second == 0:
        return 0.0, float(count_first + count_second - 2)
    freedom = (first + second) ** 2 / (first**2 / (count_first - 1) + second**2 / (count_second - 1))
    return math.sqrt(first + second), freedom


def _two_sided_p(difference: float, error: float, freedom: float) -> float:
    from scipy.special import stdtr  # CDF of Student's t

    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return 2 * float(stdtr(freedom, -abs(difference) / error))


def _t_quantile(freedom: float) -> float:
    from scipy.special import stdtrit  # inverse CDF of Student's t

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _normal_quantile() -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + CONFIDENCE) / 2))
