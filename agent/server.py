"""The workload `server`: Poisson arrivals, one queue, and the search for the highest rate whose p99 stays within the bound.

Latency runs from a query's scheduled arrival, so the queue is in it. All rates are tried with the same gaps between arrivals, scaled: on
a service of constant speed latencies then only grow with the rate, and the search adds no noise of its own.
"""

import hashlib
import random
import time
from array import array
from typing import Callable, NamedTuple, Optional

from agent import early_stopping, workloads
from agent.workloads import Window

QUANTILE = 0.99
RESOLUTION = 0.01  # of the rate
LOWEST = 1 / 128  # of the rate of calls back to back: where a search gives up
TRIALS = 10  # about how many a search takes
BOUNDS = 20  # how many bounds a trial lasts at least: a queue needs time to build up
SPIN_NS = 1000000  # before an arrival waiting is busy: sleep is not that exact


class Goal(NamedTuple):
    """What a trial has to be: its p99 within the bound, and by LoadGen's rule where `early_stopping`; both minima, as in any window."""

    bound_s: float
    min_s: float
    min_queries: int
    early_stopping: bool


class Found(NamedTuple):
    """The highest rate that kept the bound, 0 if none did, and its window; `failing_per_s` is the lowest that did not."""

    rate_per_s: float
    failing_per_s: float
    trials: int
    window: Window


class Buffers(NamedTuple):
    """Gaps between arrivals in units of their mean, and room for the latencies of two trials: the best and the running one."""

    gaps: "array[float]"
    best: "array[int]"
    running: "array[int]"


def seed_of(launch: str) -> int:
    """Return the seed of a launch's arrivals: each launch has its own, so that their spread is in that of the launches."""
    return int(hashlib.sha256(launch.encode("utf-8")).hexdigest()[:8], 16)


def gaps(seed: int, count: int) -> "array[float]":
    """Return exponential gaps of mean 1; a trial of more queries begins with them anew."""
    draw = random.Random(seed)  # noqa: S311 - arrivals, not a secret
    return array("d", [draw.expovariate(1.0) for _ in range(max(1, count))])


def wait_until_ns(until: int) -> None:
    """Sleep until shortly before, then look at the clock."""
    left = until - workloads.clock_ns()
    if left > 2 * SPIN_NS:
        time.sleep((left - SPIN_NS) / 1e9)
    while workloads.clock_ns() < until:
        pass


def search(infer: Callable[[], None], goal: Goal, max_s: float, buffers: Buffers) -> Found:
    """Find the highest rate within the bound, by bisection between 0 and the rate of calls back to back.

    Those calls come first: if their own p99 is over the bound no rate can keep it, and they are the window. They are also where not even
    the share LOWEST of their rate keeps it, as when something else disturbs the device more often than queries come.
    A search that `max_s` ends leaves the best so far, its window not `whole`.
    """
    end = workloads.clock_ns() + int(max_s * 1e9)
    alone = workloads.single_stream(infer, goal.min_s, goal.min_queries, max_s, buffers.best)
    found = Found(0.0, alone.queries / (alone.window_ns / 1e9), 0, alone)
    late = sum(latency > goal.bound_s * 1e9 for latency in alone.latency_ns)
    if late > most_late(len(alone.latency_ns), goal):
        return found
    room, lowest = buffers.running, LOWEST * found.failing_per_s
    while found.failing_per_s - found.rate_per_s > RESOLUTION * found.failing_per_s and (found.rate_per_s or found.failing_per_s > lowest):
        rate = (found.rate_per_s + found.failing_per_s) / 2
        window = trial(infer, rate, goal, end, buffers.gaps, room)
        if window is None and workloads.clock_ns() >= end:
            return found._replace(window=found.window._replace(whole=False))
        if window is None:
            found = found._replace(failing_per_s=rate, trials=found.trials + 1)
        else:
            room = buffers.best if room is buffers.running else buffers.running
            found = Found(rate, found.failing_per_s, found.trials + 1, window)
    return found


def most_late(queries: int, goal: Goal) -> int:
    """Return how many of so many queries may be over the bound."""
    most = queries // 100
    return min(most, early_stopping.most_overlatency(queries, QUANTILE)) if goal.early_stopping else most


def trial(
    infer: Callable[[], None], rate_per_s: float, goal: Goal, end: int, gaps: "array[float]", samples: "array[int]"
) -> Optional[Window]:
    """Send queries at a rate until both minima are met; None once more are over the bound than may be, or at `end`."""
    count = max(goal.min_queries, int(rate_per_s * max(goal.min_s, BOUNDS * goal.bound_s)) + 1)
    with workloads.collection_off():
        return _arrivals(infer, 1e9 / rate_per_s, count, int(goal.bound_s * 1e9), most_late(count, goal), end, gaps, samples)


def _arrivals(
    infer: Callable[[], None],
    gap_ns: float,
    count: int,
    bound_ns: int,
    most: int,
    limit: int,
    gaps: "array[float]",
    samples: "array[int]",
) -> Optional[Window]:
    clock, wait, room, many = workloads.clock_ns, wait_until_ns, len(samples), len(gaps)
    stride, kept, late = 1, 0, 0
    begin = end = clock()
    due = float(begin)
    for query in range(count):
        due += gaps[query % many] * gap_ns
        arrival = int(due)
        if end < arrival:
            wait(arrival)
        infer()
        end = clock()
        if query % stride == 0:
            if kept == room:
                kept, stride = workloads.thin(samples), stride * 2
            if query % stride == 0:
                samples[kept] = end - arrival
                kept += 1
        late += end - arrival > bound_ns
        if late > most or end > limit:
            return None
    return Window(memoryview(samples)[:kept], memoryview(samples)[:0], count, end - begin, stride, True)
