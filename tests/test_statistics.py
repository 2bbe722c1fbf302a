"""The statistics agree with closed forms, with published tables and with scipy, and the interval covers what it says it covers."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats
from simulated_fleet import SERVICES, fleet

from reports.statistics import (
    compare,
    log_interval,
    mean_interval,
    paired_change,
    percentile,
    proportion_interval,
    smallest_sample,
)


@pytest.mark.parametrize(("quantile", "n"), [(0.5, 5), (0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2995)])
def test_a_percentile_needs_the_n_of_the_document(quantile: float, n: int) -> None:
    """n is the least for which all samples lie below the quantile with a probability of at most 5 %."""
    assert smallest_sample(quantile) == n
    assert quantile**n <= 0.05 < quantile ** (n - 1)


@pytest.mark.parametrize("quantile", ["0.5", "0.9", "0.95", "0.99"])
def test_a_percentile_is_the_nearest_rank(quantile: str) -> None:
    """For every n up to 700 it is the sample of rank ceil(n * quantile) in exact arithmetic: no interpolation, no rounding error."""
    generator = np.random.default_rng(1)
    for n in range(1, 701):
        rank = math.ceil(n * Fraction(quantile))
        assert percentile(generator.permutation(np.arange(1.0, n + 1)), float(quantile)) == rank


def test_the_interval_of_a_mean_is_students() -> None:
    """Five values give mean +- 2.776 s / sqrt 5 (the table's t for 4 degrees of freedom), as scipy has it; two values give none."""
    values = [9.8, 10.1, 10.4, 9.9, 10.3]
    found = mean_interval(values)
    assert found is not None
    assert (found.high - found.low) / 2 == pytest.approx(2.776 * np.std(values, ddof=1) / math.sqrt(5), rel=1e-3)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 4, np.mean(values), stats.sem(values)))
    assert mean_interval(values[:2]) is None


def test_the_log_interval_does_not_depend_on_the_unit() -> None:
    """The interval in milliseconds is that in seconds times 1000, it is positive, and a zero has none."""
    seconds = [0.010, 0.013, 0.011]
    one, other = log_interval(seconds), log_interval([1000 * value for value in seconds])
    assert one is not None
    assert other is not None
    assert (other.low, other.high) == pytest.approx((1000 * one.low, 1000 * one.high))
    assert 0 < one.low < np.exp(np.mean(np.log(seconds))) < one.high
    assert log_interval([0.0, 1.0, 2.0]) is None
    assert log_interval([]) is None


@pytest.mark.parametrize(("paired", "test"), [(False, lambda x, y: stats.ttest_ind(x, y, equal_var=False)), (True, stats.ttest_rel)])
def test_a_comparison_is_scipys_on_logs(paired: bool, test: Callable[..., Any]) -> None:
    """Ratio, interval and p-value equal those of scipy's Welch and paired t tests on the logarithms."""
    generator = np.random.default_rng(2)
    first, second = np.exp(generator.normal(0.2, 0.05, 6)), np.exp(generator.normal(0, 0.1, 6))
    found, known = compare(first.tolist(), second.tolist(), paired=paired), test(np.log(first), np.log(second))
    interval = known.confidence_interval()
    assert found is not None
    assert found.p == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert found.ratio == pytest.approx(math.exp(np.mean(np.log(first)) - np.mean(np.log(second))))


def test_launches_without_any_spread_compare_without_warnings() -> None:
    """Equal constants have ratio 1 and p 1; different ones are different for certain; fewer than three or no numbers are not compared."""
    same, other = compare([2.0] * 3, [2.0] * 3, paired=False), compare([4.0] * 3, [2.0] * 3, paired=True)
    assert same is not None
    assert other is not None
    assert (same.ratio, same.low, same.high, same.p) == (1, 1, 1, 1)
    assert (other.ratio, other.p) == (pytest.approx(2), 0)
    assert compare([1.0, 2.0], [1.0, 2.0, 3.0], paired=False) is None
    for wrong in (0.0, -1.0, math.inf, math.nan):
        assert compare([1.0, 2.0, wrong], [1.0, 2.0, 3.0], paired=False) is None


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (7, 10), (10, 10), (912, 1000)])
def test_the_interval_of_a_share_is_wilsons(successes: int, n: int) -> None:
    """It equals scipy's Wilson interval, also for none and for all."""
    known = stats.binomtest(successes, n).proportion_ci(method="wilson")
    found = proportion_interval(successes, n)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))


def test_the_change_of_accuracy_is_paired() -> None:
    """1 gained and 7 lost of 21, table V of Fagerland et al., change the share by -6/21, from -0.508 to -0.013 (worked by hand)."""
    reference, variant = np.ones(21), np.ones(21)
    reference[0] = 0
    variant[10:17] = 0
    change, interval = paired_change(reference, variant)
    assert change == pytest.approx(-6 / 21)
    assert (interval.low, interval.high) == pytest.approx((-0.508, -0.013), abs=5e-4)


def test_equal_answers_still_leave_doubt() -> None:
    """No sample that changed sides gives change 0 with an interval around it that is not empty and narrows with n."""
    widths = []
    for n in (100, 1000):
        change, interval = paired_change(np.ones(n), np.ones(n))
        assert change == 0
        assert interval.low == -interval.high < 0
        widths.append(interval.high)
    assert widths[1] < widths[0] / 5


@pytest.mark.parametrize("quantile", [0.5, 0.9])
@pytest.mark.parametrize("name", SERVICES)
def test_the_interval_over_launches_covers_the_truth(name: str, quantile: float) -> None:
    """Of 2,000 simulated cells of five launches 93 to 97 % have the true percentile in the interval that the table gives them."""
    truth = SERVICES[name].percentile(quantile)
    found = [metrics[f"latency_p{100 * quantile:.0f}_s"] for metrics in fleet(name)]
    covered = sum(row.low is not None and row.high is not None and row.low <= truth <= row.high for row in found)
    assert len(found) == 2000
    assert 0.93 <= covered / len(found) <= 0.97
