"""The figures that only some workloads have: the rate of `server`, the heat of `sustained`, LoadGen's estimate under profile strict."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent import early_stopping
from reports.figures import Figure, counted
from reports.metrics import HEADLINES, PERCENTILES
from reports.records import CellRecord, LaunchRecord
from reports.statistics import log_interval

BLOCKS = 60
SLOWER = 1.05
IN_A_ROW = 3
FEWEST_SAMPLES = 5 * BLOCKS
UNBOUND = "over the bound"
LASTING = "not throttled"


@dataclass(frozen=True, slots=True)
class Heat:
    """What a launch's latencies did over time, in seconds: `throttled_s` is when they rose for good, None if they did not."""

    burst_p50_s: float
    steady_p50_s: float
    throttled_s: float | None


def workload_figures(record: CellRecord, *, strict: bool) -> Iterator[Figure]:
    """The figures of a cell's own workload; those of `strict` runs have LoadGen's estimate of the headline's percentile."""
    launches = [launch for launch in counted(record) if len(launch.values.get("latency_s", ()))]
    name = record.cell.workload.name
    if not launches:
        return
    if name == "server":
        yield from _server([launch for launch in launches if len(launch.values.get("server_rate_per_s", ()))])
    if name == "sustained":
        yield from _sustained(launches)
    if strict and HEADLINES.get(name) in PERCENTILES:
        yield _early_stopping(launches, PERCENTILES[HEADLINES[name]])


def heat(latency_s: NDArray[np.float64], window_s: float) -> Heat:
    """What latencies back to back did over a window that they fill, all of them or every k-th; at least FEWEST_SAMPLES.

    The window is cut into BLOCKS of equal time. The burst is the first; the device throttled at the first of IN_A_ROW blocks whose medians
    are more than 5 % above the burst's; steady is what follows, or the second half of a window in which that never happened.
    """
    times = np.cumsum(latency_s) * (window_s / latency_s.sum())
    starts = window_s * np.arange(BLOCKS) / BLOCKS
    blocks = np.split(latency_s, np.searchsorted(times, starts[1:]))
    medians = [(start, float(np.median(block))) for start, block in zip(starts, blocks, strict=True) if len(block)]
    burst = medians[0][1]
    slow = [median > SLOWER * burst for _, median in medians]
    onsets = (start for at, (start, _) in enumerate(medians) if at + IN_A_ROW <= len(slow) and all(slow[at : at + IN_A_ROW]))
    throttled = next(onsets, None)
    after = latency_s[times > (window_s / 2 if throttled is None else throttled)]
    return Heat(burst, float(np.median(after)), None if throttled is None else float(throttled))


def _sustained(launches: Sequence[LaunchRecord]) -> Iterator[Figure]:
    smallest = min(len(launch.values["latency_s"]) for launch in launches)
    whole = [launch for launch in launches if len(launch.values.get("window_s", ()))]
    if smallest < FEWEST_SAMPLES or not whole:
        message = f"a trace needs {FEWEST_SAMPLES} samples in every launch; the smallest has {smallest}"
        yield Figure(HEADLINES["sustained"], None, reason="n too small", message=message)
        return
    traces = [heat(launch.values["latency_s"], float(launch.values["window_s"][0])) for launch in whole]
    yield _mean("sustained_p50_s", whole, [trace.steady_p50_s for trace in traces])
    yield _mean("sustained_burst_p50_s", whole, [trace.burst_p50_s for trace in traces])
    yield _mean("sustained_slowdown", whole, [trace.steady_p50_s / trace.burst_p50_s for trace in traces])
    onsets = [trace.throttled_s for trace in traces if trace.throttled_s is not None]
    if len(onsets) == len(traces):
        yield _mean("time_to_throttle_s", whole, onsets)
    else:
        message = f"in {len(traces) - len(onsets)} of {len(traces)} launches the median never stayed more than 5 % above the first block's"
        yield Figure("time_to_throttle_s", None, n=len(traces), reason=LASTING, message=message)


def _server(launches: Sequence[LaunchRecord]) -> Iterator[Figure]:
    rates = [float(launch.values["server_rate_per_s"][0]) for launch in launches]
    if rates and min(rates) > 0:
        yield _mean("server_rate_per_s", launches, rates)
    elif rates:
        message = f"in {rates.count(0)} of {len(rates)} launches not even the lowest rate kept the bound"
        yield Figure("server_rate_per_s", None, n=len(rates), reason=UNBOUND, message=message)


def _early_stopping(launches: Sequence[LaunchRecord], quantile: float) -> Figure:
    found = [early_stopping.estimate(np.sort(launch.values["latency_s"]), quantile) for launch in launches]
    each = [one for one in found if one is not None]
    if len(each) == len(found):
        return _mean("latency_early_stopping_s", launches, each)
    message = f"the estimate needs {early_stopping.smallest_queries(quantile)} samples in every launch"
    return Figure("latency_early_stopping_s", None, n=len(found), reason="n too small", message=message)


def _mean(metric: str, launches: Sequence[LaunchRecord], each: Sequence[float]) -> Figure:
    """The geometric mean over launches; the arithmetic one of values that hold a zero."""
    value = float(np.exp(np.mean(np.log(each)))) if min(each) > 0 else float(np.mean(each))
    per_launch = tuple(zip([launch.round for launch in launches], each, strict=True))
    return Figure(metric, value, log_interval(each), len(each), per_launch=per_launch)
