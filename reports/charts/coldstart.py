"""Cold start of each cell: one bar, its parts in the order they happen."""
# altair's generated classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator, Mapping, Sequence

from reports import format as fmt
from reports.charts.base import Datum, Drawn, Metrics, column, fading, found, layered, names_axis, point, tooltip
from reports.charts.style import SERIES, STEP, WIDTH
from reports.metrics import COLD_START_PARTS, METRICS

_ROOM_FOR_FIGURE = 0.11  # share of the axis that a part of a bar needs to carry its figure


def cold_start(cells: Sequence[Metrics], names: Mapping[str, str]) -> Drawn | None:
    """The parts stacked, each with its figure where there is room; the sum at the end."""
    import altair as alt

    totals = found(cells, "cold_start_s")
    if not totals:
        return None
    longest = max(value for _, value in totals)
    divisor, unit = fmt.scale("cold_start_s", longest)
    sums = [point(row, value, names[row.cell], divisor) for row, value in totals]
    parts = [part for cell in cells for part in _stacked(cell, names, divisor, longest / divisor)]
    labels = [METRICS[part].label for part in COLD_START_PARTS]
    colour = alt.Color("label:N", title=None, scale=alt.Scale(domain=labels, range=SERIES))
    scale = alt.Scale(domain=[0, 1.02 * longest / divisor], nice=False)
    x = alt.X("start:Q", title=f"cold start ({unit})", scale=scale, axis=alt.Axis(tickCount=8))
    base = alt.Chart(alt.NamedData("parts")).encode(y=names_axis(sums), opacity=fading())
    bars = base.mark_bar(stroke="var(--page)", strokeWidth=1.5, height=15).encode(x=x, x2="end:Q", color=colour, tooltip=tooltip())
    roomy = base.transform_filter("datum.inside")
    inside = roomy.mark_text(color="var(--on-series)", fontSize=11).encode(x="middle:Q", text="inside:N")
    figures = column(alt.Chart(alt.NamedData("sums")).encode(y=names_axis(sums)), WIDTH)
    return layered(bars, inside, figures, width=WIDTH, height={"step": STEP}), {"parts": parts, "sums": sums}


def _stacked(cell: Metrics, names: Mapping[str, str], divisor: float, longest: float) -> Iterator[Datum]:
    end = 0.0
    for row, value in found([cell], *COLD_START_PARTS):
        part = point(row, value, names[row.cell], divisor)
        start, end = end, end + part["value"]
        roomy = part["value"] >= _ROOM_FOR_FIGURE * longest
        yield {**part, "start": start, "middle": (start + end) / 2, "end": end, "inside": part["shown"] if roomy else ""}
