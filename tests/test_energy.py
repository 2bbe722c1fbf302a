"""The energy integrator on power whose energy is known exactly, and on sensors that lie."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reports.energy import Energy, Refusal, Span, Trace, Values, aligned, integrate, power_at_rate_w

WINDOW = Span(20.0, 80.0)
IDLE = (Span(5.0, 19.0), Span(81.0, 95.0))
IDLE_W, LOAD_W, PULSE_W = 2.0, 5.0, 9.0
RANGE_J = 262.143328


def power(t_s: Values) -> Values:
    """Idle; from the window's begin a ramp of 20 s from idle to load, load, a pulse of 7.5 s, load; idle again after the window."""
    ramp = IDLE_W + (LOAD_W - IDLE_W) * np.clip((t_s - 20) / 20, 0, 1)
    ramp = np.where((t_s >= 50.3) & (t_s < 57.8), PULSE_W, ramp)
    return np.where((t_s < WINDOW.begin_s) | (t_s >= WINDOW.end_s), IDLE_W, ramp)


EXACT_J = 20 * (IDLE_W + LOAD_W) / 2 + 40 * LOAD_W + 7.5 * (PULSE_W - LOAD_W)


def energy_counter(t_s: Values) -> Values:
    """The exact energy since t = 0, by closed pieces."""
    ramp_s = np.clip(t_s, 20, 40) - 20
    load_s = np.clip(t_s, 40, 80) - 40
    pulse_s = np.clip(t_s, 50.3, 57.8) - 50.3
    idle_s = np.clip(t_s, 0, 20) + np.clip(t_s - 80, 0, None)
    return IDLE_W * idle_s + IDLE_W * ramp_s + (LOAD_W - IDLE_W) * ramp_s**2 / 40 + LOAD_W * load_s + (PULSE_W - LOAD_W) * pulse_s


def times(period_s: float, seed: int = 0) -> Values:
    """Times of readings, a tenth of the period unpunctual."""
    regular = np.arange(0.37 * period_s, 100, period_s)
    return regular + np.random.default_rng(seed).uniform(-0.05, 0.05, len(regular)) * period_s


def trace(t_s: Values, values: NDArray[np.float64], **changes: object) -> Trace:
    period_s = float(np.median(np.diff(t_s)))
    return Trace(**{"source": "fake", "boundary": "board", "kind": "power", "period_s": period_s, "t_s": t_s, "values": values} | changes)  # type: ignore[arg-type]


def energy(found: Energy | Refusal) -> Energy:
    assert isinstance(found, Energy), found
    return found


def refusal(found: Energy | Refusal) -> str:
    assert isinstance(found, Refusal), found
    return found.reason


def noisy(t_s: Values, seed: int = 1) -> Values:
    return power(t_s) + np.random.default_rng(seed).normal(0, 0.01, len(t_s))


# Known energies


@pytest.mark.parametrize("period_s", [0.01, 0.05, 0.1])
def test_a_ramp_and_a_pulse_integrate_within_half_a_percent(period_s: float) -> None:
    """Gross energy is within 0.5 % of the exact one, and within the stated error; net is gross less idle."""
    t_s = times(period_s)
    found = energy(integrate(trace(t_s, noisy(t_s)), WINDOW, IDLE))
    assert found.gross_j == pytest.approx(EXACT_J, rel=0.005)
    assert abs(found.gross_j - EXACT_J) <= found.error_j
    assert found.net_j == pytest.approx(EXACT_J - IDLE_W * 60, rel=0.005)
    assert found.average_w == pytest.approx(EXACT_J / 60, rel=0.005)
    assert found.peak_w == pytest.approx(PULSE_W, abs=0.1)
    assert found.idle_w == pytest.approx(IDLE_W, rel=0.005)
    assert found.coverage == pytest.approx(1.0)
    assert found.boundary == "board"


@pytest.mark.parametrize("offset_s", [-0.2, 0.2])
@pytest.mark.parametrize("seed", range(20))
def test_the_stated_error_covers_a_slow_meter_on_another_clock(offset_s: float, seed: int) -> None:
    """1 Hz over 60 s, clocks 200 ms apart and known within that: the exact energy is within 2 % and within the stated error."""
    t_s = times(1.0, seed) + np.random.default_rng(seed).uniform(0, 1)
    found = energy(integrate(aligned(trace(t_s + offset_s, noisy(t_s, seed)), 0.0, 0.2), WINDOW, IDLE))
    assert abs(found.gross_j - EXACT_J) <= found.error_j
    assert found.gross_j == pytest.approx(EXACT_J, rel=0.02)
    assert found.clock_error_j > 0


@pytest.mark.parametrize("offset_s", [-0.2, 0.2])
def test_a_fast_sensor_whose_clock_is_off_is_within_half_a_percent(offset_s: float) -> None:
    """200 ms of clock offset move 10 Hz readings by less than 0.5 % of the energy, which the stated error covers."""
    t_s = times(0.1)
    found = energy(integrate(aligned(trace(t_s + offset_s, noisy(t_s)), 0.0, 0.2), WINDOW))
    assert found.gross_j == pytest.approx(EXACT_J, rel=0.005)
    assert abs(found.gross_j - EXACT_J) <= found.error_j


