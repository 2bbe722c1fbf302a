"""The distributions of latencies: for each latency the share of inferences that took no longer."""
# altair's generated classes are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports import format as fmt
from reports.charts.base import KEPT, AltairChart, Datum, Drawn, Metrics, fading, foremost, view
from reports.charts.style import LOG_FROM, SERIES, WIDTH
from reports.ecdf import ecdf, latencies
from reports.records import CellRecord

MOST_LINES = 12
_HEIGHT = 230  # px
_DASHES = [[1, 0], [7, 3], [2, 2]]
_POINTS, _FEWER_POINTS = 120, 40  # of a line that is drawn, and of one that is drawn only where its cell is kept
_FEW = 60  # points of a line whose steps can be seen
_SHOWN = 99.9  # % of every line that the axis shows at least


def ecdfs(cells: Sequence[Metrics], names: Mapping[str, str], records: Mapping[str, CellRecord]) -> Iterator[Datum]:
    """A datum for each cell that has latencies: its points as two lists, `latency` in s and `share`; `first` for those that are drawn."""
    samples = {cell: latencies(records[cell]) for cell in map(_id, cells) if cell in records}
    having = [each for each in cells if len(samples.get(_id(each), ()))]
    first = {_id(each) for each in foremost(having, MOST_LINES)}
    for cell in map(_id, having):
        points = ecdf(samples[cell], _POINTS if cell in first else _FEWER_POINTS)
        yield {
            "id": cell,
            "cell": names[cell],
            "first": cell in first,
            "latency": [latency_s for latency_s, _ in points],
            "share": [round(100 * share, 3) for _, share in points],
        }


def beneath(drawn: Drawn, lines: Sequence[Datum]) -> Drawn:
    """The chart with the distributions underneath, on an axis of their own: a tail may be far from every percentile."""
    import altair as alt

    above, data = drawn
    lowest, highest = min(line["latency"][0] for line in lines), max(_near_end(line) for line in lines if line["first"])
    logarithmic = lowest > 0 and highest / lowest >= LOG_FROM
    divisor, unit = fmt.scale("latency_p50_s", math.sqrt(lowest * highest) if logarithmic else highest)
    shown = [{**line, "latency": [float(f"{one / divisor:.5g}") for one in line["latency"]]} for line in lines]
    names = [line["cell"] for line in lines if line["first"]]
    switched: dict[str, Any] = {"type": "log" if logarithmic else "linear"} if lowest > 0 else {}
    scale = alt.Scale(**switched, domain=[lowest / divisor, highest / divisor], nice=False)
    few = max(len(line["latency"]) for line in lines) < _FEW
    under = _lines(names, scale, _title(unit, len(names), len(lines)), "step-after" if few else "linear")
    own = dict.fromkeys(("color", "shape", "strokeDash"), "independent")
    return {"vconcat": [view(above), view(under)], "spacing": 24, "resolve": {"scale": own}}, {**data, "ecdf": shown}


def _lines(names: Sequence[str], scale: Any, title: str, interpolate: Any) -> AltairChart:
    import altair as alt

    colours = [SERIES[at % len(SERIES)] for at in range(len(names))]
    dashes = [_DASHES[at // len(SERIES) % len(_DASHES)] for at in range(len(names))]
    legend = alt.Legend(columns=3, labelLimit=270, symbolType="stroke", symbolSize=300)
    first = alt.Color("cell:N", title=None, scale=alt.Scale(domain=names, range=colours), legend=legend)
    dash = alt.StrokeDash("cell:N", title=None, scale=alt.Scale(domain=names, range=dashes), legend=legend)
    base = (
        alt.Chart(alt.NamedData("ecdf"))
        .transform_filter(f"datum.first || (kept !== null && {KEPT})")
        .transform_flatten(["latency", "share"])
    )
    line = base.mark_line(interpolate=interpolate, strokeWidth=1.6, clip=True).encode(
        x=alt.X("latency:Q", title=title, scale=scale, axis=alt.Axis(tickCount=8)),
        y=alt.Y("share:Q", title="share (%)", scale=alt.Scale(domain=[0, 100]), axis=alt.Axis(grid=True, tickCount=5)),
        color=alt.condition("datum.first", first, alt.value("var(--ink)")),
        strokeDash=dash,
        detail="id:N",
        opacity=fading(),
        tooltip=alt.Tooltip("cell:N"),
    )
    return line.properties(width=WIDTH, height=_HEIGHT)


def _id(cell: Metrics) -> str:
    return next(iter(cell.values())).cell


def _near_end(line: Datum) -> float:
    """The latency that nearly all do not exceed: a single outlier would leave no room for the rest."""
    return next(latency for latency, share in zip(line["latency"], line["share"], strict=True) if share >= _SHOWN)


def _title(unit: str, first: int, all_: int) -> str:
    which = f", the best {first} of {all_} cells, of each device first" if first < all_ else ""
    return f"latency ({unit}): the share of inferences that took no longer{which}"
