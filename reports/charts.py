"""The charts, declared with Vega-Altair: for each its Vega-Lite specification and the static SVG drawn from it.

Colours are CSS variables of the page (--series-1 and so on), in the SVG and in the live chart alike: both follow light, dark and print by
style sheet alone. Shapes, labels and order carry whatever a colour does.
"""
# altair's generated classes and vl_convert are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from reports import format as fmt
from reports.labels import cell_names, ordered_cells
from reports.metrics import COLD_START_PARTS, ENERGIES, METRICS
from reports.table import Row

Metrics = Mapping[str, Row]
Point = dict[str, Any]
AltairChart = Any
Draw = Callable[[AltairChart, str], AltairChart]  # onto a base chart and under an axis title
Drawn = tuple[AltairChart, dict[str, list[Point]]]  # a chart and the data it names

MOST_CELLS = 120
_WIDTH = 650  # px, the plot of a chart alone; the names of cells and the column of figures come beside it
_PANEL = 285  # px, each of two plots side by side
_STEP = 24  # px a cell
_LOG_FROM = 8  # largest over smallest value from which an axis is logarithmic
_ROOM_FOR_FIGURE = 0.11  # share of the axis that a part of a bar needs to carry its figure
_SERIES = ["var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)"]
_SHAPES = ["circle", "diamond", "triangle-up"]
_LATENCIES = ("latency_p50_s", "latency_p90_s", "latency_p99_s")
_TOOLTIP = {"cell": "cell", "metric": "metric", "shown": "value", "interval": "95 % interval", "n": "n", "status": "status"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: `spec` is Vega-Lite as JSON-ready objects, without any URL, and `svg` the same drawn."""

    name: str
    title: str
    spec: Mapping[str, Any]
    svg: str


def charts(table: Sequence[Row]) -> dict[str, Chart]:
    """The charts for which the table has numbers, by name, of at most MOST_CELLS cells.

    latency, footprint, cold-start, accuracy, and energy-BOUNDARY for each boundary: one axis never shows two of them.
    """
    cells = _foremost(ordered_cells(table))
    names = cell_names(table, statuses=True)
    drawn = {
        "latency": ("Latency of each cell: p50, p90 and p99 with their 95 % intervals", _latency(cells, names)),
        "footprint": ("Model size and peak memory of each cell", _pair(cells, names, {"size_bytes": _bars, "peak_memory_bytes": _bars})),
        "cold-start": ("Cold start of each cell, stacked by part", _cold_start(cells, names)),
        "accuracy": (
            "Accuracy of each cell and its change against fp32",
            _pair(cells, names, {"accuracy": _dots, "accuracy_change_pp": _changes}),
        ),
        **_energies(cells, names),
    }
    return {name: _chart(name, title, *chart) for name, (title, chart) in drawn.items() if chart is not None}


@cache
def runtime() -> str:
    """The JavaScript that makes charts live: Vega, Vega-Lite and vega-embed in one, defining window.vegaEmbed; fit for a script element."""
    import vl_convert

    bundle = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]  its stub asks for a snippet, it does not
    if "</script" in bundle.lower() or "<!--" in bundle or "\r" in bundle:
        raise ValueError("vl_convert's JavaScript bundle holds what would end or change a script element")
    return bundle


def _chart(name: str, title: str, chart: AltairChart, data: Mapping[str, list[Point]]) -> Chart:
    import vl_convert

    styled = chart.configure(**_style()).configure_view(stroke=None)
    spec: dict[str, Any] = {**styled.to_dict(validate=False), "datasets": data}  # drawing it below checks it faster
    version = str(spec.pop("$schema")).rpartition("/v")[2].rsplit(".", 2)[0]
    return Chart(name, title, spec, vl_convert.vegalite_to_svg(spec, vl_version=version))


def _style() -> dict[str, Any]:
    ink, muted, line = "var(--ink)", "var(--muted)", "var(--line)"
    text = {"labelColor": ink, "titleColor": muted, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "aria": False,  # the page names each chart and has a table of its numbers beside it
        "background": "transparent",
        "font": "Arial, Helvetica, Liberation Sans, sans-serif",  # alike in width, so that what is drawn here fits there
        "padding": {"left": 5, "right": 20, "top": 5, "bottom": 5},
        "axis": {**text, "gridColor": line, "domainColor": line, "tickColor": line, "labelLimit": 310},
        "axisY": {"domain": False, "ticks": False, "grid": False, "labelPadding": 8},
        "legend": {**text, "orient": "top", "symbolSize": 90, "symbolStrokeWidth": 2, "symbolOpacity": 1, "columnPadding": 18},
        "text": {"color": ink, "fontSize": 12},
    }


def _foremost(cells: Sequence[Metrics]) -> list[Metrics]:
    """The cells, in their order, that a chart has room for: the best of each device before the second best of any."""
    seen: Counter[tuple[str, ...]] = Counter()
    ranks: list[int] = []
    for cell in cells:
        row = next(iter(cell.values()))
        seen[group := (row.model, row.workload, row.device)] += 1
        ranks.append(seen[group])
    kept = sorted(range(len(cells)), key=lambda at: (ranks[at], at))[:MOST_CELLS]
    return [cells[at] for at in sorted(kept)]


def _found(cells: Sequence[Metrics], *metrics: str) -> list[tuple[Row, float]]:
    """The rows of these metrics that have a value, with it."""
    rows = [row for cell in cells for metric in metrics if (row := cell.get(metric))]
    return [(row, row.value) for row in rows if row.value is not None]


def _point(row: Row, value: float, name: str, divisor: float) -> Point:
    """A datum in the axis's unit; `shown` is the value as it is shown everywhere."""
    return {
        "cell": name,
        "metric": METRICS[row.metric].label,
        "value": value / divisor,
        "low": (value if row.low is None else row.low) / divisor,
        "high": (value if row.high is None else row.high) / divisor,
        "shown": fmt.value(row.metric, value),
        "interval": fmt.interval(row.metric, value, row.low, row.high) or "none",
        "n": row.n,
        "status": row.status,
    }


def _latency(cells: Sequence[Metrics], names: Mapping[str, str]) -> Drawn | None:
    """p50, p90 and p99 on one axis, a shape each, hollow where the cell is not valid; p90 in figures."""
    import altair as alt

    found = _found(cells, *_LATENCIES)
    if not found:
        return None
    lowest, highest = min(value for _, value in found), max(value for _, value in found)
    logarithmic = lowest > 0 and highest / lowest >= _LOG_FROM
    divisor, unit = fmt.scale("latency_p90_s", math.sqrt(lowest * highest) if logarithmic else highest)
    points = [_point(row, value, names[row.cell], divisor) for row, value in found]
    labels = [METRICS[metric].label for metric in _LATENCIES]
    colour = alt.Color("metric:N", title=None, scale=alt.Scale(domain=labels, range=_SERIES[:3]))
    shape = alt.Shape("metric:N", title=None, scale=alt.Scale(domain=labels, range=_SHAPES))
    title = f"latency ({unit})"
    scale = alt.Scale(type="log", nice=False, padding=10) if logarithmic else alt.Scale(zero=False, nice=False, padding=10)
    x = alt.X("value:Q", title=title, scale=scale, axis=alt.Axis(tickCount=8))
    picked = alt.selection_point(name="percentile", fields=["metric"], bind="legend")
    base = alt.Chart(alt.NamedData("points")).encode(y=_names_axis(points))
    reach = base.mark_rule(color="var(--line-strong)").encode(x=alt.X("min(value):Q", title=title), x2="max(value):Q")
    spans = _intervals(base, title).encode(color=colour)
    marks = base.encode(x=x, color=colour, shape=shape, opacity=alt.condition(picked, alt.value(1), alt.value(0.12)), tooltip=_tooltip())
    layers = [reach, spans.add_params(picked), _column(base.transform_filter(f"datum.metric === '{labels[1]}'"), _WIDTH)]
    if any(point["status"] == "valid" for point in points):
        layers.append(marks.transform_filter("datum.status === 'valid'").mark_point(filled=True, size=70))
    if any(point["status"] != "valid" for point in points):
        layers.append(marks.transform_filter("datum.status !== 'valid'").mark_point(filled=False, size=60, strokeWidth=1.8))
    return alt.layer(*layers).properties(width=_WIDTH, height=alt.Step(_STEP)), {"points": points}


def _cold_start(cells: Sequence[Metrics], names: Mapping[str, str]) -> Drawn | None:
    """One bar a cell, its parts in the order they happen, each with its figure where there is room; the sum at the end."""
    import altair as alt

    totals = _found(cells, "cold_start_s")
    if not totals:
        return None
    longest = max(value for _, value in totals)
    divisor, unit = fmt.scale("cold_start_s", longest)
    sums = [_point(row, value, names[row.cell], divisor) for row, value in totals]
    parts = [part for cell in cells for part in _stacked(cell, names, divisor, longest / divisor)]
    labels = [METRICS[part].label for part in COLD_START_PARTS]
    colour = alt.Color("metric:N", title=None, scale=alt.Scale(domain=labels, range=_SERIES))
    x = alt.X(
        "start:Q",
        title=f"cold start ({unit})",
        scale=alt.Scale(domain=[0, 1.02 * longest / divisor], nice=False),
        axis=alt.Axis(tickCount=8),
    )
    base = alt.Chart(alt.NamedData("parts")).encode(y=_names_axis(sums))
    bars = base.mark_bar(stroke="var(--page)", strokeWidth=1.5, height=15).encode(x=x, x2="end:Q", color=colour, tooltip=_tooltip())
    inside = base.mark_text(color="var(--on-series)", fontSize=11).encode(x="middle:Q", text="inside:N")
    figures = _column(alt.Chart(alt.NamedData("sums")).encode(y=_names_axis(sums)), _WIDTH)
    return alt.layer(bars, inside, figures).properties(width=_WIDTH, height=alt.Step(_STEP)), {"parts": parts, "sums": sums}


def _stacked(cell: Metrics, names: Mapping[str, str], divisor: float, longest: float) -> Iterator[Point]:
    end = 0.0
    for row, value in _found([cell], *COLD_START_PARTS):
        point = _point(row, value, names[row.cell], divisor)
        start, end = end, end + point["value"]
        roomy = point["value"] >= _ROOM_FOR_FIGURE * longest
        yield {**point, "start": start, "middle": (start + end) / 2, "end": end, "inside": point["shown"] if roomy else ""}


def _pair(cells: Sequence[Metrics], names: Mapping[str, str], draw: Mapping[str, Draw]) -> Drawn | None:
    """Two panels side by side over the same cells, the names on the left only."""
    import altair as alt

    shown = [metric for metric in draw if _found(cells, metric)]
    if not shown:
        return None
    present = [{"cell": names[row.cell]} for row, _ in _found(cells, *shown)]
    panels: list[AltairChart] = []
    data: dict[str, list[Point]] = {}
    for metric in shown:
        found = _found(cells, metric)
        divisor, unit = fmt.scale(metric, max(abs(value) for _, value in found))
        data[metric] = [_point(row, value, names[row.cell], divisor) for row, value in found]
        base = alt.Chart(alt.NamedData(metric)).encode(y=_names_axis(present, labelled=metric == shown[0]), tooltip=_tooltip())
        panels.append(draw[metric](base, f"{METRICS[metric].label} ({unit})").properties(width=_PANEL, height=alt.Step(_STEP)))
    return alt.hconcat(*panels, spacing=28), data


def _energies(cells: Sequence[Metrics], names: Mapping[str, str]) -> dict[str, tuple[str, Drawn | None]]:
    boundaries = sorted({row.boundary for row, _ in _found(cells, *ENERGIES)})
    within = {each: [cell for cell in cells if any(row.boundary == each for row, _ in _found([cell], *ENERGIES))] for each in boundaries}
    return {
        f"energy-{boundary}": (f"Energy per inference of each cell, {boundary}", _pair(some, names, dict.fromkeys(ENERGIES, _bars)))
        for boundary, some in within.items()
    }


def _bars(base: AltairChart, title: str) -> AltairChart:
    import altair as alt

    bars = base.mark_bar(color=_SERIES[0], height=13).encode(x=alt.X("value:Q", title=title, axis=alt.Axis(tickCount=5)))
    spans = base.mark_rule(color="var(--ink)", strokeWidth=1.5).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    return alt.layer(bars, spans, _column(base, _PANEL))


def _dots(base: AltairChart, title: str) -> AltairChart:
    """Points with their intervals, on an axis that need not start at zero."""
    import altair as alt

    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False, padding=10), axis=alt.Axis(tickCount=5))
    points = base.mark_point(filled=True, size=60, color=_SERIES[0], opacity=1).encode(x=x)
    return alt.layer(_intervals(base, title), points, _column(base, _PANEL))