def test_a_known_offset_is_taken_out() -> None:
    """Readings timed by a clock that is 7 s behind give the same energy once they are aligned."""
    t_s = times(0.1)
    here = energy(integrate(trace(t_s, noisy(t_s)), WINDOW, IDLE))
    there = energy(integrate(aligned(trace(t_s - 7, noisy(t_s)), 7.0, 0.0), WINDOW, IDLE))
    assert there.gross_j == pytest.approx(here.gross_j)


@pytest.mark.parametrize("start_j", [0.0, 100.0, RANGE_J - 1])
def test_a_counter_that_wraps_gives_the_exact_energy(start_j: float) -> None:
    """The difference of a counter that wraps once or more on the way is exact but for the window's ends, wherever it begins."""
    t_s = times(0.1)
    counted = (start_j + energy_counter(t_s)) % RANGE_J
    assert (np.diff(counted) < 0).any()
    found = energy(integrate(trace(t_s, counted, kind="energy", ranges_j=[RANGE_J]), WINDOW, IDLE))
    assert found.gross_j == pytest.approx(EXACT_J, rel=0.005)
    assert abs(found.gross_j - EXACT_J) <= found.error_j
    assert found.net_j == pytest.approx(EXACT_J - IDLE_W * 60, rel=0.005)


def test_counters_that_wrap_apart_are_unwrapped_before_they_are_summed() -> None:
    """Two packages whose counters wrap at different times are twice one of them."""
    t_s = times(0.1)
    both = np.column_stack([energy_counter(t_s) % RANGE_J, (90 + energy_counter(t_s)) % RANGE_J])
    found = energy(integrate(trace(t_s, both, kind="energy", ranges_j=[RANGE_J, RANGE_J]), WINDOW))
    assert found.gross_j == pytest.approx(2 * EXACT_J, rel=0.005)


def test_rails_that_together_are_the_board_are_summed() -> None:
    """Three columns of a third each are the whole."""
    t_s = times(0.1)
    thirds = np.column_stack([noisy(t_s) / 3] * 3)
    assert energy(integrate(trace(t_s, thirds), WINDOW)).gross_j == pytest.approx(EXACT_J, rel=0.005)


@given(st.lists(st.floats(0.5, 50), min_size=12, max_size=60).filter(lambda powers: len(set(powers)) > 11))
def test_straight_lines_integrate_exactly(powers: list[float]) -> None:
    """Where power is straight between readings, the trapezoid is exact, also where the window cuts through a line."""
    values = np.array(powers)
    t_s = np.arange(len(values), dtype=float)
    window = Span(0.5, len(values) - 1.25)
    first, last = (values[0] + values[1]) / 2, values[-2] + 0.75 * (values[-1] - values[-2])
    exact = (first + values[1]) / 4 + np.trapezoid(values[1:-1]) + 0.75 * (values[-2] + last) / 2
    assert energy(integrate(trace(t_s, values), window)).gross_j == pytest.approx(float(exact))


def test_idle_that_drifts_is_an_error_of_net() -> None:
    """Idle of 2 W before and 3 W after: net takes 2.5 W and says that it may be off by half a watt over the window."""
    t_s = times(0.1)
    drifting = noisy(t_s) + np.where(t_s > 80, 1.0, 0.0)
    found = energy(integrate(trace(t_s, drifting), WINDOW, IDLE))
    assert found.idle_w == pytest.approx(2.5, abs=0.01)
    assert found.idle_error_j == pytest.approx(30.0, rel=0.02)


def test_power_at_a_rate_is_idle_and_what_each_inference_adds() -> None:
    """600 inferences in 60 s at most 10 a second; at 1 a second each adds its net energy, and a faster rate was not measured."""
    t_s = times(0.1)
    found = energy(integrate(trace(t_s, noisy(t_s)), WINDOW, IDLE))
    assert found.net_j is not None
    assert power_at_rate_w(found, 600, WINDOW, 1.0) == pytest.approx(IDLE_W + found.net_j / 600, abs=0.01)
    assert power_at_rate_w(found, 600, WINDOW, 10.0) == pytest.approx(found.average_w)
    assert power_at_rate_w(found, 600, WINDOW, 10.5) is None


# Sensors that lie, stop or fail


def stopped(t_s: Values, values: Values) -> tuple[Values, Values]:
    return t_s[t_s < 60], values[t_s < 60]


def late(t_s: Values, values: Values) -> tuple[Values, Values]:
    return t_s[t_s > 30], values[t_s > 30]


def constant(t_s: Values, values: Values) -> tuple[Values, Values]:
    return t_s, np.full_like(values, 4.2)


def frozen(t_s: Values, values: Values) -> tuple[Values, Values]:
    return t_s, np.where(t_s < 60, values, 5.0)


