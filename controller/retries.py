"""What is tried again, and for how long: only what can pass by itself, with growing pauses that differ from device to device."""

import time

import tenacity

from agent.schema import FaultError

PASSING = frozenset({"link_lost", "unreachable", "timeout"})  # never auth or host_key: those want a person
PAUSE = tenacity.wait_exponential_jitter(multiplier=0.2, max=5.0)


def is_passing(error: BaseException) -> bool:
    """Tell whether an error is one of the link, which may be better in a while."""
    return isinstance(error, FaultError) and error.fault.code in PASSING


class Outage:
    """How long attempts have failed, from the first that did, or from one that had the link for over `limit_s` before it lost it."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._failed = time.monotonic()
        self._since: float | None = None

    def is_over(self, outcome: tenacity.Future | None) -> bool:
        """Tell after a failed attempt whether it was the last."""
        now = time.monotonic()
        error = outcome.exception() if outcome else None
        is_link_lost = isinstance(error, FaultError) and error.fault.code == "link_lost"
        if self._since is None or (is_link_lost and now - self._failed > self._limit_s):
            self._since = now
        self._failed = now
        return now - self._since > self._limit_s
