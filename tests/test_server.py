"""The search of workload `server` on a clock that only the calls and the waits move."""

import math
from collections.abc import Callable

import pytest

from agent import early_stopping, server, workloads
from agent.server import Found, Goal
from agent.workloads import sample_buffer

MS = 1_000_000
ROOM = 1000


class Service:
    """Its call number n, from 0, takes `duration(n)` nanoseconds of the clock."""

    def __init__(self, duration: Callable[[int], int]) -> None:
        self.duration = duration
        self.calls = 0
        self.now_ns = 0

    def infer(self) -> None:
        self.now_ns += self.duration(self.calls)
        self.calls += 1

    def wait(self, until: int) -> None:
        self.now_ns = until

    def search(self, goal: Goal, *, max_s: float = 1e9, seed: int = 1, gaps: int = 100_000) -> Found:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workloads, "clock_ns", lambda: self.now_ns)
            patch.setattr(server, "wait_until_ns", self.wait)
            buffers = server.Buffers(server.gaps(seed, gaps), sample_buffer(ROOM), sample_buffer(ROOM))
            return server.search(self.infer, goal, max_s, buffers)


def utilisation(bound: float) -> float:
    """The share of an M/D/1 server's capacity at which the p99 of queue and service is `bound` services.

    Source: A. K. Erlang (1909), the waiting time of M/D/1.
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _waits_within(middle, bound - 1) >= 0.99 else (low, middle)
    return low


def _waits_within(load: float, wait: float) -> float:
    terms = [(-load * (wait - at)) ** at / math.factorial(at) * math.exp(load * (wait - at)) for at in range(int(wait) + 1)]
    return (1 - load) * math.fsum(terms)


@pytest.mark.parametrize(("bound", "seed"), [(2, 1), (3, 2), (5, 3), (10, 4)])
def test_the_rate_of_a_fixed_service_time_is_that_of_theory(bound: int, seed: int) -> None:
    """Within 5 % of M/D/1, whether the bound leaves a queue of one or of many."""
    found = Service(lambda _: MS).search(Goal(bound / 1000, 0.0, 60_000, early_stopping=False), seed=seed)
    assert found.rate_per_s == pytest.approx(1000 * utilisation(bound), rel=0.05)
    assert found.failing_per_s - found.rate_per_s <= server.RESOLUTION * found.failing_per_s


def test_a_search_leaves_the_window_of_the_rate_that_it_found() -> None:
    """Its latencies include the queue, its p99 keeps the bound, it is as long as its queries at that rate take."""
    found = Service(lambda _: MS).search(Goal(0.004, 1.0, 800, early_stopping=False))
    window = found.window
    ordered = sorted(window.latency_ns)
    assert window.whole
    assert window.stride == 1
    assert len(ordered) == window.queries >= 800
    assert ordered[0] >= MS
    assert ordered[len(ordered) // 2] < ordered[math.ceil(0.99 * len(ordered)) - 1] <= 4 * MS
    assert window.queries / (window.window_ns / 1e9) == pytest.approx(found.rate_per_s, rel=0.1)


def test_more_queries_than_there_is_room_for_are_thinned() -> None:
    """Every stride-th latency is kept; the bound is held against all of them."""
    window = Service(lambda _: MS).search(Goal(0.004, 0.0, 5000, early_stopping=False)).window
    assert (window.queries, window.stride, len(window.latency_ns)) == (5000, 8, 625)


def test_a_bound_below_the_service_time_has_no_rate() -> None:
    """The calls back to back tell, and are the window."""
    found = Service(lambda _: 2 * MS).search(Goal(0.001, 0.0, 500, early_stopping=False))
    assert (found.rate_per_s, found.trials, found.window.queries) == (0.0, 0, 500)


def test_a_search_gives_up_where_no_rate_keeps_the_bound() -> None:
    """Calls that are slow only after a pause keep the bound back to back and at no rate; the search ends all the same."""

    class Sleepy(Service):
        def wait(self, until: int) -> None:
            self.now_ns = until + 10 * MS

    found = Sleepy(lambda _: MS).search(Goal(0.005, 0.0, 500, early_stopping=False))
    assert (found.rate_per_s, found.trials, found.window.queries) == (0.0, 7, 500)


def test_a_search_at_its_limit_keeps_the_best_so_far() -> None:
    """Its window is not whole, so that the report can say so; it does not run on for longer than a call."""
    service = Service(lambda _: MS)
    found = service.search(Goal(0.005, 1.0, 500, early_stopping=False), max_s=3.0)
    assert not found.window.whole
    assert 0 < found.rate_per_s < 1000 * utilisation(5)
    assert service.now_ns <= 3.1e9


def test_early_stopping_asks_for_more_than_the_order_statistic() -> None:
    """By LoadGen's rule fewer of 1,000 queries may be late than 1 %, so the rate found is lower."""
    plain, strict = (Goal(0.005, 0.0, 1000, early_stopping=rule) for rule in (False, True))
    assert server.most_late(1000, plain) == 10
    assert server.most_late(1000, strict) == early_stopping.most_overlatency(1000, 0.99) == 2
    assert Service(lambda _: MS).search(strict).rate_per_s < Service(lambda _: MS).search(plain).rate_per_s


def test_arrivals_are_seeded_and_exponential() -> None:
    """The same launch has the same arrivals, another one others; mean and deviation of the gaps are 1."""
    gaps = server.gaps(server.seed_of("a"), 20_000)
    assert gaps == server.gaps(server.seed_of("a"), 20_000) != server.gaps(server.seed_of("b"), 20_000)
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1, abs=0.03)
    assert math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(1, abs=0.04)


def test_waiting_ends_at_the_arrival_and_not_before() -> None:
    """On the real clock, by sleeping and without."""
    for wait_ns in (3 * MS, MS // 10, -MS):
        until = workloads.clock_ns() + wait_ns
        server.wait_until_ns(until)
        assert workloads.clock_ns() >= until