def text(t_s: Values, values: Values) -> tuple[Values, Values]:
    return t_s, np.full_like(values, np.nan)


def gappy(t_s: Values, values: Values) -> tuple[Values, Values]:
    return t_s, np.where((t_s > 40) & (t_s < 55), np.nan, values)


def absurd(t_s: Values, values: Values) -> tuple[Values, Values]:
    return t_s, np.where(t_s > 50, 1e9, values)


def negative(t_s: Values, values: Values) -> tuple[Values, Values]:
    return t_s, -values


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (stopped, "cover 67 %"),
        (late, "cover 83 %"),
        (constant, "stuck"),
        (frozen, "stuck"),
        (text, "no readings; it last said: not a number"),
        (gappy, "cover 75 %"),
        (absurd, "cover 50 %"),
        (negative, "no readings"),
    ],
)
def test_a_lie_is_refused_with_its_reason(lie: Callable[[Values, Values], tuple[Values, Values]], reason: str) -> None:
    """Whatever a sensor does instead of measuring, there is a reason and no number."""
    t_s = times(0.1)
    assert reason in refusal(integrate(trace(*lie(t_s, noisy(t_s)), problem="not a number"), WINDOW, IDLE))


def test_readings_lost_here_and_there_are_told_and_do_no_harm() -> None:
    """Every fifth reading lost, and a pause of 3 s: the energy is right, the coverage is what it is."""
    t_s = times(0.1)
    values = np.where((np.arange(len(t_s)) % 5 == 0) | ((t_s > 42) & (t_s < 45)), np.nan, noisy(t_s))
    found = energy(integrate(trace(t_s, values), WINDOW, IDLE))
    assert found.gross_j == pytest.approx(EXACT_J, rel=0.005)
    assert found.coverage == pytest.approx(0.95, abs=0.01)


def test_too_few_readings_are_refused() -> None:
    """1 Hz over 5 s is no energy, and not zero."""
    t_s = times(1.0)
    assert "5 readings in a window of 5 s, 10 are needed" in refusal(integrate(trace(t_s, noisy(t_s)), Span(30.0, 35.0)))


def test_a_steady_load_on_a_coarse_meter_is_no_lie() -> None:
    """A plug that shows whole watts says 5 all the time of a window; idle is 2, so it moves."""
    t_s = times(1.0)
    coarse = np.where((t_s > 20) & (t_s < 80), 5.0, 2.0)
    found = energy(integrate(trace(t_s, coarse), WINDOW, IDLE))
    assert found.gross_j == pytest.approx(300, abs=found.error_j)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"values": [5.0], "ranges_j": [RANGE_J]}, "stuck"),
        ({"reset": True, "ranges_j": [262143.0]}, "jumped"),
        ({"reset": True, "ranges_j": [0.0]}, "went backwards"),
        ({"ranges_j": [100.0]}, "beyond its own range"),
        ({"reset": True, "ranges_j": [-9.0]}, "went backwards"),
        ({"ranges_j": [RANGE_J, RANGE_J]}, "beyond its own range"),
    ],
)
def test_a_counter_that_lies_is_refused(changes: dict[str, object], reason: str) -> None:
    """A counter that stands still, starts anew or exceeds its range gives no energy."""
    t_s = times(0.1)
    counted = energy_counter(t_s)
    if changes.pop("reset", False):
        counted = np.where(t_s > 50, counted - energy_counter(np.array([50.0]))[0], counted)
    values = np.full_like(t_s, 5.0) if changes.pop("values", None) else counted
    assert reason in refusal(integrate(trace(t_s, values, kind="energy", **changes), WINDOW, IDLE))


def test_a_counter_that_may_have_wrapped_twice_is_refused() -> None:
    """A silence in which the counter may have gone round more than once is no energy, even if coverage would do."""
    t_s = times(0.1)
    kept = (t_s < 50) | (t_s > 52)
    counted = energy_counter(t_s) % RANGE_J
    assert "more than once" in refusal(integrate(trace(t_s[kept], counted[kept], kind="energy", ranges_j=[RANGE_J]), WINDOW))


@pytest.mark.parametrize(
    ("idle", "reason"), [(None, "not measured"), ((Span(-9, -1), IDLE[1]), "before"), ((IDLE[0], Span(110, 120)), "after")]
)
def test_without_idle_there_is_no_net_energy(idle: tuple[Span, Span] | None, reason: str) -> None:
    """Gross stays, net is none and says which idle time is missing."""
    t_s = times(0.1)
    found = energy(integrate(trace(t_s, noisy(t_s)), WINDOW, idle))
    assert found.net_j is None
    assert reason in found.net_refusal


def test_times_that_run_backwards_are_left_out() -> None:
    """Readings out of order are dropped; those that are left still give the energy."""
    t_s = times(0.1)
    t_s[300] = 1.0
    assert energy(integrate(trace(t_s, noisy(times(0.1))), WINDOW, IDLE)).gross_j == pytest.approx(EXACT_J, rel=0.005)
