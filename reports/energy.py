"""Energy of a measured window from what a power sensor said: the one integrator for all sensors, computed on read from raw readings.

It gives a number or the reason why there is none, never a guess. Boundaries stay apart: every result carries its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FEWEST_SAMPLES = 10  # in the window
FEWEST_IDLE_SAMPLES = 5  # in each idle time
FEWEST_SAME = 10  # readings in a row that may be a stuck sensor
LEAST_COVERAGE = 0.9
LONGEST_GAP = 3.0  # sampling periods without a reading before the time counts as not covered
MOST_POWER_W = 10_000.0
MOST_COUNTED_W = 5_000.0  # a counter that rises faster has jumped, it has not counted

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """A time on the device's monotonic clock, in seconds."""

    begin_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Its length in seconds."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True)
class Trace:
    """Raw readings of one sensor: `values` has a row for each time and a column for each rail; the rails together are the boundary.

    W, or J where `kind` is energy: then `ranges_j` says where each rail's counter wraps, 0 where it does not. `clock_error_s` is by how
    much all times together may be off. `problem` is what the sensor last said instead of a reading.
    """

    source: str
    boundary: str
    kind: Literal["power", "energy"]
    period_s: float
    t_s: Values
    values: Values
    ranges_j: Sequence[float] = ()
    clock_error_s: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Energy:
    """A window's energy within one boundary. `net_j` is what is above idle, None for the reason in `net_refusal`.

    `coverage` is the share of the window with readings. `clock_error_j` and `sampling_error_j` bound the error of `gross_j` that comes
    from the clocks and from what may have happened between two readings (one change, however sudden); `idle_error_j` is by how much
    more `net_j` may be off because idle before and after differ.
    """

    source: str
    boundary: str
    gross_j: float
    average_w: float
    peak_w: float
    coverage: float
    samples: int
    clock_error_j: float
    sampling_error_j: float
    idle_w: float | None = None
    net_j: float | None = None
    idle_error_j: float = 0.0
    net_refusal: str = ""

    @property
    def error_j(self) -> float:
        """By how much `gross_j` may be off."""
        return self.clock_error_j + self.sampling_error_j


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a sensor's readings give no energy."""

    source: str
    boundary: str
    reason: str


class _NoEnergyError(Exception):
    """The reason of a Refusal."""


def aligned(trace: Trace, offset_s: float, bound_s: float) -> Trace:
    """A meter's readings, timed by the laptop, on the device's clock: laptop + `offset_s`, known within `bound_s`."""
    return replace(trace, t_s=trace.t_s + offset_s, clock_error_s=trace.clock_error_s + bound_s)


def integrate(trace: Trace, window: Span, idle: tuple[Span, Span] | None = None) -> Energy | Refusal:
    """The energy of the window, net of the power in the idle times before and after it; or the reason why there is none."""
    try:
        clean = _valid(trace)
        _check_moves(clean, window)
        curve = _curve(clean)
        gross = _gross(clean, curve, window)
    except _NoEnergyError as refusal:
        told = f"; it last said: {trace.problem}" if trace.problem else ""
        return Refusal(trace.source, trace.boundary, f"{refusal}{told}")
    try:
        return _net(gross, curve, window, idle)
    except _NoEnergyError as refusal:
        return replace(gross, net_refusal=str(refusal))


def power_over_time(trace: Trace) -> tuple[Values, Values] | None:
    """(times in s, power in W) of all rails together, of a counter the mean since the reading before; None if there are no readings."""
    try:
        curve = _curve(_valid(trace))
    except _NoEnergyError:
        return None
    return curve.t_s, curve.power_w


def power_at_rate_w(energy: Energy, inferences: float, window: Span, rate_per_s: float) -> float | None:
    """The power at so many inferences a second, with the device idle in between; None without idle, or faster than was measured."""
    if energy.net_j is None or energy.idle_w is None or rate_per_s > inferences / window.length_s:
        return None
    return energy.idle_w + rate_per_s * energy.net_j / inferences


