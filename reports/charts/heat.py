"""A launch over time: a panel each for temperature, clock, power and rolling latency, on one time axis."""
# altair's generated classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Collection, Iterator
from typing import Any

from reports import format as fmt
from reports.charts.base import Datum, Drawn, fading, layered
from reports.charts.style import SERIES
from reports.heat import KINDS, Course, Series

_WIDTH, _HEIGHT = 800, 78  # px, a panel
_TITLES = {
    "temperature": "temperature (°C)",
    "clock": "clock (MHz)",
    "power": "power ({unit}), {boundary}",
    "latency": "rolling p50 ({unit})",
}
_METRICS = {"power": "power_average_w", "latency": "latency_p50_s"}


def heat(course: Course) -> Drawn:
    """The panels for which there are series; zoomed by dragging or by the wheel with shift, all together."""
    import altair as alt

    kinds = [kind for kind in KINDS if kind in course.series]
    times = [float(edge) for kind in kinds for edge in (course.series[kind].t_s[0], course.series[kind].t_s[-1])]
    domain = [min(0.0, *times), max(course.window_s, *times)]
    data: dict[str, list[Datum]] = {
        "spans": list(_spans(course)),
        "window": [{"at": 0.0}, {"at": _short(course.window_s)}],
    }
    panels: list[Any] = []
    for kind in kinds:
        divisor, title = _unit(course, kind)
        data[kind] = [_line(course.row.cell, course.series[kind], divisor)]
        data[f"{kind}_levels"] = list(_levels(course, kind, divisor))
        x = alt.X(
            "t:Q",
            title=(title_x := _axis_title(course) if kind == kinds[-1] else None),
            scale=alt.Scale(domain=domain, nice=False),
            axis=alt.Axis(labels=kind == kinds[-1], tickCount=8),
        )
        heading = alt.TitleParams(title, anchor="start", fontSize=12, fontWeight="normal", color="var(--muted)", offset=4)
        layers = _layers(kind, x, title_x, {name for name, some in data.items() if some}, _said(course) if kind == kinds[0] else "")
        panels.append(layered(*layers, title=heading.to_dict(), width=_WIDTH, height=_HEIGHT))
    return {"vconcat": panels, "spacing": 8, "resolve": {"scale": {"x": "shared"}}}, data


def zoom(course: Course) -> dict[str, Any]:
    """The parameter by which all panels move together, which altair would warn of as one that several views share."""
    select = {"type": "interval", "encodings": ["x"], "zoom": "wheel![event.shiftKey]"}
    return {"name": "zoom", "select": select, "bind": "scales", "views": list(course.series)}


def _layers(kind: str, x: Any, title: str | None, present: Collection[str], said: str) -> Iterator[Any]:
    """What a panel shows, from the back to the front; `said` stands above it."""
    import altair as alt

    if "spans" in present:
        spans = alt.Chart(alt.NamedData("spans")).mark_rect(color=SERIES[1], opacity=0.25)
        yield spans.encode(x=alt.X("begin:Q", title=title), x2="end:Q", tooltip=alt.Tooltip("evidence:N", title="throttled"))
    window = alt.Chart(alt.NamedData("window"))
    yield window.mark_rule(color="var(--line-strong)", strokeDash=[4, 3]).encode(x=alt.X("at:Q", title=title))
    yield from _level_layers(kind) if f"{kind}_levels" in present else ()
    y = alt.Y("v:Q", title=None, scale=alt.Scale(zero=False, padding=6), axis=alt.Axis(tickCount=3, grid=True, minExtent=48))
    line = alt.Chart(alt.NamedData(kind)).transform_flatten(["t", "v"])
    step = "step-after" if kind == "clock" else "linear"
    yield line.mark_line(color=SERIES[0], strokeWidth=1.6, interpolate=step).encode(x=x, y=y, opacity=fading()).properties(name=kind)
    if said:
        words = alt.Chart(alt.Data(values=[{"said": said}])).mark_text(align="right", baseline="bottom", dy=-6, fontSize=11)
        yield words.encode(x=alt.XValue(_WIDTH), y=alt.YValue(0), text="said:N")


def _level_layers(kind: str) -> Iterator[Any]:
    import altair as alt

    levels = alt.Chart(alt.NamedData(f"{kind}_levels")).encode(y=alt.Y("low:Q", title=None))
    yield levels.mark_rect(color=SERIES[2], opacity=0.3).encode(y2="high:Q", x=alt.XValue(0), x2=alt.X2Value(_WIDTH))
    yield levels.mark_rule(color=SERIES[2], strokeDash=[2, 2])
    yield levels.mark_text(align="right", baseline="bottom", dx=-3, dy=-2, fontSize=11).encode(x=alt.XValue(_WIDTH), text="label:N")


def _unit(course: Course, kind: str) -> tuple[float, str]:
    """(divisor, title) of a panel."""
    fixed = {"temperature": 1.0, "clock": 1e6}
    if kind in fixed:
        return fixed[kind], _TITLES[kind]
    divisor, unit = fmt.scale(_METRICS[kind], float(course.series[kind].values.max()))
    return divisor, _TITLES[kind].format(unit=unit, boundary=course.boundary)


def _axis_title(course: Course) -> str:
    shaded = "; shaded: throttled" if course.throttled else ""
    return f"seconds since the measured window began; dashed: its begin and end{shaded}"


def _line(cell: str, series: Series, divisor: float) -> Datum:
    return {"id": cell, "t": [_short(t) for t in series.t_s.tolist()], "v": [_short(value / divisor) for value in series.values.tolist()]}


def _spans(course: Course) -> Iterator[Datum]:
    """The times in which it was throttled, those that overlap as one."""
    begin_s, end_s, evidence = math.inf, -math.inf, ""
    for span in sorted(course.throttled, key=lambda one: one.begin_s):
        if span.begin_s > end_s and evidence:
            yield _span(course, begin_s, end_s, evidence)
            begin_s, end_s, evidence = math.inf, -math.inf, ""
        begin_s, end_s, evidence = min(begin_s, span.begin_s), max(end_s, span.end_s), evidence or span.evidence
    if evidence:
        yield _span(course, begin_s, end_s, evidence)


def _span(course: Course, begin_s: float, end_s: float, evidence: str) -> Datum:
    return {"id": course.row.cell, "begin": _short(begin_s), "end": _short(end_s), "evidence": evidence}


def _said(course: Course) -> str:
    """What the shaded times are, in words."""
    if not course.throttled:
        return ""
    return f"throttled where shaded, first after {course.throttled[0].begin_s:.0f} s: {course.throttled[0].evidence}"


def _levels(course: Course, kind: str, divisor: float) -> Iterator[Datum]:
    """The temperature's limit where the launch came near it, and the idle power as the band between before and after."""
    if kind == "power" and course.idle_w:
        low, high = course.idle_w
        yield {
            "low": _short(low / divisor),
            "high": _short(high / divisor),
            "label": f"idle, {fmt.interval('power_idle_w', low, low, high)}",
        }
    if kind == "temperature" and course.limit_c is not None and course.series[kind].values.max() > course.limit_c - 10:
        yield {"low": course.limit_c, "high": course.limit_c, "label": f"limit {course.limit_c:.0f} °C"}


def _short(number: float) -> float:
    return float(f"{number:.5g}")
