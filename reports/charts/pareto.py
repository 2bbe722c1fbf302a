"""Two quantities of the cells against each other, with the frontier and the gates' limits."""
# altair's generated classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import format as fmt
from reports import text
from reports.charts.base import Datum, Drawn, fading, layered
from reports.charts.style import LOG_FROM, SERIES
from reports.pareto import STANDINGS, Axis, Pairing, Point, Value

_WIDTH, _HEIGHT = 800, 340  # px
_MOST_POINTS = 100
_COLOURS: dict[str, str] = dict(zip(STANDINGS, [SERIES[0], SERIES[1], "var(--muted)", "var(--muted)", SERIES[3], SERIES[2]], strict=True))
_SHAPES: dict[str, str] = dict(zip(STANDINGS, ["circle", "diamond", "triangle-up", "square", "cross", "triangle-down"], strict=True))
_RANKED = STANDINGS[:3]
_TOOLTIP = {"cell": "cell", "shown_x": "{x}", "interval_x": "its 95 % interval", "shown_y": "{y}", "interval_y": "its 95 % interval"}


@dataclass(frozen=True, slots=True)
class _Scale:
    """An axis: its values are divided by `divisor`; `low` and `high` are what it has to show."""

    name: str
    title: str
    divisor: float
    logarithmic: bool
    switched: bool
    low: float
    high: float


def pareto(pairing: Pairing, names: Mapping[str, str]) -> Drawn:
    """Points with their intervals, filled where they are ranked; the frontier as steps; numbers that the table explains."""
    import altair as alt

    shown = pairing.points[:_MOST_POINTS]
    x, y = _scale("x", pairing.x, [point.x for point in shown]), _scale("y", pairing.y, [point.y for point in shown])
    data: dict[str, list[Datum]] = {"points": [_datum(point, names, x, y) for point in shown], "limits": list(_limits(pairing, x, y))}
    base = alt.Chart(alt.NamedData("points")).encode(opacity=fading())
    across, up = _channel(alt.X, x), _channel(alt.Y, y)
    ranked = [one for one in STANDINGS if any(point.standing == one for point in shown)]
    line, fill, shape = (_standing(kind, ranked) for kind in ("stroke", "fill", "shape"))
    spans = base.mark_rule(strokeWidth=1.5).encode(stroke=line, opacity=fading(0.55))
    marks = base.mark_point(size=75, strokeWidth=1.8).encode(x=across, y=up, stroke=line, fill=fill, shape=shape, tooltip=_tooltip(pairing))
    numbers = base.transform_filter("datum.number > 0").mark_text(dx=7, dy=-9, align="left", fontWeight="bold", fontSize=11)
    layers = [
        _frontier(pairing, across, up),
        spans.encode(x=_channel(alt.X, x, "low_x"), x2="high_x:Q", y=up),
        spans.encode(y=_channel(alt.Y, y, "low_y"), y2="high_y:Q", x=across),
        marks,
        numbers.encode(x=across, y=up, text="number:Q"),
        *_limit_layers(data["limits"], x, y),
    ]
    return layered(*layers, width=_WIDTH, height=_HEIGHT), data


def _scale(name: str, axis: Axis, values: Sequence[Value]) -> _Scale:
    lowest, highest = min(one.low for one in values), max(one.high for one in values)
    positive = lowest > 0
    logarithmic = positive and highest / lowest >= LOG_FROM and axis.lower
    middle = (lowest * highest) ** 0.5 if logarithmic else highest
    divisor, unit = fmt.scale(axis.metric, middle) if axis.metric else (1.0, "")
    title = f"{axis.label} ({unit})" if unit else axis.label
    better = "less is better" if axis.lower else "more is better"
    return _Scale(name, f"{title}, {better}", divisor, logarithmic, positive and axis.lower, lowest / divisor, highest / divisor)