@dataclass(frozen=True, slots=True)
class _Curve:
    """Power over time as straight lines, or energy counted at some times; `longest_s` is how far apart two readings may be."""

    t_s: Values
    power_w: Values  # at each time; of a counter: the mean since the reading before
    counted_j: Values | None
    longest_s: float

    def between(self, span: Span) -> Values:
        """Which readings lie in the span."""
        return self.power_w[(self.t_s >= span.begin_s) & (self.t_s <= span.end_s)]

    def energy_j(self, span: Span) -> float:
        """The integral over the span; beyond the first and last reading the power is theirs."""
        if self.counted_j is not None:
            begin, end = np.interp([span.begin_s, span.end_s], self.t_s, self.counted_j)
            return float(end - begin)
        inside = self.t_s[(self.t_s > span.begin_s) & (self.t_s < span.end_s)]
        t_s = np.concatenate([[span.begin_s], inside, [span.end_s]])
        return float(np.trapezoid(np.interp(t_s, self.t_s, self.power_w), t_s))

    def coverage(self, span: Span) -> float:
        """The share of the span that lies between two readings that are not too far apart."""
        overlap_s = np.clip(self.t_s[1:], span.begin_s, span.end_s) - np.clip(self.t_s[:-1], span.begin_s, span.end_s)
        return float(overlap_s[np.diff(self.t_s) <= self.longest_s].sum() / span.length_s)


def _valid(trace: Trace) -> Trace:
    """The rows that are readings: finite, plausible, at a time after that of the row before."""
    t_s, values = trace.t_s, trace.values.reshape(len(trace.t_s), -1)
    good = np.isfinite(t_s) & np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1)
    if trace.kind == "power":
        good &= values.sum(axis=1) < MOST_POWER_W
    t_s, values = t_s[good], values[good]
    later = np.ones(len(t_s), dtype=bool)
    later[1:] = t_s[1:] > np.maximum.accumulate(t_s)[:-1]
    if np.count_nonzero(later) < 2:
        raise _NoEnergyError("the sensor gave no readings")
    return replace(trace, t_s=t_s[later], values=values[later])


def _check_moves(trace: Trace, window: Span) -> None:
    """Refuse a sensor that says the same again and again: all the time, or from within the window on into the idle time."""
    inside = (trace.t_s >= window.begin_s) & (trace.t_s <= window.end_s)
    changes = np.flatnonzero((np.diff(trace.values, axis=0) != 0).any(axis=1)) + 1
    for run in np.split(np.arange(len(trace.t_s)), changes):
        within = np.count_nonzero(inside[run])
        outside = len(run) - within
        across = min(within, outside) >= FEWEST_IDLE_SAMPLES
        whole = len(run) == len(trace.t_s) or (trace.kind == "energy" and within >= FEWEST_SAME)
        if len(run) >= FEWEST_SAME and (across or whole):
            raise _NoEnergyError(f"the sensor is stuck: it said {trace.values[run[0]].sum():g} {len(run)} times in a row")


def _curve(trace: Trace) -> _Curve:
    steps_s = np.diff(trace.t_s)
    longest_s = LONGEST_GAP * max(trace.period_s, float(np.median(steps_s)))
    if trace.kind == "power":
        return _Curve(trace.t_s, trace.values.sum(axis=1), None, longest_s)
    risen_j = _risen_j(trace, steps_s)
    power_w = np.concatenate([[risen_j[0] / steps_s[0]], risen_j / steps_s])
    return _Curve(trace.t_s, power_w, np.concatenate([[0.0], np.cumsum(risen_j)]), longest_s)


