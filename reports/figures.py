"""A cell's figures: each metric's value, interval and n, computed on read from the raw values of its launches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.metrics import BESIDE_QUALITIES, COLD_START_PARTS, DRIFTS, PERCENTILES, QUALITIES, RUNTIME_PERCENTILES
from reports.records import CellRecord, LaunchRecord
from reports.statistics import (
    Interval,
    log_interval,
    mean_interval,
    paired_change,
    percentiles,
    proportion_interval,
    resampled_interval,
    smallest_sample,
)

REFERENCE = "fp32"
_FASTEST_USB_MBPS = 1e6
DISAGREE = "the pooled value lies outside the interval of its launches: they disagree"


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a cell does its task: 0 or 1 a sample for `accuracy`, else the metric's value and those of its bootstrap draws."""

    metric: str
    values: NDArray[np.float64]

    @property
    def n(self) -> int:
        """How many samples an accuracy rests on; of other metrics it is not stored, and there is one value."""
        return len(self.values) if self.metric == "accuracy" else 1


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric of one cell in its stored unit; no value has a reason, and `message` says it in a sentence.

    `n` counts what the value rests on: pooled samples of a percentile, evaluation samples of an accuracy, launches of the rest.
    `per_launch` holds (round, statistic) of each launch, what interval and comparison rest on.
    """

    metric: str
    value: float | None
    interval: Interval | None = None
    n: int = 0
    reason: str = ""
    message: str = ""
    per_launch: tuple[tuple[int, float], ...] = ()
    boundary: str = ""  # of power and energy


def counted(record: CellRecord) -> tuple[LaunchRecord, ...]:
    """The launches that a cell's figures rest on: the valid ones; without any, the unsteady or throttled ones, which are shown only."""
    valid = tuple(launch for launch in record.launches if launch.status == "valid")
    return valid or tuple(launch for launch in record.launches if launch.status in ("unsteady", "throttled"))


def quality_of(record: CellRecord) -> Quality | None:
    """From the first launch that was evaluated, steady or not."""
    for raw, metric in {"correct": "accuracy", **dict(zip(QUALITIES, QUALITIES, strict=True))}.items():
        for launch in _with(_measured(record), raw):
            return Quality(metric, launch.values[raw])
    return None


def _measured(record: CellRecord) -> list[LaunchRecord]:
    """The launches that ran to their end: outputs are the same however long they took."""
    return [launch for launch in record.launches if launch.status in ("valid", "unsteady", "throttled")]


def usb_mbps(record: CellRecord) -> float | None:
    """The slowest USB link that the accelerator had in a launch: as the backend tells it, for a Neural Compute Stick as conditions do."""
    launches = counted(record)
    told = [launch.details.get("usb_speed_mbps") for launch in launches]
    if str(record.cell.options.get("device", "")).startswith("MYRIAD"):
        states = [state for launch in launches for state in (launch.before, launch.after) if state]
        told += [speed for state in states for name, speed in state.usb_mbps.items() if name.startswith("ncs")]
    return min((float(speed) for speed in told if isinstance(speed, int | float) and 1 < speed < _FASTEST_USB_MBPS), default=None)


def figures(record: CellRecord, reference: Quality | None) -> Iterator[Figure]:
    """All figures that a cell's launches give; `reference` is `quality_of` the uncompressed model on the same device and backend."""
    launches = counted(record)
    yield from _latencies("latency_s", PERCENTILES, launches)
    yield from _latencies("runtime_s", RUNTIME_PERCENTILES, launches)
    yield from _throughput([launch for launch in _with(launches, "queries", "window_s") if _single(launch, "window_s") > 0])
    yield from _peak_memory(launches)
    if record.size_bytes is not None:
        yield Figure("size_bytes", float(record.size_bytes), n=1)
    yield from _cold_start(launches)
    yield from _accuracy(record, reference)
    for metric in (*BESIDE_QUALITIES, *DRIFTS):
        yield from _first_value(metric, _measured(record))


def _latencies(source: str, quantiles: Mapping[str, float], counted: Sequence[LaunchRecord]) -> Iterator[Figure]:
    launches = _with(counted, source)
    samples = [launch.values[source] for launch in launches]
    if not samples:
        return
    pooled, smallest = np.concatenate(samples), min(map(len, samples))
    whole = percentiles(pooled, list(quantiles.values()))
    by_launch = zip(*(percentiles(values, list(quantiles.values())) for values in samples), strict=True)
    for (metric, quantile), value, each in zip(quantiles.items(), whole, by_launch, strict=True):
        needed = smallest_sample(quantile)
        if smallest < needed:
            message = f"{metric} needs {needed} samples in every launch; the smallest has {smallest}"
            yield Figure(metric, None, n=len(pooled), reason="n too small", message=message)
        else:
            yield _of_launches(metric, value, log_interval(each), launches, each, len(pooled))


