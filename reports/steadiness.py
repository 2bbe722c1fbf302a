"""Whether a launch was steady, drifted, or was slowed down by its device, with the evidence (METHOD.md, rule 5)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.schema import Conditions

SLOWER_BY = 0.05
CLOCK_SHARE = 0.97
LOW_FOR = 0.01
PARTS = 10  # of a window
PAIRS = 24  # of 25: one-sided Mann-Whitney, p < 0.01 for 5 parts against 5
FEWEST_QUERIES, SHORTEST_S = 100, 1.0  # less, as in profile quick, does not tell drift from noise
FEWEST_CLOCKS = 3
NAME_LENGTH = 60
# Bits 0 to 3 of a Pi's get_throttled say what is, 16 to 19 what has been since boot (Raspberry Pi documentation, vcgencmd).
PI_BITS = {0: "under-voltage", 1: "ARM frequency capped", 2: "throttled", 3: "soft temperature limit"}

Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Steadiness:
    """`status` is valid, unsteady or throttled; `drift` how much slower the second half is than the first (0.05: 5 %), None if unknown.

    `reasons` say why it is not valid, `unknown` what could not be judged.
    """

    status: str
    drift: float | None
    reasons: tuple[str, ...]
    unknown: tuple[str, ...]


def judge(
    values: Values,
    before: Conditions | None,
    after: Conditions | None,
    *,
    backend: str,
    workload: str,
    clock_hz: float | None = None,
) -> Steadiness:
    """Judge a launch by its raw values (as in LaunchRecord) and its conditions; `clock_hz` is what the inventory expects, if it does.

    A server's latencies follow its rate of arrivals: their drift is not judged. Slowing down is what `sustained` is there to show: it stays
    valid, with the reasons.
    """
    latency_s = values.get("latency_s", np.empty(0))
    judged = workload != "server" and len(latency_s) >= FEWEST_QUERIES and _single(values, "window_s", 0.0) >= SHORTEST_S
    change = drift(latency_s) if judged else None
    throttled = [*_flags(before, after), *_clock(values, clock_hz), *_heat(before, after)]
    unsteady = [*_drifted(latency_s, change), *_unsettled(values)] if judged else []
    status = "valid" if workload == "sustained" else "throttled" if throttled else "unsteady" if unsteady else "valid"
    return Steadiness(status, change, (*throttled, *unsteady), tuple(_unknown(before, backend)))


def drift(latency_s: NDArray[np.float64]) -> float:
    """How much longer the second half's median is than the first's, as a share of it; `latency_s` in the order it was measured."""
    half = len(latency_s) // 2
    first = float(np.median(latency_s[:half]))
    return float(np.median(latency_s[-half:])) / first - 1 if first > 0 else 0.0


def target_hz(clocks_hz: NDArray[np.float64], times_s: NDArray[np.float64], window_s: float) -> float:
    """The clock that a device has to keep: the median of those in the window's first tenth; `times_s` from its begin, none before."""
    return float(np.median(clocks_hz[times_s <= max(window_s / 10, float(times_s[0]))]))


def _drifted(latency_s: NDArray[np.float64], change: float | None) -> Iterator[str]:
    """Slower, and in nearly all parts of the second half: a burst of other work in one of them is noise, not drift."""
    if change is None or change <= SLOWER_BY:
        return
    medians = np.array([np.median(part) for part in np.array_split(latency_s, PARTS)])
    slower = medians[PARTS // 2 :, None] - medians[None, : PARTS // 2]
    if np.count_nonzero(slower > 0) + np.count_nonzero(slower == 0) / 2 >= PAIRS:
        yield f"the second half was {100 * change:.1f} % slower than the first"


def _unsettled(values: Values) -> Iterator[str]:
    if _single(values, "warmup_settled", 1.0) == 0:
        yield f"the median had not settled after {_single(values, 'warmup_s', 0.0):.1f} s of warm-up"


def _flags(before: Conditions | None, after: Conditions | None) -> Iterator[str]:
    """What was set or counted in between; a Pi's flag that stays set tells nothing new unless it is set at this very moment."""
    if before is None or after is None:
        return
    for name in sorted(before.throttle.keys() & after.throttle.keys()):
        then, now = before.throttle[name], after.throttle[name]
        if name == "get_throttled":
            new = [word for bit, word in PI_BITS.items() if now >> bit & 1 or (now & ~then) >> (bit + 16) & 1]
            if new:
                yield f"get_throttled went from {then:#x} to {now:#x}: {', '.join(new)}"
        elif now > then:
            yield f"{name[:NAME_LENGTH]} rose from {then} to {now}"


def _clock(values: Values, expected_hz: float | None) -> Iterator[str]:
    clocks, times = values.get("trace_clock_hz", np.empty(0)), values.get("trace_clock_hz_t_s", np.empty(0))
    window_s = _single(values, "window_s", 0.0)
    if len(clocks) != len(times):
        return
    within = (times >= 0) & (times <= window_s)
    clocks, times = clocks[within], times[within]
    if len(clocks) < FEWEST_CLOCKS:
        return
    target = expected_hz or target_hz(clocks, times, window_s)
    low = clocks < CLOCK_SHARE * target
    if low.mean() > LOW_FOR:
        yield (
            f"the clock was below 97 % of {target / 1e6:.0f} MHz for {100 * low.mean():.0f} % of the window, "
            f"at {clocks.min() / 1e6:.0f} MHz, first after {times[low][0]:.0f} s"
        )


def _heat(before: Conditions | None, after: Conditions | None) -> Iterator[str]:
    if before is None or after is None:
        return
    for name, limit in sorted(before.limits_c.items()):
        peak = max(after.peaks_c.get(name, -300.0), before.temps_c.get(name, -300.0), after.temps_c.get(name, -300.0))
        if peak >= limit:
            yield f"{name[:NAME_LENGTH]} was at {peak:.1f} °C, its limit is {limit:.1f} °C"


def _unknown(before: Conditions | None, backend: str) -> Iterator[str]:
    if backend == "edgetpu" and before is not None and any(name.startswith("coral-usb") for name in before.usb_mbps):
        yield "whether the Coral USB Accelerator was throttled is unknown: it tells no temperature"


def _single(values: Values, name: str, otherwise: float) -> float:
    found = values.get(name)
    return float(found[0]) if found is not None and len(found) else otherwise