def _channel(channel: Any, scale: _Scale, field: str = "") -> Any:
    import altair as alt

    kind: dict[str, Any] = {"type": "log" if scale.logarithmic else "linear"} if scale.switched else {}
    grid = alt.Axis(tickCount=6, grid=True, titlePadding=10)
    return channel(
        f"{field or scale.name}:Q",
        title=scale.title,
        axis=grid,
        scale=alt.Scale(**kind, domain=[scale.low, scale.high], nice=False, padding=22),
    )


def _datum(point: Point, names: Mapping[str, str], x: _Scale, y: _Scale) -> Datum:
    return {
        "id": point.row.cell,
        "cell": names[point.row.cell],
        "standing": point.standing,
        "number": point.number,
        **_along(x, point.x),
        **_along(y, point.y),
        "n": point.row.n,
        "status": point.row.status,
    }


def _along(scale: _Scale, value: Value) -> Datum:
    name, divisor = scale.name, scale.divisor
    numbers = {name: value.value / divisor, f"low_{name}": value.low / divisor, f"high_{name}": value.high / divisor}
    return {**numbers, f"shown_{name}": value.shown, f"interval_{name}": value.interval or "none"}


def _standing(kind: str, present: Sequence[str]) -> Any:
    """A channel by standing; all of them share one legend."""
    import altair as alt

    values = {
        "stroke": [_COLOURS[one] for one in present],
        "fill": [_COLOURS[one] if one in _RANKED else "transparent" for one in present],
        "shape": [_SHAPES[one] for one in present],
    }[kind]
    channel = {"stroke": alt.Stroke, "fill": alt.Fill, "shape": alt.Shape}[kind]
    return channel("standing:N", title=None, scale=alt.Scale(domain=list(present), range=values))


def _frontier(pairing: Pairing, across: Any, up: Any) -> Any:
    """Steps through the frontier: what is the best of `y` for each limit of `x`."""
    import altair as alt

    steps = alt.Chart(alt.NamedData("points")).transform_filter("datum.standing === 'frontier'")
    interpolate = "step-after" if pairing.x.lower else "step-before"
    return steps.mark_line(interpolate=interpolate, color=SERIES[0], strokeWidth=1.5, opacity=0.7).encode(x=across, y=up, order="x:Q")


def _limits(pairing: Pairing, x: _Scale, y: _Scale) -> Iterator[Datum]:
    """The gates' limits that lie where the chart is, or so near that it may grow to show them."""
    for gate in pairing.gates:
        for bound in (gate.at_most, gate.at_least):
            if bound is None:
                continue
            for scale, axis in ((x, pairing.x), (y, pairing.y)):
                at = bound / scale.divisor
                if axis.metric == gate.metric and scale.low <= at <= scale.high:
                    yield {"axis": scale.name, "at": at, "label": text.line(f"{gate.written} ({gate.selector})", 60)}


def _limit_layers(limits: Sequence[Datum], x: _Scale, y: _Scale) -> Iterator[Any]:
    import altair as alt

    for scale, channel in ((x, alt.X), (y, alt.Y)):
        if any(limit["axis"] == scale.name for limit in limits):
            along = _channel(channel, scale, "at")
            base = alt.Chart(alt.NamedData("limits")).transform_filter(f"datum.axis === '{scale.name}'").encode(along)
            yield base.mark_rule(color="var(--ink)", strokeDash=[5, 3], strokeWidth=1.2)
            label = base.mark_text(fontSize=11, align="right", baseline="bottom", dx=-4, dy=-3).encode(text="label:N")
            yield label.encode(y=alt.YValue(0)) if scale.name == "x" else label.encode(x=alt.XValue(_WIDTH))


def _tooltip(pairing: Pairing) -> list[Any]:
    import altair as alt

    titles = {field: title.format(x=pairing.x.label, y=pairing.y.label) for field, title in _TOOLTIP.items()}
    rest = {"standing": "standing", "status": "status", "n": "n"}
    return [alt.Tooltip(field, type="nominal", title=title) for field, title in {**titles, **rest}.items()]
