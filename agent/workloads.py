"""The timing loops. Between two timestamps nothing happens but the call."""

import gc
import time
from array import array
from typing import Any, Callable, List, NamedTuple

NAMES = ("single_stream",)
PROBE_LOOPS = 20000


class Window(NamedTuple):
    """A measured window: latencies in ns (every `stride`-th query), all queries, and the window's length in ns."""

    latency_ns: Any  # array('q')
    queries: int
    window_ns: int
    stride: int


def _seconds_clock_ns() -> int:
    return int(time.perf_counter() * 1e9)


clock_ns: Callable[[], int] = getattr(time, "perf_counter_ns", _seconds_clock_ns)  # Python 3.6 has no perf_counter_ns


def warm_up(infer: Callable[[], None], min_s: float, min_queries: int, max_s: float) -> List[float]:
    """Run until both minima are met, or `max_s` has passed after the first query; return (queries, seconds)."""
    begin = time.perf_counter()
    queries, passed = 0, 0.0
    while (passed < min_s or queries < min_queries) and (passed < max_s or queries == 0):
        infer()
        queries += 1
        passed = time.perf_counter() - begin
    return [float(queries), passed]


def single_stream(infer: Callable[[], None], min_s: float, min_queries: int, max_s: float, max_samples: int) -> Window:
    """Measure one query after the other until both minima are met, or until `max_s`; garbage collection is off meanwhile.

    Of more than `max_samples` queries every second, then every fourth (and so on) is kept.
    """
    samples = array("q", bytes(8 * max_samples))
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        return _loop(infer, int(min_s * 1e9), min_queries, int(max_s * 1e9), samples)
    finally:
        if collecting:
            gc.enable()


def _loop(infer: Callable[[], None], min_ns: int, min_queries: int, max_ns: int, samples: Any) -> Window:
    clock, room = clock_ns, len(samples)
    stride, kept, query = 1, 0, 0
    begin = end = clock()
    while (end - begin < min_ns or query < min_queries) and end - begin < max_ns:
        start = clock()
        infer()
        end = clock()
        if query % stride == 0:
            if kept == room:
                kept, stride = _thin(samples), stride * 2
            if query % stride == 0:
                samples[kept] = end - start
                kept += 1
        query += 1
    return Window(samples[:kept], query, end - begin, stride)


def _thin(samples: Any) -> int:
    """Keep every second sample, in place; return how many there are then."""
    half = samples[::2]
    samples[: len(half)] = half
    return len(half)


def loop_cost_s(loops: int = PROBE_LOOPS) -> float:
    """Return the median time that the loop itself adds to a latency, in seconds, measured on a call that does nothing."""
    window = single_stream(_nothing, 0.0, loops, 1.0, loops)
    return sorted(window.latency_ns)[len(window.latency_ns) // 2] / 1e9


def _nothing() -> None:
    pass
