"""Numbers as people read them; terminal and page share this, so the same number looks the same everywhere."""

import math
from collections.abc import Sequence

from reports.metrics import METRICS

_TIME = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SIZE = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_ENERGY = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"))
_POWER = ((1.0, "W"), (1e-3, "mW"), (1e-6, "µW"))
_STEPS = {"time": _TIME, "size": _SIZE, "energy": _ENERGY, "power": _POWER}
_DIGITS = 3  # significant digits of times, rates, energies and sizes


def value(metric: str, number: float | None) -> str:
    """A metric's value with its unit, such as 34.2 µs, 68.2 kB, 91.20 % or -0.30 pp; a dash for None."""
    return "-" if number is None else _shown(METRICS[metric].shown, [number], number)


def interval(metric: str, number: float | None, low: float | None, high: float | None) -> str:
    """An interval in the unit and to the digits of its value, such as 33.9 to 34.6 µs; empty where there is none."""
    return "" if low is None or high is None else _shown(METRICS[metric].shown, [low, high], low if number is None else number)


def ratio(number: float) -> str:
    """A ratio to three significant digits."""
    return _fixed(number, _decimals(number))


def percent(share: float) -> str:
    """A share as a percentage with two significant digits, such as 0.15 %, 2.4 % or 31 %."""
    shown = 100 * share
    return "below 0.01 %" if 0 < shown < 0.01 else f"{_fixed(shown, max(0, _decimals(shown) - 1))} %"


def scale(metric: str, number: float) -> tuple[float, str]:
    """(divisor, unit) of an axis on which `number` reads well."""
    divisor, unit, _ = _form(METRICS[metric].shown, number)
    return divisor, unit


def _shown(form: str, numbers: Sequence[float], like: float) -> str:
    """`numbers` joined by "to", all in the unit and with the decimals that suit `like`; one more where that tells two apart."""
    divisor, unit, decimals = _form(form, like)
    sign = "+" if form == "points" else ""
    texts = [_fixed(number / divisor, decimals, sign) for number in numbers]
    finer = [_fixed(number / divisor, decimals + 1, sign) for number in numbers]
    texts = finer if len(set(texts)) < len(set(finer)) else texts
    return " to ".join(texts) + (f" {unit}" if unit else "")


def _form(form: str, like: float) -> tuple[float, str, int]:
    """(divisor, unit, decimals) of a number in one of the forms of `Metric.shown`."""
    if form in _STEPS:
        divisor, unit = _step(_STEPS[form], like)
        return divisor, unit, 0 if unit == "B" else _decimals(like / divisor)
    forms = {
        "rate": (1.0, "/s", _decimals(like)),
        "share": (0.01, "%", 2),
        "points": (1.0, "pp", 2),
        "decibel": (1.0, "dB", 1),
        "cosine": (1.0, "", 5),
        "number": (1.0, "", _decimals(like)),
    }
    return forms[form]


def _step(steps: Sequence[tuple[float, str]], number: float) -> tuple[float, str]:
    """The largest step at which the number, rounded to the digits shown, is at least 1; the smallest step for less, the first for 0."""
    rounded = _rounded(number)
    return next((step for step in steps if rounded >= step[0]), steps[-1] if number else steps[0])


def _decimals(number: float) -> int:
    """Decimals that give the number its significant digits; none from 100 on and none for 0."""
    return max(0, _DIGITS - 1 - math.floor(math.log10(_rounded(number)))) if number else 0


def _rounded(number: float) -> float:
    return abs(float(f"{number:.{_DIGITS - 1}e}"))


def _fixed(number: float, decimals: int, sign: str = "") -> str:
    rounded = round(number, decimals) + 0.0  # never -0
    return format(rounded, f"{sign if rounded else ''},.{decimals}f")
