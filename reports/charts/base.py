"""What all charts are made of: points with their cell's id, the fading of cells that are not kept, a specification drawn to SVG."""
# altair's generated classes and vl_convert are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from reports import format as fmt
from reports.charts.drawing import Draw
from reports.charts.style import FONT, style
from reports.metrics import METRICS
from reports.table import Row

Metrics = Mapping[str, Row]
Datum = dict[str, Any]
AltairChart = Any
View = dict[str, Any]  # a chart as Vega-Lite has it, or a part of one
Drawn = tuple[AltairChart | View, dict[str, list[Datum]]]  # a chart and the data it names

KEPT = "(kept === null || indexof(kept, datum.id) >= 0)"
FADED = 0.12
_NAME = 52  # characters of a cell's name beside an axis; a limit in pixels makes drawing take twice as long

_TOOLTIP = {"cell": "cell", "label": "metric", "shown": "value", "interval": "95 % interval", "n": "n", "status": "status"}
_TAG = re.compile(r"<[^>]*>")
_ID = re.compile(r' id="|url\(#')
_LONG = re.compile(r"-?\d+\.\d{3,}")
_EMPTY = re.compile(r'<path class="(?:background|foreground)"[^>]* d="(?:M0,0h0v0h0Z)?"[^>]*/>')
_NEEDLESS = re.compile(  # for assistive technology, which the page tells in words; for Vega; and SVG's own defaults
    r' (?:(?:aria-[a-z]+|role|class|pointer-events)="[^"]*"|(?:opacity|stroke-width)="1"|[xy]2="0"|text-anchor="start"'
    r'|transform="translate\(0,0\)")'
)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: `spec` is Vega-Lite as JSON-ready objects, without any URL, and `drawn` the same as SVG, perhaps still being drawn."""

    name: str
    title: str
    spec: Mapping[str, Any]
    drawn: Future[str]

    @property
    def svg(self) -> str:
        """The drawing, when it is done."""
        return _small(self.drawn.result(), self.name)


def runtime(kept: Path | None = None) -> str:
    """The JavaScript that makes charts live: Vega, Vega-Lite and vega-embed in one, defining window.vegaEmbed; fit for a script element.

    It takes seconds to put together, so it is kept in the folder `kept`, where there is one, for the next report.
    """
    path = kept / f"vega-{version('vl-convert-python')}.js" if kept else None
    if path and path.is_file():
        return path.read_text("utf-8")
    bundle = _bundle()
    if path:
        _keep(bundle, path)
    return bundle


def _keep(bundle: str, path: Path) -> None:
    """Write it whole or not at all; a folder that takes no file costs the next report time, and nothing else."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(bundle)
        Path(file.name).replace(path)


@cache
def _bundle() -> str:
    import vl_convert

    bundle = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]  its stub asks for a snippet, it does not
    if "</script" in bundle.lower() or "<!--" in bundle or "\r" in bundle:
        raise ValueError("vl_convert's JavaScript bundle holds what would end or change a script element")
    return bundle


def load_altair() -> None:
    """Import Vega-Altair before the first chart does, and jsonschema with it, but without its check of IRIs, which nothing here asks for.

    Where rfc3987_syntax is installed, as it is beside Jupyter, that check takes seconds of every process that draws.
    """
    costly = "rfc3987_syntax"
    if costly in sys.modules:
        return
    sys.modules[costly] = None  # pyright: ignore[reportArgumentType]  for an import it then is not there
    try:
        import altair as altair
    finally:
        del sys.modules[costly]


def finished(name: str, title: str, drawn: Drawn, draw: Draw, *params: Mapping[str, Any]) -> Chart:
    """The chart with its style, its data, the parameter `kept` and what other `params` there are, as specification and as SVG."""
    import altair as alt

    chart, data = drawn
    spec = {**view(chart), "config": style(), "datasets": data, "params": [{"name": "kept", "value": None}, *params]}
    vega_lite = alt.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]
    return Chart(name, title, spec, draw(spec, vega_lite))