def _changes(base: AltairChart, title: str) -> AltairChart:
    """Dots, and a line at zero, the reference."""
    import altair as alt

    zero = alt.Chart(alt.Data(values=[{}])).mark_rule(color="var(--muted)", strokeDash=[3, 3]).encode(x=alt.datum(0))
    return alt.layer(zero, _dots(base, title))


def _intervals(base: AltairChart, title: str) -> AltairChart:
    import altair as alt

    return base.mark_rule(strokeWidth=7, opacity=0.35, color=_SERIES[0]).encode(x=alt.X("low:Q", title=title), x2="high:Q")


def _column(base: AltairChart, width: int) -> AltairChart:
    """The figures, as they are shown everywhere, in a column to the right of the plot."""
    import altair as alt

    return base.mark_text(align="left").encode(x=alt.value(width + 10), text="shown:N")


def _names_axis(points: Sequence[Point], *, labelled: bool = True) -> Any:
    import altair as alt

    order = list(dict.fromkeys(point["cell"] for point in points))
    return alt.Y("cell:N", title=None, scale=alt.Scale(domain=order), axis=alt.Axis(labels=labelled))


def _tooltip() -> list[Any]:
    import altair as alt

    return [alt.Tooltip(field, type="nominal", title=title) for field, title in _TOOLTIP.items()]
