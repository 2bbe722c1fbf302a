"""The timing loops. Between two timestamps nothing happens but the call."""

import contextlib
import gc
import time
from array import array
from typing import Any, Callable, Generator, List, NamedTuple, Optional, Tuple

NAMES = ("single_stream", "multi_stream", "offline", "server", "sustained")
PROBE_LOOPS = 20000
STEADY_SHARE = 0.05
MEDIAN_OF = 1000
THIN_AT_ONCE = 4096


class WarmUp(NamedTuple):
    """What warming up took; `settled` unless it ended at its limit before the median was stable."""

    queries: int
    seconds: float
    settled: bool


class Window(NamedTuple):
    """A measured window: latencies in ns (every `stride`-th query), all queries, the window's length in ns, whether it met its minima.

    `runtime_ns` are the same queries by the runtime's own clock, none where it has no clock.
    """

    latency_ns: Any  # memoryview of 'q'
    runtime_ns: Any  # memoryview of 'q'
    queries: int
    window_ns: int
    stride: int
    whole: bool


def _seconds_clock_ns() -> int:
    return int(time.perf_counter() * 1e9)


clock_ns: Callable[[], int] = getattr(time, "perf_counter_ns", _seconds_clock_ns)  # Python 3.6 has no perf_counter_ns


def warm_up(infer: Callable[[], None], min_s: float, min_queries: int, max_s: float) -> WarmUp:
    """Run until both minima are met and the median is stable, or until `max_s` has passed after the first query.

    It runs in blocks of half the minima and is stable once the medians of two blocks on end differ by at most STEADY_SHARE.
    """
    begin = clock_ns()
    limit = begin + int(max_s * 1e9)
    queries, last, settled = 0, 0.0, False
    while not settled and (queries == 0 or clock_ns() < limit):
        ran, median = _block(infer, int(min_s * 5e8), -(-min_queries // 2), limit)
        settled = queries > 0 and abs(median - last) <= STEADY_SHARE * last
        queries, last = queries + ran, median
    return WarmUp(queries, (clock_ns() - begin) / 1e9, settled)


def _block(infer: Callable[[], None], min_ns: int, min_queries: int, limit: int) -> Tuple[int, float]:
    """Run at least once and until both minima are met, or to the limit; return how often, and the median of the last runs in ns."""
    recent: List[int] = []
    begin = end = clock_ns()
    ran = 0
    while ran == 0 or ((end - begin < min_ns or ran < min_queries) and end < limit):
        start = clock_ns()
        infer()
        end = clock_ns()
        recent[ran % MEDIAN_OF : ran % MEDIAN_OF + 1] = [end - start]
        ran += 1
    return ran, float(sorted(recent)[len(recent) // 2])


def sample_buffer(max_samples: int) -> "array[int]":
    """Return room for so many latencies, at least one, its memory touched."""
    return array("q", bytes(8 * max(1, max_samples)))


class Clock(NamedTuple):
    """A runtime's own clock: the last call's time in ns, and room for as many of them as for latencies."""

    read_ns: Callable[[], int]
    samples: "array[int]"


def single_stream(
    infer: Callable[[], None],
    min_s: float,
    min_queries: int,
    max_s: float,
    samples: "array[int]",
    clock: Optional[Clock] = None,
) -> Window:
    """Measure one query after the other until both minima are met, or until `max_s`; garbage collection is off meanwhile.

    Latencies go to `samples`, and what the runtime's `clock` says to its own; of more queries than fit there, every second, then every
    fourth (and so on) is kept.
    """
    with collection_off():
        return _loop(infer, int(min_s * 1e9), min_queries, int(max_s * 1e9), samples, clock)


@contextlib.contextmanager
def collection_off() -> Generator[None, None, None]:
    """Collect garbage now and not again before the end of the block."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def in_a_row(infer: Callable[[], None], samples: int) -> Callable[[], None]:
    """Return a query of so many samples back to back."""
    calls = [infer] * samples

    def query() -> None:
        for call in calls:
            call()

    return query


def _loop(
    infer: Callable[[], None],
    min_ns: int,
    min_queries: int,
    max_ns: int,
    samples: "array[int]",
    runtime: Optional[Clock],
) -> Window:
    clock, room = clock_ns, len(samples)
    read_ns, inside = runtime if runtime else (None, array("q"))
    stride, kept, query = 1, 0, 0
    begin = end = clock()
    while query == 0 or ((end - begin < min_ns or query < min_queries) and end - begin < max_ns):
        start = clock()
        infer()
        end = clock()
        if query % stride == 0:
            if kept == room:
                thin(inside)
                kept, stride = thin(samples), stride * 2
            if query % stride == 0:
                samples[kept] = end - start
                if read_ns:
                    inside[kept] = read_ns()
                kept += 1
        query += 1
    whole = end - begin >= min_ns and query >= min_queries
    return Window(memoryview(samples)[:kept], memoryview(inside)[:kept], query, end - begin, stride, whole)


def thin(samples: "array[int]") -> int:
    """Keep every second sample, in place and with little memory; return how many there are then."""
    half = -(-len(samples) // 2)
    for at in range(0, half, THIN_AT_ONCE):
        upto = min(at + THIN_AT_ONCE, half)
        samples[at:upto] = samples[2 * at : 2 * upto : 2]
    return half


def loop_cost_s(loops: int = PROBE_LOOPS) -> float:
    """Return the median time that the loop itself adds to a latency, in seconds, measured on a call that does nothing."""
    window = single_stream(_nothing, 0.0, loops, 1.0, sample_buffer(loops))
    return sorted(window.latency_ns)[len(window.latency_ns) // 2] / 1e9


def _nothing() -> None:
    pass
