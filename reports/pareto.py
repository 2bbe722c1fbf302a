"""What the ranked number costs in energy, size, accuracy or price: which cells are on the frontier, tied with it, or dominated by whom.

A cell is dominated where another is better in one of the two and not worse in the other. It is tied where that is not resolved for any cell
of the frontier, by the rules by which the verdict compares cells (METHOD.md, rule 11).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.power import METER
from reports import format as fmt
from reports import text
from reports.cheapest import price as shown_price
from reports.comparison import Floors, is_twin, judge, known_floors
from reports.labels import ordered_cells
from reports.metrics import METRICS, TASK_METRICS, headline
from reports.records import Gate, Price, RunRecord
from reports.table import Row

STANDINGS: tuple[str, ...] = ("frontier", "tied", "dominated", "not valid", "emulated", "foreign")

_ENERGIES = ("energy_gross_j", f"{METER}_energy_gross_j")


@dataclass(frozen=True, slots=True)
class Value:
    """A number with its interval, the same twice where there is none, in the table's unit; `shown` and `interval` as everywhere.

    `row` is of the table where launches can be compared by it.
    """

    value: float
    low: float
    high: float
    shown: str
    interval: str
    row: Row | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """What is along an axis: `metric` is empty for a price. `lower` tells whether less is better.

    `of_samples`: it counts answers to the same samples, so that cells of one variant do not differ by its interval.
    """

    metric: str
    label: str
    lower: bool
    of_samples: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """A cell in both quantities. `standing` is of STANDINGS, `by` a cell of the frontier that dominates it.

    Of a cell on the frontier `by` is one that is resolved to be better in one of the two, while its own lead in the other is not resolved.

    `number` counts the cells on the frontier and tied with it, best of `x` first; 0 for the others.
    """

    row: Row
    x: Value
    y: Value
    standing: str = ""
    by: Row | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two quantities of the cells of one model and workload; points in the order of STANDINGS, best of `x` first.

    `emulated`: no real device has a valid cell, so that the frontier is that of emulated ones. `gates` bound one of the two axes.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    emulated: bool
    gates: tuple[Gate, ...]

    def of(self, *standings: str) -> tuple[Point, ...]:
        """The points of these standings, in order."""
        return tuple(point for point in self.points if point.standing in standings)


def pairings(run: RunRecord, table: Sequence[Row]) -> list[Pairing]:
    """Every pairing that has numbers, by model and workload: the ranked number with energy, size, the task's metric and price.

    Of energy there is one for each power boundary, of price one for each currency in which devices differ: they are never mixed.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Row]]] = {}
    for cell in ordered_cells(table):
        row = next(iter(cell.values()))
        if not is_twin(row):
            groups.setdefault((row.model, row.workload), []).append(cell)
    several = len(groups) > 1
    made = [
        (f"{y.label}: {model}, {workload}" if several else y.label, x, y, points)
        for (model, workload), cells in groups.items()
        for x, y, points in _with_numbers(run, headline(workload), cells)
    ]
    judges = _Judge(known_floors(run, table))
    return [_ranked(f"pareto-{at}", title, x, y, points, run.gates, judges) for at, (title, x, y, points) in enumerate(made, 1)]


def _with_numbers(run: RunRecord, metric: str, cells: Sequence[Mapping[str, Row]]) -> Iterator[tuple[Axis, Axis, list[Point]]]:
    x = _axis(metric)
    for y, values in _costs(run, cells):
        points = [Point(row, _value(row), values[row.cell]) for cell in cells if (row := cell.get(metric)) and row.cell in values]
        points = [point for point in points if point.row.value is not None]
        if points:
            yield x, y, points


def _costs(run: RunRecord, cells: Sequence[Mapping[str, Row]]) -> Iterator[tuple[Axis, dict[str, Value]]]:
    """Each other axis with the values on it by cell."""
    energies = _valued(cells, *_ENERGIES)
    for boundary in sorted({row.boundary for row in energies}):
        within = {row.cell: _value(row) for row in reversed(energies) if row.boundary == boundary}  # the device's own before the meter's
        yield replace(_axis(_ENERGIES[0]), label=f"{METRICS[_ENERGIES[0]].label}, {boundary}"), within
    sizes = {row.cell: _value(row) for row in _valued(cells, "size_bytes")}
    if sizes:
        yield _axis("size_bytes"), sizes
    changes = {row.cell: row for row in _valued(cells, "accuracy_change_pp")}
    for metric in TASK_METRICS:
        qualities = {row.cell: _quality(row, changes.get(row.cell)) for row in _valued(cells, metric)}
        if qualities:
            yield replace(_axis(metric), of_samples=True), qualities
    yield from _prices(run, cells)


def _prices(run: RunRecord, cells: Sequence[Mapping[str, Row]]) -> Iterator[tuple[Axis, dict[str, Value]]]:
    prices = {text.line(name, 80): device.price for name, device in run.devices.items() if device.price}
    of = {row.cell: price for cell in cells for row in [next(iter(cell.values()))] if (price := prices.get(row.device))}
    for currency in sorted({price.currency for price in of.values()}):
        within = {cell: _priced(price) for cell, price in of.items() if price.currency == currency}
        if len({value.value for value in within.values()}) > 1:
            yield Axis("", f"device price in {text.line(currency, 20)}", True), within


def _valued(cells: Sequence[Mapping[str, Row]], *metrics: str) -> list[Row]:
    return [row for cell in cells for metric in metrics if (row := cell.get(metric)) and row.value is not None]


def _axis(metric: str) -> Axis:
    return Axis(metric, METRICS[metric].label, METRICS[metric].better == "lower")


