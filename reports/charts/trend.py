"""How the headline of each cell went over runs: a line a cell, as times the base."""
# altair's generated classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.charts.base import Chart, Datum, fading, finished, point, tooltip
from reports.charts.style import SERIES
from reports.trend import Course, Trend

MOST_COURSES = 20
_WIDTH = 560
_HEIGHT = 40


def trend_chart(trend: Trend, names: Mapping[str, str]) -> Chart | None:
    """One line for each of the first courses that have two valid values, relative to its first; None where there is none."""
    points = [each for course in trend.courses[:MOST_COURSES] if len(found := list(_points(course, trend, names))) > 1 for each in found]
    if not points:
        return None
    return finished("trend", "Headline of each cell over the runs, as times its first", (_drawn(points, trend), {"points": points}))


def _points(course: Course, trend: Trend, names: Mapping[str, str]) -> Iterator[Datum]:
    """The valid values, divided by the first of them."""
    found = [(at, row) for at, row in enumerate(course.rows) if row and row.value and row.status == "valid"]
    for at, row in found:
        assert row.value is not None  # noqa: S101  filtered above
        first = found[0][1].value or 1.0
        drawn = point(row, row.value, names[course.row.cell], first)
        yield {**drawn, "id": course.row.cell, "run": at, "run_name": trend.stops[at].label}


def _drawn(points: Sequence[Datum], trend: Trend) -> Any:
    import altair as alt

    order = list(dict.fromkeys(each["cell"] for each in points))
    labels = " : ".join(f"datum.value === {at} ? {_quoted(stop.label)}" for at, stop in enumerate(trend.stops))
    axis = alt.Axis(labelExpr=f"{labels} : ''", values=list(range(len(trend.stops))), labelAngle=0, labelOverlap=True, grid=False)
    x = alt.X("run:O", title=None, axis=axis, scale=alt.Scale(domain=list(range(len(trend.stops)))))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, nice=False, padding=4), axis=alt.Axis(tickCount=2, grid=True))
    base = alt.Chart(alt.NamedData("points")).encode(x=x, opacity=fading())
    spans = base.mark_rule(strokeWidth=5, color=SERIES[0]).encode(y=alt.Y("low:Q", title=None), y2="high:Q", opacity=fading(0.35))
    line = base.mark_line(color=SERIES[0], strokeWidth=1.5).encode(y=y)
    dots = base.mark_point(filled=True, size=45, color=SERIES[0]).encode(y=y, tooltip=[alt.Tooltip("run_name:N", title="run"), *tooltip()])
    row = alt.Row("cell:N", title=None, sort=order, header=_header(), spacing=10)
    return alt.layer(spans, line, dots).properties(width=_WIDTH, height=_HEIGHT).facet(row=row)


def _header() -> Any:
    import altair as alt

    return alt.Header(labelAngle=0, labelAlign="left", labelColor="var(--ink)", labelFontSize=12, labelLimit=310)


def _quoted(text: str) -> str:
    """A string of a Vega expression."""
    import json

    return json.dumps(text)
