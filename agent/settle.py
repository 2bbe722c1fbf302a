"""The start gate: a launch waits until the device is cool and has nothing else to do, up to a limit, and then goes on all the same."""

import time
from typing import Callable, NamedTuple, Optional

from agent import conditions

POLL_S = 1.0
LOW_LOAD = 0.1  # of all processors' time


class Gate(NamedTuple):
    """How the wait ended: `settled` unless it was given up, as the controller reads in the conditions before."""

    seconds: float
    settled: bool


def wait(
    max_temp_c: Optional[float],
    timeout_s: float,
    cancelled: Callable[[], bool],
    root: str = "/",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Optional[Gate]:
    """Wait until every sensor is at most at `max_temp_c` and at most LOW_LOAD of the processors' time is in use, for `timeout_s` at most.

    None without a temperature: then nothing is waited for. What cannot be observed is not waited for either.
    """
    if max_temp_c is None:
        return None
    begin, times = clock(), conditions.cpu_times(root)
    while True:
        sleep(min(POLL_S, timeout_s))
        before, times = times, conditions.cpu_times(root)
        busy = conditions.busy_share(before, times) or 0.0
        settled = busy <= LOW_LOAD and max(conditions.temperatures(root).values(), default=max_temp_c) <= max_temp_c
        if settled or cancelled() or clock() - begin >= timeout_s:
            return Gate(clock() - begin, settled)