def _value(row: Row) -> Value:
    value = row.value or 0.0
    low, high = (value if bound is None else bound for bound in (row.low, row.high))
    return Value(value, low, high, fmt.value(row.metric, value), fmt.interval(row.metric, value, row.low, row.high), row)


def _quality(row: Row, change: Row | None) -> Value:
    """A task's metric with the paired interval of its change: all cells answer the same samples, which two intervals apart do not know."""
    if change is None:
        return _value(row)
    if change.low is None or change.high is None:
        return _value(replace(row, low=None, high=None))
    value, moved = row.value or 0.0, change.value or 0.0
    return _value(replace(row, low=value + (change.low - moved) / 100, high=value + (change.high - moved) / 100))


def _priced(price: Price) -> Value:
    return Value(price.amount, price.amount, price.amount, shown_price(price), "")


def _ranked(name: str, title: str, x: Axis, y: Axis, points: Sequence[Point], gates: Sequence[Gate], judges: "_Judge") -> Pairing:
    points = sorted(points, key=lambda point: (_worse(x, point.x), _worse(y, point.y)))
    real = any(_kind(point.row) == "real" for point in points)
    kind = "real" if real else "emulated"
    rivals = [point for point in points if _is_rival(point.row, kind)]
    frontier: list[Point] = []  # in the order of `points` only what came before can dominate one, and it is dominated by nobody else
    for one in rivals:
        if not any(_dominates(x, y, other, one) for other in frontier):
            frontier.append(one)
    placed = [replace(point, standing=_outside(point.row)) for point in points if not _is_rival(point.row, kind)]
    placed += [_placed(x, y, point, frontier, judges) for point in rivals]
    placed.sort(key=lambda point: (STANDINGS.index(point.standing), _worse(x, point.x)))
    ahead = sum(point.standing in STANDINGS[:2] for point in placed)
    numbered = tuple(replace(point, number=at if at <= ahead else 0) for at, point in enumerate(placed, 1))
    devices = {point.row.device for point in points}
    bounds = tuple(gate for gate in gates if gate.metric in (x.metric, y.metric) and devices & {text.line(one, 80) for one in gate.devices})
    return Pairing(name, title, x, y, numbered, not real and bool(rivals), bounds)


def _kind(row: Row) -> str:
    return "foreign" if row.protocol else "emulated" if row.emulated else "real"


def _is_rival(row: Row, kind: str) -> bool:
    return row.status == "valid" and _kind(row) == kind


def _outside(row: Row) -> str:
    """Why a cell is not ranked here."""
    return _kind(row) if _kind(row) != "real" and row.status == "valid" else "not valid"


def _placed(x: Axis, y: Axis, point: Point, frontier: Sequence[Point], judges: "_Judge") -> Point:
    if point in frontier:
        rival = next((other.row for other in frontier if other is not point and _is_unsure(x, y, point, other, judges)), None)
        return replace(point, standing="frontier", by=rival)
    ahead = next((other for other in frontier if _dominates(x, y, other, point) and _is_resolved(x, y, other, point, judges)), None)
    return replace(point, standing="dominated", by=ahead.row) if ahead else replace(point, standing="tied")


def _is_resolved(x: Axis, y: Axis, one: Point, other: Point, judges: "_Judge") -> bool:
    """Of two points, the first of which dominates the second: whether it does without doubt, wherever the two differ."""
    same = y.of_samples and one.row.variant == other.row.variant and one.y.value == other.y.value
    pairs = [(x, one.x, other.x), *([] if same else [(y, one.y, other.y)])]
    return all(better.value == worse.value or judges.differ(axis, better, worse) for axis, better, worse in pairs)


def _is_unsure(x: Axis, y: Axis, one: Point, rival: Point, judges: "_Judge") -> bool:
    """Of two points of a frontier: whether only the rival's lead over the first is resolved."""
    axes = [(axis, mine, its) for axis, mine, its in ((x, one.x, rival.x), (y, one.y, rival.y)) if mine.value != its.value]
    ahead = [_worse(axis, mine) < _worse(axis, its) for axis, mine, its in axes]
    led = [
        judges.differ(axis, *((mine, its) if is_ahead else (its, mine))) for (axis, mine, its), is_ahead in zip(axes, ahead, strict=True)
    ]
    return any(led) and not any(resolved and is_ahead for resolved, is_ahead in zip(led, ahead, strict=True))


class _Judge:
    """Compares values by their launches, each pair once."""

    def __init__(self, floors: Floors) -> None:
        self._floors = floors
        self._found: dict[tuple[str, str, str], bool | None] = {}

    def differ(self, axis: Axis, better: Value, worse: Value) -> bool:
        """Whether that difference is resolved; without launches to compare, whether the worse one's interval ends before the better."""
        found = self._by_launches(better.row, worse.row) if better.row and worse.row else None
        end = worse.low if axis.lower else -worse.high
        return end > _worse(axis, better) if found is None else found

    def _by_launches(self, better: Row, worse: Row) -> bool | None:
        key = (better.metric, better.cell, worse.cell)
        if key not in self._found:
            judged = judge(worse, better, self._floors)
            self._found[key] = judged.verdict == "slower" if judged.comparison else None
        return self._found[key]


def _worse(axis: Axis, value: Value) -> float:
    """What is the larger the worse the value is."""
    return value.value if axis.lower else -value.value


def _dominates(x: Axis, y: Axis, one: Point, other: Point) -> bool:
    gains = (_worse(x, other.x) - _worse(x, one.x), _worse(y, other.y) - _worse(y, one.y))  # by how much `one` is better
    return min(gains) >= 0 and max(gains) > 0