def _throughput(launches: Sequence[LaunchRecord]) -> Iterator[Figure]:
    if launches:
        queries = [_single(launch, "queries") * _samples_per_query(launch) for launch in launches]
        windows = [_single(launch, "window_s") for launch in launches]
        each = [count / window for count, window in zip(queries, windows, strict=True)]
        yield _of_launches("throughput_per_s", sum(queries) / sum(windows), log_interval(each), launches, each, len(each))


def _samples_per_query(launch: LaunchRecord) -> float:
    return _single(launch, "samples_per_query") if len(launch.values.get("samples_per_query", ())) else 1.0


def _cold_start(launches: Sequence[LaunchRecord]) -> Iterator[Figure]:
    """The sum and its parts, from the launches in which every part was timed."""
    whole = _with(launches, *COLD_START_PARTS)
    yield from _mean("cold_start_s", whole, [sum(_single(launch, part) for part in COLD_START_PARTS) for launch in whole])
    for part in COLD_START_PARTS:
        yield from _mean(part, whole, [_single(launch, part) for launch in whole])


def _peak_memory(launches: Sequence[LaunchRecord]) -> Iterator[Figure]:
    known = _with(launches, "peak_memory_bytes")
    yield from _mean("peak_memory_bytes", known, [_single(launch, "peak_memory_bytes") for launch in known])


def _mean(metric: str, launches: Sequence[LaunchRecord], each: Sequence[float]) -> Iterator[Figure]:
    """The arithmetic mean over launches, so that parts add up to their sum; the interval of a quantity that is never negative."""
    if each:
        interval = mean_interval(each)
        clipped = interval and Interval(max(0.0, interval.low), interval.high)
        yield _of_launches(metric, float(np.mean(each)), clipped, launches, each, len(each))


def _with(launches: Sequence[LaunchRecord], *metrics: str) -> list[LaunchRecord]:
    """The launches that have values of all these raw metrics."""
    return [launch for launch in launches if all(len(launch.values.get(metric, ())) for metric in metrics)]


def _single(launch: LaunchRecord, metric: str) -> float:
    return float(launch.values[metric][0])


def _accuracy(record: CellRecord, reference: Quality | None) -> Iterator[Figure]:
    quality = quality_of(record)
    if quality is None:
        return
    values, n = quality.values, quality.n
    if quality.metric == "accuracy":
        right = int(np.count_nonzero(values))
        yield Figure("accuracy", right / n, proportion_interval(right, n), n)
    else:
        yield Figure(quality.metric, float(values[0]), resampled_interval(values[1:]), n)
    if record.cell.variant == REFERENCE:
        yield Figure("accuracy_change_pp", 0.0, n=n, reason="reference", message="the uncompressed model that the others are compared with")
    elif reference is None or reference.metric != quality.metric or len(reference.values) != len(values):
        message = f"no {REFERENCE} result over the same samples on this device and backend"
        yield Figure("accuracy_change_pp", None, n=n, reason="no reference", message=message)
    else:
        yield _change(quality, reference)


def _change(quality: Quality, reference: Quality) -> Figure:
    if quality.metric == "accuracy":
        change, interval = paired_change(reference.values, quality.values)
    else:
        changes = quality.values - reference.values
        change, interval = float(changes[0]), resampled_interval(changes[1:])
    return Figure("accuracy_change_pp", 100 * change, interval and Interval(100 * interval.low, 100 * interval.high), quality.n)


def _first_value(metric: str, launches: Sequence[LaunchRecord]) -> Iterator[Figure]:
    """The first evaluated launch's: the same samples again say nothing new."""
    values = [_single(launch, metric) for launch in _with(launches, metric)]
    if values:
        yield Figure(metric, values[0], n=1)


def _of_launches(
    metric: str, value: float, interval: Interval | None, launches: Sequence[LaunchRecord], each: Sequence[float], n: int
) -> Figure:
    slack = 1e-9 * abs(value)  # the way to logs and back
    outside = interval is not None and not interval.low - slack <= value <= interval.high + slack
    per_launch = tuple(zip([launch.round for launch in launches], each, strict=True))
    return Figure(metric, value, interval, n, message=DISAGREE if outside else "", per_launch=per_launch)
