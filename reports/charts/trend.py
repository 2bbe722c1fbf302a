"""How the headline of each cell went over runs: a line a cell, as times the base."""
# altair's generated classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator, Sequence
from typing import Any

from reports.charts.base import Chart, Datum, column, fading, finished, load_altair, point, tooltip
from reports.charts.drawing import Draw, here
from reports.charts.style import SERIES
from reports.labels import cell_names
from reports.table import Row
from reports.trend import Course, Trend

_WIDTH = 560
_HEIGHT = 26


def trend_charts(trend: Trend | None, table: Sequence[Row], draw: Draw = here) -> dict[str, Chart]:
    """`trend`: a line for each charted course with two valid values; none where there is no such course. `table` is the last run's."""
    names = cell_names(table, statuses=True)
    lines = [list(_points(course, trend, names[course.row.cell])) for course in trend.charted] if trend else []
    points = [each for line in lines if len(line) > 1 for each in line]
    if trend is None or not points:
        return {}
    load_altair()
    drawn = (_drawn(points, trend), {"points": points})
    return {"trend": finished("trend", "Headline of each cell over the runs, as times its first", drawn, draw)}


def _points(course: Course, trend: Trend, name: str) -> Iterator[Datum]:
    """The valid values, divided by the first of them."""
    found = [(at, row) for at, row in enumerate(course.rows) if row and row.value and row.status == "valid"]
    for at, row in found:
        assert row.value is not None  # noqa: S101  filtered above
        first = found[0][1].value or 1.0
        drawn = point(row, row.value, name, first)
        yield {**drawn, "id": course.row.cell, "run": at, "run_name": trend.stops[at].label, "is_last": (at, row) == found[-1]}


def _drawn(points: Sequence[Datum], trend: Trend) -> Any:
    import altair as alt

    order = list(dict.fromkeys(each["cell"] for each in points))
    labels = " : ".join(f"datum.value === {at} ? {_quoted(stop.label)}" for at, stop in enumerate(trend.stops))
    axis = alt.Axis(labelExpr=f"{labels} : ''", values=list(range(len(trend.stops))), labelAngle=0, labelOverlap=True, grid=False)
    x = alt.X("run:O", title=None, axis=axis, scale=alt.Scale(domain=list(range(len(trend.stops)))))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, nice=False, padding=4), axis=alt.Axis(values=[1], grid=True))
    base = alt.Chart(alt.NamedData("points")).encode(x=x, opacity=fading())
    spans = base.mark_rule(strokeWidth=5, color=SERIES[0]).encode(y=alt.Y("low:Q", title=None), y2="high:Q", opacity=fading(0.35))
    line = base.mark_line(color=SERIES[0], strokeWidth=1.5).encode(y=y)
    dots = base.mark_point(filled=True, size=45, color=SERIES[0]).encode(y=y, tooltip=[alt.Tooltip("run_name:N", title="run"), *tooltip()])
    figures = column(base.transform_filter("datum.is_last").encode(y=y), _WIDTH)
    row = alt.Row("cell:N", title=None, sort=order, header=_header(), spacing=10)
    return alt.layer(spans, line, dots, figures).properties(width=_WIDTH, height=_HEIGHT).facet(row=row)


def _header() -> Any:
    import altair as alt

    return alt.Header(labelAngle=0, labelAlign="left", labelColor="var(--ink)", labelFontSize=12, labelLimit=310)


def _quoted(text: str) -> str:
    """A string of a Vega expression."""
    import json

    return json.dumps(text)
