"""LoadGen's early stopping: how many queries a percentile needs, and which order statistic bounds it, at confidence 0.99.

A query over the true percentile `quantile` has probability 1 - quantile. If so few of n queries are over some latency that at most t of
them would be with probability below 1 - CONFIDENCE, that latency bounds the percentile.
Source: MLPerf Inference LoadGen, loadgen/early_stopping.cc and results.cc (tolerance 0, confidence 0.99).
"""

import math
from typing import Any, Optional

CONFIDENCE = 0.99


def most_overlatency(queries: int, quantile: float) -> int:
    """Return how many of so many queries may be over a latency that bounds the percentile; -1: there are too few queries for any."""
    if queries < 1:
        return -1
    over, probability = -1, 0.0
    while over < queries:
        probability += _share(queries, over + 1, 1 - quantile)
        if probability >= 1 - CONFIDENCE:
            return over
        over += 1
    return over


def smallest_queries(quantile: float) -> int:
    """Return the fewest queries that an estimate needs, the slowest being over it: 64 for p90, 130 for p95, 662 for p99."""
    few, enough = 0, 1
    while most_overlatency(enough, quantile) < 1:
        few, enough = enough, enough * 2
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if most_overlatency(middle, quantile) >= 1 else (middle, enough)
    return enough


def estimate(ordered: Any, quantile: float) -> Optional[float]:
    """Return the latency that bounds the percentile, from all latencies in ascending order; None for fewer than `smallest_queries`."""
    over = most_overlatency(len(ordered), quantile)
    return float(ordered[len(ordered) - over]) if over >= 1 else None


def _share(queries: int, over: int, probability: float) -> float:
    """Return the binomial probability of exactly `over` events, by logarithms: the powers alone would underflow."""
    ways = math.lgamma(queries + 1) - math.lgamma(over + 1) - math.lgamma(queries - over + 1)
    return math.exp(ways + over * math.log(probability) + (queries - over) * math.log1p(-probability))
