"""Gates: budgets that a run must keep, written in any unit of the quantity, brought to the metrics and SI units of the report's table."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, cast

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from controller import strict
from controller.errors import ExitCode, gravest
from controller.selectors import SelectorText
from controller.selectors import parse as parse_selector
from controller.strict import Name, Record, UniqueNames, nearest, quoted
from reports.gates import NOT_TO_MEASURE, SCOPES
from reports.metrics import METRICS
from reports.records import DeviceRecord, Gate, RunRecord

_UNITS = {
    "s": {"s": 0, "ms": -3, "us": -6},
    "J": {"j": 0, "mj": -3, "uj": -6},
    "W": {"w": 0, "mw": -3},
    "B": {"bytes": 0, "kb": 3, "mb": 6, "gb": 9},
}
_NUMBER = "a number, `{min: ...}` or `{max: ...}` expected"
_RANGES = {"share": (0.0, 1.0), "points": (-100.0, 100.0), "cosine": (-1.0, 1.0), "decibel": (-math.inf, math.inf)}


@dataclass(frozen=True, slots=True)
class Measure:
    """What a gate's key stands for: a metric of the table, by which power of ten the key's unit is larger than the table's (s, J, W, B).

    `sign` is -1 where the key counts the other way round; a limit lies between `low` and `high`, in the key's unit.
    """

    metric: str
    exponent: int = 0
    lower_is_better: bool = True
    sign: int = 1
    low: float = 0
    high: float = math.inf

    def si(self, number: float) -> float:
        """A limit in the table's unit, correctly rounded."""
        return self.sign * (number * 10**self.exponent if self.exponent >= 0 else number / 10**-self.exponent)


def _measures() -> Iterator[tuple[str, Measure]]:
    """Every metric of the table under its name; times, energies, powers and sizes in each unit of theirs."""
    for metric, about in METRICS.items():
        low, high = _RANGES.get(about.shown, (0.0, math.inf))
        stem = metric.rpartition("_")[0]
        keys = {f"{stem}_{unit}": exponent for unit, exponent in _UNITS[about.unit].items()} if about.unit in _UNITS else {metric: 0}
        for key, exponent in keys.items():
            yield key, Measure(metric, exponent, about.better == "lower", low=low, high=high)


MEASURES = {**dict(_measures()), "accuracy_drop_pp": Measure("accuracy_change_pp", sign=-1, low=-100, high=100)}


class Limit(Record):
    """What a metric must keep to; a bare number is a `max`."""

    min: float | None = None
    """At least."""
    max: float | None = None
    """At most."""


def _limit_of_number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError(_NUMBER)
    return {"max": value} if isinstance(value, int | float) else value


def _check_metric(key: str) -> str:
    if key not in (*SCOPES, *MEASURES):
        raise ValueError(f"no metric is called {quoted(key)}; {nearest(key, (*SCOPES, *MEASURES))}")
    return key


def _check_shapes(value: object) -> object:
    """A list of names stands at the keys of SCOPES, and at no metric."""
    limits = cast(dict[str, object], value) if isinstance(value, dict) else {}
    strict.refuse({(key,): _misshapen(key, limit) for key, limit in limits.items()})
    return cast(object, value)


def _misshapen(key: str, value: object) -> str:
    if key in SCOPES and not isinstance(value, tuple):
        return f"`{key}`: a list of names expected"
    return f"`{key}`: {_NUMBER}" if key in MEASURES and isinstance(value, tuple) else ""


def _check_limits(limits: Mapping[str, Limit | tuple[str, ...]]) -> Mapping[str, Limit | tuple[str, ...]]:
    strict.refuse({(key,): _fault(key, MEASURES[key], limit) for key, limit in limits.items() if isinstance(limit, Limit)})
    return limits


def _fault(key: str, measure: Measure, limit: Limit) -> str:
    given = [number for number in (limit.min, limit.max) if number is not None]
    if not given:
        return f"`{key}`: `min` or `max` is missing"
    if not measure.lower_is_better and limit.min is None:
        return f"`{key}` is better when it is higher: write `{key}: {{min: {limit.max:g}}}`"
    if not all(measure.low <= number <= measure.high for number in given):
        return f"`{key}`: must be between {measure.low:g} and {measure.high:g}"
    return f"`{key}`: `min` is above `max`" if len(given) == 2 and given[0] > given[1] else ""


MetricKey = Annotated[str, AfterValidator(_check_metric), WithJsonSchema({"type": "string", "enum": [*SCOPES, *MEASURES]})]
Bound = Annotated[
    Annotated[Limit, BeforeValidator(_limit_of_number, json_schema_input_type=float | Limit), Tag("limit")]
    | Annotated[tuple[Name, ...], Field(min_length=1), UniqueNames, Tag("names")],
    Discriminator(lambda value: "names" if isinstance(value, tuple) else "limit"),
]
Limits = Annotated[Mapping[MetricKey, Bound], BeforeValidator(_check_shapes), AfterValidator(_check_limits)]
GateTable = Mapping[SelectorText, Limits]


def parse(table: GateTable) -> tuple[Gate, ...]:
    """Give the gates of a table that was read, in its order."""
    return tuple(gate for selector, limits in table.items() for gate in _gates(selector, limits))


def bind(gates: Iterable[Gate], devices: Iterable[DeviceRecord]) -> tuple[Gate, ...]:
    """Give the gates with the names of the devices that their selectors mean; one with `!` means all others."""
    known = list(devices)
    return tuple(replace(gate, devices=_meant(gate.selector, known)) for gate in gates)


def exit_code(record: RunRecord, failing: int) -> ExitCode:
    """What a run ends with: how its cells fared, and whether a gate fails on any."""
    statuses = {cell.status for cell in record.cells}
    codes = [ExitCode.UNREACHABLE] if "unreachable" in statuses else []
    codes += [ExitCode.GATE_FAILED] if failing else []
    return gravest(codes + ([ExitCode.INCOMPLETE] if statuses - {"valid"} - NOT_TO_MEASURE else []))


def _meant(text: str, devices: Iterable[DeviceRecord]) -> tuple[str, ...]:
    selector = parse_selector(text)
    return tuple(device.name for device in devices if selector.matches(device) != selector.negated)


def _gates(selector: str, limits: Mapping[str, Limit | tuple[str, ...]]) -> Iterator[Gate]:
    scope = {name: names for name, names in limits.items() if isinstance(names, tuple)}
    for key, limit in limits.items():
        if isinstance(limit, Limit):
            yield replace(_gate(selector, key, limit), **scope)


def _gate(selector: str, key: str, limit: Limit) -> Gate:
    measure = MEASURES[key]
    at_most, at_least = (None if number is None else measure.si(number) for number in (limit.max, limit.min))
    if measure.sign < 0:
        at_most, at_least = at_least, at_most
    bounds = [f"{sign} {number:g}" for sign, number in ((">=", limit.min), ("<=", limit.max)) if number is not None]
    return Gate(selector, measure.metric, at_most, at_least, f"{key} {' and '.join(bounds)}")