def _risen_j(trace: Trace, steps_s: Values) -> Values:
    """What all counters together rose by from each reading to the next; one that wrapped has risen by its range more."""
    ranges_j = np.array(trace.ranges_j or [0.0] * trace.values.shape[1])
    if len(ranges_j) != trace.values.shape[1] or ((ranges_j > 0) & (trace.values > ranges_j)).any():
        raise _NoEnergyError("the counter is beyond its own range")
    risen_j = np.diff(trace.values, axis=0)
    if ((risen_j < 0) & (ranges_j <= 0)).any():
        raise _NoEnergyError("the counter went backwards")
    if ((ranges_j > 0) & (ranges_j < MOST_COUNTED_W * steps_s[:, None]) & (steps_s[:, None] > LONGEST_GAP * trace.period_s)).any():
        raise _NoEnergyError("the counter may have wrapped more than once between two readings")
    risen_j = np.where(risen_j < 0, risen_j + ranges_j, risen_j).sum(axis=1)
    if (risen_j > MOST_COUNTED_W * steps_s).any():
        raise _NoEnergyError("the counter jumped")
    return risen_j


def _gross(trace: Trace, curve: _Curve, window: Span) -> Energy:
    power_w = curve.between(window)
    if len(power_w) < FEWEST_SAMPLES:
        raise _NoEnergyError(f"{len(power_w)} readings in a window of {window.length_s:.3g} s, {FEWEST_SAMPLES} are needed")
    coverage = curve.coverage(window)
    if coverage < LEAST_COVERAGE:
        raise _NoEnergyError(f"readings cover {100 * coverage:.0f} % of the window, {100 * LEAST_COVERAGE:.0f} % are needed")
    gross_j = curve.energy_j(window)
    return Energy(
        source=trace.source,
        boundary=trace.boundary,
        gross_j=gross_j,
        average_w=gross_j / window.length_s,
        peak_w=float(power_w.max()),
        coverage=coverage,
        samples=len(power_w),
        clock_error_j=_clock_error_j(curve, window, trace.clock_error_s),
        sampling_error_j=_sampling_error_j(curve, window),
    )


def _clock_error_j(curve: _Curve, window: Span, error_s: float) -> float:
    """The most by which the energy changes when the window shifts: what enters at one end, less what leaves at the other."""
    if error_s == 0:
        return 0.0
    near_s = error_s + curve.longest_s
    edges = (np.abs(curve.t_s - window.begin_s) <= near_s) | (np.abs(curve.t_s - window.end_s) <= near_s)
    return error_s * float(np.ptp(curve.power_w[edges])) if edges.any() else 0.0


def _sampling_error_j(curve: _Curve, window: Span) -> float:
    """Between two readings power may have changed at once: half of the step times its time; in a gap it may have been any seen."""
    touching = (curve.t_s[1:] > window.begin_s) & (curve.t_s[:-1] < window.end_s)
    steps_s = np.diff(curve.t_s)
    if curve.counted_j is not None:  # exact but at the ends of the window
        ends = touching & ((curve.t_s[:-1] < window.begin_s) | (curve.t_s[1:] > window.end_s))
        return float(np.diff(curve.counted_j)[ends].sum())
    bound_j = np.abs(np.diff(curve.power_w)) * steps_s / 2
    gap_j = float(np.ptp(curve.power_w)) * steps_s
    outside_s = max(0.0, curve.t_s[0] - window.begin_s) + max(0.0, window.end_s - curve.t_s[-1])
    return float(np.where(steps_s > curve.longest_s, gap_j, bound_j)[touching].sum() + np.ptp(curve.power_w) * outside_s)


def _net(gross: Energy, curve: _Curve, window: Span, idle: tuple[Span, Span] | None) -> Energy:
    if idle is None:
        raise _NoEnergyError("idle power was not measured")
    before_w, after_w = (_idle_w(curve, span, when) for span, when in zip(idle, ("before", "after"), strict=True))
    idle_w = (before_w + after_w) / 2
    net_j = gross.gross_j - idle_w * window.length_s
    return replace(gross, idle_w=idle_w, net_j=net_j, idle_error_j=abs(before_w - after_w) / 2 * window.length_s)


def _idle_w(curve: _Curve, span: Span, when: str) -> float:
    count = len(curve.between(span))
    if count < FEWEST_IDLE_SAMPLES or curve.coverage(span) < LEAST_COVERAGE:
        raise _NoEnergyError(f"idle {when} the window has {count} readings, too few")
    return curve.energy_j(span) / span.length_s
