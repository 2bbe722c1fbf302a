"""Latency of each cell: p50, p90, p95 and p99 with their intervals on one axis, and the distributions of the first cells underneath."""
# altair's generated classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reports import format as fmt
from reports.charts.base import FADED, KEPT, Datum, Drawn, Metrics, column, found, intervals, layered, names_axis, point, tooltip
from reports.charts.ecdf import beneath, ecdfs
from reports.charts.style import LOG_FROM, SERIES, SHAPES, STEP, WIDTH
from reports.metrics import METRICS, PERCENTILES
from reports.records import CellRecord

PERCENTILE = {"name": "percentile", "value": None}
_DEFAULT = "latency_p90_s"  # whose figures stand beside the plot


def latency(cells: Sequence[Metrics], names: Mapping[str, str], records: Mapping[str, CellRecord]) -> Drawn | None:
    """A shape for each percentile, hollow where the cell is not valid; the figures are those of `percentile`, of p90 while it is null."""
    drawn = _percentiles(cells, names)
    if drawn is None:
        return None
    lines = list(ecdfs(cells, names, records))
    return beneath(drawn, lines) if lines else drawn


def _percentiles(cells: Sequence[Metrics], names: Mapping[str, str]) -> Drawn | None:
    import altair as alt

    rows = found(cells, *PERCENTILES)
    if not rows:
        return None
    scale, divisor, unit = _scale([value for _, value in rows])
    points = [point(row, value, names[row.cell], divisor) for row, value in rows]
    title = f"latency ({unit})"
    scale["domain"] = [min(each["low"] for each in points), max(each["high"] for each in points)]
    x = alt.X("value:Q", title=title, scale=alt.Scale(**scale), axis=alt.Axis(tickCount=8))
    colour, shape = _legend(alt.Color, SERIES), _legend(alt.Shape, SHAPES)
    base = alt.Chart(alt.NamedData("points")).encode(y=names_axis(points), opacity=_opacity())
    reach = base.mark_rule(color="var(--line-strong)").encode(x=alt.X("min(value):Q", title=title), x2="max(value):Q", detail="id:N")
    marks = base.encode(x=x, color=colour, shape=shape, tooltip=tooltip())
    figures = column(base.transform_filter(f"datum.metric === (percentile || '{_DEFAULT}')"), WIDTH)
    layers = [reach, intervals(base, title).encode(color=colour, opacity=_opacity(0.35)), figures, *_marks(marks, points)]
    return layered(*layers, width=WIDTH, height={"step": STEP}), {"points": points}


def _scale(values: Sequence[float]) -> tuple[dict[str, Any], float, str]:
    """(scale, divisor, unit) of the axis; it has a type, and may so be switched, where a logarithm can be taken."""
    lowest, highest = min(values), max(values)
    logarithmic = lowest > 0 and highest / lowest >= LOG_FROM
    divisor, unit = fmt.scale(_DEFAULT, math.sqrt(lowest * highest) if logarithmic else highest)
    switched = {"type": "log" if logarithmic else "linear"} if lowest > 0 else {}
    return {**switched, "nice": False, "padding": 10}, divisor, unit


def _marks(marks: Any, points: Sequence[Datum]) -> list[Any]:
    layers: list[Any] = []
    if any(each["status"] == "valid" for each in points):
        layers.append(marks.transform_filter("datum.status === 'valid'").mark_point(filled=True, size=45))
    if any(each["status"] != "valid" for each in points):
        layers.append(marks.transform_filter("datum.status !== 'valid'").mark_point(filled=False, size=45, strokeWidth=1.8))
    return layers


def _legend(channel: Any, values: Sequence[str]) -> Any:
    import altair as alt

    labels = ", ".join(f"{metric}: '{METRICS[metric].label}'" for metric in PERCENTILES)
    scale = alt.Scale(domain=list(PERCENTILES), range=values)
    return channel("metric:N", title=None, scale=scale, legend=alt.Legend(labelExpr=f"({{{labels}}})[datum.value]"))


def _opacity(opacity: float = 1.0) -> Any:
    """Next to nothing where the cell is not kept, and little where another percentile is chosen."""
    import altair as alt

    other = "percentile !== null && isValid(datum.metric) && datum.metric !== percentile"
    faded = [{"test": f"!{KEPT}", "value": FADED * opacity}, {"test": other, "value": 0.3 * opacity}]
    return alt.OpacityValue(opacity, condition=faded)
