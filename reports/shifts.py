"""What else than the headline changed between two runs of a cell: accuracy, energy, memory and size, beyond what their intervals allow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports import format as fmt
from reports.comparison import NO_FLOORS, Floors, Judgement, judge
from reports.figures import Quality
from reports.metrics import METRICS, QUALITIES
from reports.statistics import CONFIDENCE, Interval, adjusted_p, paired_change, resampled_interval
from reports.table import Row

JUDGED = ("energy_gross_j", "energy_net_j", "meter_energy_gross_j", "meter_energy_net_j", "peak_memory_bytes")
"""By one statistic a launch, as the headline is."""
EXACT = ("size_bytes", "accelerator_operation_share")
SCORES = ("accuracy", *QUALITIES)


@dataclass(frozen=True, slots=True)
class Shift:
    """A metric of a cell that is worse in the new run, or better; `change` is by how much, as people read it, empty where sizes say it."""

    base: Row
    new: Row
    worse: bool
    change: str

    def __str__(self) -> str:
        metric = METRICS[self.new.metric].label
        by = f", {self.change}" if self.change else ""
        return f"{metric} {fmt.value(self.base.metric, self.base.value)} → {fmt.value(self.new.metric, self.new.value)}{by}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A cell's rows by metric and what its accuracy rests on, in both runs."""

    base: Mapping[str, Row]
    new: Mapping[str, Row]
    scores: tuple[Quality | None, Quality | None] = (None, None)


def shifts(pairs: Sequence[Pair], floors: Floors = NO_FLOORS) -> list[tuple[Shift, ...]]:
    """The shifts of each pair, those for the worse first.

    Energy and memory: by rule 11, their p-values adjusted over all of `pairs`. Accuracy and other scores: the paired interval of the change
    excludes 0 where both runs have as many samples, else the two intervals have nothing in common. Sizes: any difference.
    """
    judged = [_judged(pair, floors) for pair in pairs]
    resolved = iter(_resolved([found for each in judged for *_, found in each]))
    found = [[*_scored(pair), *_exact(pair), *_shifted(each, resolved)] for pair, each in zip(pairs, judged, strict=True)]
    return [tuple(sorted(each, key=lambda shift: not shift.worse)) for each in found]


def ratio_change(metric: str, judgement: Judgement) -> tuple[str, str]:
    """By how much the metric itself changed, as a share of the base, and its interval: +10 % and +8.1 % to +12 %; both empty for none."""
    found = judgement.comparison
    if found is None:
        return "", ""
    lower = METRICS[metric].better == "lower"
    ratio, low, high = (found.ratio, found.low, found.high) if lower else (1 / found.ratio, 1 / found.high, 1 / found.low)
    return _signed(ratio), f"{_signed(low)} to {_signed(high)}"


def _signed(ratio: float) -> str:
    """A ratio as what it adds or takes away, two significant digits."""
    share = ratio - 1
    shown = fmt.percent(abs(share))
    return "0 %" if shown.startswith("below") or not share else f"{'+' if share > 0 else '-'}{shown}"


def _judged(pair: Pair, floors: Floors) -> list[tuple[Row, Row, Judgement]]:
    both = [(pair.base[metric], pair.new[metric]) for metric in JUDGED if metric in pair.base and metric in pair.new]
    return [(base, new, judge(new, base, floors)) for base, new in both]


def _resolved(judgements: Sequence[Judgement]) -> Iterator[bool]:
    """For each whether it stands after the adjustment."""
    adjusted = iter(adjusted_p([found.comparison.p for found in judgements if found.comparison]))
    return (found.comparison is not None and next(adjusted) <= 1 - CONFIDENCE for found in judgements)


def _shifted(judged: Sequence[tuple[Row, Row, Judgement]], resolved: Iterator[bool]) -> Iterator[Shift]:
    for base, new, found in judged:
        if next(resolved) and found.verdict in ("slower", "faster"):
            yield Shift(base, new, found.verdict == "slower", "{} ({})".format(*ratio_change(new.metric, found)))


def _exact(pair: Pair) -> Iterator[Shift]:
    for metric in EXACT:
        base, new = pair.base.get(metric), pair.new.get(metric)
        if base and new and base.value is not None and new.value is not None and base.value != new.value:
            grew = new.value > base.value
            yield Shift(base, new, grew == (METRICS[metric].better == "lower"), "")


def _scored(pair: Pair) -> Iterator[Shift]:
    for metric in SCORES:
        base, new = pair.base.get(metric), pair.new.get(metric)
        if base is None or new is None or base.value is None or new.value is None:
            continue
        span = _paired(metric, *pair.scores)
        if span is not None:
            if not span.low <= 0 <= span.high:
                yield Shift(base, new, span.high < 0, _points(new.value - base.value, span))
        elif _are_apart(base, new):
            yield Shift(base, new, new.value < base.value, "intervals apart")


def _points(change: float, span: Interval) -> str:
    metric, points = "accuracy_change_pp", 100 * change
    return f"{fmt.value(metric, points)} ({fmt.interval(metric, points, 100 * span.low, 100 * span.high)})"


def _paired(metric: str, base: Quality | None, new: Quality | None) -> Interval | None:
    """The interval of the change over the same samples, taken to be so where both runs have as many; None where they have not.

    Were they others, the interval would be wider, not wrong: samples that have nothing in common disagree more often.
    """
    if base is None or new is None or {base.metric, new.metric} != {metric} or len(base.values) != len(new.values):
        return None
    return paired_change(base.values, new.values)[1] if metric == "accuracy" else resampled_interval((new.values - base.values)[1:])


def _are_apart(base: Row, new: Row) -> bool:
    if base.low is None or base.high is None or new.low is None or new.high is None:
        return False
    return new.high < base.low or new.low > base.high