def view(chart: AltairChart | View) -> View:
    """A chart's own part of a specification; not validated: what draws it does so faster."""
    if isinstance(chart, dict):
        return chart
    inline: dict[str, Any] = {}
    spec: View = chart.to_dict(validate=False, context={"top_level": False, "datasets": inline})
    named = spec.get("data", {}).get("name")
    return {**spec, "data": {"values": inline[named]}} if named in inline else spec


def layered(*layers: AltairChart | View, **properties: Any) -> View:
    """One plot of several layers; altair's own layering copies every part of them a dozen times."""
    return {"layer": [view(one) for one in layers], **properties}


def _small(svg: str, name: str) -> str:
    """The drawing without what says nothing, its font named once, coordinates to a hundredth of a pixel; text between tags stays.

    Ids have the chart's name in front: a page has many drawings, and each process counts its own.
    """
    font = f' font-family="{FONT}"'

    def smaller(tag: re.Match[str]) -> str:
        own = _ID.sub(rf"\g<0>{name}-", _NEEDLESS.sub("", tag[0].replace(font, "")))
        return _LONG.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), own)

    return _TAG.sub(smaller, _EMPTY.sub("", svg)).replace("<svg", f"<svg{font}", 1)


def foremost(cells: Sequence[Metrics], most: int) -> list[Metrics]:
    """At most so many of the cells, in their order: the best of each device before the second best of any."""
    seen: Counter[tuple[str, ...]] = Counter()
    ranks: list[int] = []
    for cell in cells:
        row = next(iter(cell.values()))
        seen[group := (row.model, row.workload, row.device)] += 1
        ranks.append(seen[group])
    chosen = sorted(range(len(cells)), key=lambda at: (ranks[at], at))[:most]
    return [cells[at] for at in sorted(chosen)]


def found(cells: Sequence[Metrics], *metrics: str) -> list[tuple[Row, float]]:
    """The rows of these metrics that have a value, with it."""
    rows = [row for cell in cells for metric in metrics if (row := cell.get(metric))]
    return [(row, row.value) for row in rows if row.value is not None]


def point(row: Row, value: float, name: str, divisor: float) -> Datum:
    """A datum in the axis's unit; `id` is its cell and `shown` the value as it is shown everywhere."""
    return {
        "id": row.cell,
        "cell": name,
        "metric": row.metric,
        "label": METRICS[row.metric].label,
        "value": value / divisor,
        "low": (value if row.low is None else row.low) / divisor,
        "high": (value if row.high is None else row.high) / divisor,
        "shown": fmt.value(row.metric, value),
        "interval": fmt.interval(row.metric, value, row.low, row.high) or "none",
        "n": row.n,
        "status": row.status,
    }


def fading(opacity: float = 1.0) -> Any:
    """The opacity of a cell's mark: this one, and next to nothing where the cell is not kept."""
    import altair as alt

    return alt.OpacityValue(FADED * opacity, condition={"test": KEPT, "value": opacity})


def intervals(base: AltairChart, title: str) -> AltairChart:
    """Wide bars from low to high."""
    import altair as alt

    from reports.charts.style import SERIES

    spans = base.mark_rule(strokeWidth=7, color=SERIES[0])
    return spans.encode(x=alt.X("low:Q", title=title), x2="high:Q", opacity=fading(0.35))


def column(base: AltairChart, width: int) -> AltairChart:
    """The figures, as they are shown everywhere, in a column to the right of the plot."""
    import altair as alt

    return base.mark_text(align="left").encode(x=alt.XValue(width + 10), text="shown:N", opacity=fading())


def names_axis(points: Sequence[Datum], *, labelled: bool = True) -> Any:
    """The cells by name, one below the other in the order of the points."""
    import altair as alt

    order = list(dict.fromkeys(each["cell"] for each in points))
    shortened = f"length(datum.label) > {_NAME} ? slice(datum.label, 0, {_NAME - 1}) + '…' : datum.label"
    return alt.Y("cell:N", title=None, scale=alt.Scale(domain=order), axis=alt.Axis(labels=labelled, labelExpr=shortened))


def tooltip() -> list[Any]:
    """What a datum says of itself."""
    import altair as alt

    return [alt.Tooltip(field, type="nominal", title=title) for field, title in _TOOLTIP.items()]
