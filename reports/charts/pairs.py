"""Two quantities of the same cells side by side: size and memory, accuracy and its change, energy gross and net."""
# altair's generated classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Mapping, Sequence

from reports import format as fmt
from reports.charts.base import (
    AltairChart,
    Datum,
    Drawn,
    Metrics,
    View,
    column,
    fading,
    found,
    intervals,
    layered,
    names_axis,
    point,
    tooltip,
)
from reports.charts.style import PANEL, SERIES, STEP
from reports.metrics import ENERGIES, METRICS, TASK_METRICS

Draw = Callable[[AltairChart, str], View]  # onto a base chart and under an axis title


def footprint(cells: Sequence[Metrics], names: Mapping[str, str]) -> Drawn | None:
    """Model size and peak memory."""
    return _pair(cells, names, {"size_bytes": _bars, "peak_memory_bytes": _bars})


def accuracies(cells: Sequence[Metrics], names: Mapping[str, str]) -> dict[str, Drawn | None]:
    """Each task's metric and its change, of the cells that have it."""
    having = {metric: [cell for cell in cells if found([cell], metric)] for metric in TASK_METRICS}
    return {one: _pair(some, names, {one: _dots, "accuracy_change_pp": _changes}) for one, some in having.items() if some}


def energies(cells: Sequence[Metrics], names: Mapping[str, str]) -> dict[str, Drawn | None]:
    """Energy gross and net by power boundary: one axis never shows two of them."""
    boundaries = sorted({row.boundary for row, _ in found(cells, *ENERGIES)})
    within = {each: [cell for cell in cells if any(row.boundary == each for row, _ in found([cell], *ENERGIES))] for each in boundaries}
    return {boundary: _pair(some, names, dict.fromkeys(ENERGIES, _bars)) for boundary, some in within.items()}


def _pair(cells: Sequence[Metrics], names: Mapping[str, str], draw: Mapping[str, Draw]) -> Drawn | None:
    """Two panels side by side over the same cells, the names on the left only."""
    import altair as alt

    shown = [metric for metric in draw if found(cells, metric)]
    if not shown:
        return None
    present: list[Datum] = [{"cell": names[row.cell]} for row, _ in found(cells, *shown)]
    panels: list[View] = []
    data: dict[str, list[Datum]] = {}
    for metric in shown:
        rows = found(cells, metric)
        divisor, unit = fmt.scale(metric, max(abs(value) for _, value in rows))
        data[metric] = [point(row, value, names[row.cell], divisor) for row, value in rows]
        base = alt.Chart(alt.NamedData(metric)).encode(y=names_axis(present, labelled=metric == shown[0]), tooltip=tooltip())
        panels.append({**draw[metric](base, f"{METRICS[metric].label} ({unit})"), "width": PANEL, "height": {"step": STEP}})
    return {"hconcat": panels, "spacing": 28}, data


def _bars(base: AltairChart, title: str) -> View:
    import altair as alt

    bars = base.mark_bar(color=SERIES[0], height=13).encode(x=alt.X("value:Q", title=title, axis=alt.Axis(tickCount=5)), opacity=fading())
    spans = base.mark_rule(color="var(--ink)", strokeWidth=1.5).encode(x=alt.X("low:Q", title=title), x2="high:Q", opacity=fading())
    return layered(bars, spans, column(base, PANEL))


def _dots(base: AltairChart, title: str) -> View:
    """Points with their intervals, on an axis that need not start at zero."""
    import altair as alt

    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False, padding=10), axis=alt.Axis(tickCount=5))
    points = base.mark_point(filled=True, size=60, color=SERIES[0]).encode(x=x, opacity=fading())
    return layered(intervals(base, title), points, column(base, PANEL))


def _changes(base: AltairChart, title: str) -> View:
    """Dots, and a line at zero, the reference."""
    import altair as alt

    zero = alt.Chart(alt.Data(values=[{}])).mark_rule(color="var(--muted)", strokeDash=[3, 3]).encode(x=alt.datum(0))
    return layered(zero, _dots(base, title))
