"""The timing loops on a clock that only the calls move: how often they call, what they keep, what they leave as it was."""

import gc
import math
from array import array
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import workloads
from agent.workloads import Clock, WarmUp, Window, sample_buffer, single_stream

LONG_S = 1e6
MS = 1_000_000


class Model:
    """Its call number n, from 0, takes `duration(n)` nanoseconds of the clock."""

    def __init__(self, duration: Callable[[int], int]) -> None:
        self.duration = duration
        self.calls = 0
        self.now_ns = 0
        self.collecting: set[bool] = set()

    def infer(self) -> None:
        self.now_ns += self.duration(self.calls)
        self.calls += 1
        self.collecting.add(gc.isenabled())

    def measure(self, min_s: float, min_queries: int, max_s: float = LONG_S, room: int = 1000) -> Window:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workloads, "clock_ns", lambda: self.now_ns)
            patch.setattr(gc, "collect", lambda: 0)  # takes long in a test process
            return single_stream(self.infer, min_s, min_queries, max_s, sample_buffer(room))

    def warm_up(self, min_s: float, min_queries: int, max_s: float = LONG_S) -> WarmUp:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workloads, "clock_ns", lambda: self.now_ns)
            return workloads.warm_up(self.infer, min_s, min_queries, max_s)


def test_every_query_is_called_once_and_kept() -> None:
    """Without thinning there is one latency for each call, in order and in nanoseconds, and the window is their sum."""
    model = Model(lambda call: (call % 3 + 1) * MS)
    window = model.measure(0.0, 7)
    assert model.calls == window.queries == 7
    assert [latency // MS for latency in window.latency_ns] == [1, 2, 3, 1, 2, 3, 1]
    assert (window.window_ns, window.stride, window.whole) == (13 * MS, 1, True)


@pytest.mark.parametrize(
    ("min_s", "min_queries", "max_s", "calls", "whole"),
    [
        (0.0, 5, 9.0, 5, True),
        (0.5, 5, 9.0, 50, True),
        (0.5, 80, 9.0, 80, True),
        (0.5, 80, 0.3, 30, False),
        (0.5, 5, 0.0, 1, False),
        (0.5, 5, -1.0, 1, False),
        (0.0, 0, 9.0, 1, True),
    ],
)
def test_a_window_meets_both_minima_or_ends_at_its_maximum(min_s: float, min_queries: int, max_s: float, calls: int, whole: bool) -> None:
    """Calls of 10 ms go on until the minimum time and the minimum number are met; the maximum cuts short but leaves one."""
    model = Model(lambda _: 10 * MS)
    window = model.measure(min_s, min_queries, max_s)
    assert (model.calls, window.queries, window.whole) == (calls, calls, whole)


@settings(max_examples=200, deadline=None)
@given(queries=st.integers(1, 3000), room=st.integers(1, 200))
def test_thinning_keeps_every_stride_th_query(queries: int, room: int) -> None:
    """Of more queries than there is room for, exactly the multiples of the stride are kept; it is the smallest power of two that fits."""
    window = Model(lambda call: call + 1).measure(0.0, queries, room=room)
    assert list(window.latency_ns) == [call + 1 for call in range(0, queries, window.stride)]
    assert len(window.latency_ns) <= room
    assert math.log2(window.stride).is_integer()
    assert window.stride == 1 or len(range(0, queries, window.stride // 2)) > room


def test_thinning_of_a_large_buffer() -> None:
    """The buffer is halved in place, piece by piece."""
    samples = array("q", range(9 * workloads.THIN_AT_ONCE + 5))
    with pytest.MonkeyPatch.context() as patch:
        model = Model(lambda call: call)
        patch.setattr(workloads, "clock_ns", lambda: model.now_ns)
        window = single_stream(model.infer, 0.0, len(samples) + 1, LONG_S, samples)
    assert list(window.latency_ns) == list(range(0, window.queries, 2))


@settings(max_examples=50, deadline=None)
@given(queries=st.integers(1, 3000), room=st.integers(1, 200))
def test_a_runtimes_own_clock_is_read_for_each_query_that_is_kept(queries: int, room: int) -> None:
    """Its times stand at the same places as ours, thinned or not, and reading it is in no latency."""
    model = Model(lambda call: 2 * call)

    def read_ns() -> int:
        model.now_ns += 1_000_000
        return model.calls - 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workloads, "clock_ns", lambda: model.now_ns)
        patch.setattr(gc, "collect", lambda: 0)
        window = single_stream(model.infer, 0.0, queries, LONG_S, sample_buffer(room), Clock(read_ns, sample_buffer(room)))
    assert list(window.runtime_ns) == list(range(0, queries, window.stride))
    assert list(window.latency_ns) == [2 * value for value in window.runtime_ns]


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_off_in_the_window_and_as_before_after_it(enabled: bool) -> None:
    """Also after a call that raises."""
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        model = Model(lambda _: MS)
        model.measure(0.0, 5)
        assert model.collecting == {False}
        assert gc.isenabled() is enabled
        with pytest.raises(ZeroDivisionError):
            Model(lambda call: MS // (3 - call)).measure(0.0, 5)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_a_warm_up_of_a_steady_model_takes_its_minima() -> None:
    """Two blocks of half the minima each: enough calls, enough time, settled."""
    assert Model(lambda _: 10 * MS).warm_up(0.1, 10) == WarmUp(10, 0.1, True)
    assert Model(lambda _: 10 * MS).warm_up(0.0, 9) == WarmUp(10, 0.1, True)
    assert Model(lambda _: 10 * MS).warm_up(1.0, 10) == WarmUp(100, 1.0, True)
    assert Model(lambda _: 10 * MS).warm_up(0.0, 0) == WarmUp(2, 0.02, True)


def test_a_warm_up_goes_on_until_the_median_is_stable() -> None:
    """While the model still gets faster by more than 5 % from block to block it is not warm; rare outliers do not matter."""
    model = Model(lambda call: (20 * MS if call % 7 == 0 else 0) + (10 * MS if call < 40 else 5 * MS) - min(call, 40) * MS // 10)
    warm = model.warm_up(0.0, 20)
    assert warm.settled
    assert warm.queries > 50


def test_a_warm_up_that_never_settles_ends_at_its_limit_and_says_so() -> None:
    """A model that gets slower and slower is left at the limit, unsettled; one slower than the limit is called once."""
    warm = Model(lambda call: 2 ** (call // 5) * MS).warm_up(0.0, 10, 1.0)
    assert not warm.settled
    assert 1.0 <= warm.seconds < 2.0
    assert Model(lambda _: 5000 * MS).warm_up(0.1, 10, 1.0) == WarmUp(1, 5.0, False)
    assert Model(lambda _: 5000 * MS).warm_up(0.1, 10, -1.0) == WarmUp(1, 5.0, False)


def test_the_loops_cost_is_that_of_an_empty_call() -> None:
    """It is measured with the same loop on the real clock, and is positive."""
    assert 0 < workloads.loop_cost_s(1000) < 1


def test_latencies_are_64_bit_whole_numbers() -> None:
    """What is kept crosses the wire as little-endian int64 without conversion on this machine."""
    window = Model(lambda _: 2**40).measure(0.0, 3)
    assert window.latency_ns.tobytes() == (2**40).to_bytes(8, "little") * 3


def test_an_old_pythons_clock_gives_whole_nanoseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.6 has perf_counter in seconds only."""
    monkeypatch.setattr("time.perf_counter", lambda: 1.5)
    assert workloads._seconds_clock_ns() == 1_500_000_000
