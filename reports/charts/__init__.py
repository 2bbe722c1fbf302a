"""The charts, declared with Vega-Altair: for each its Vega-Lite specification and the static SVG drawn from it.

Colours are CSS variables of the page (--series-1 and so on), in the SVG and in the live chart alike: both follow light, dark and print by
style sheet alone. Shapes, labels and order carry whatever a colour does.

What a page's script may do with a live chart:
- `view.signal("kept", ids)`: every specification has the parameter `kept`, null for all cells or a list of cell ids; marks of other cells
  fade. Every datum of a cell has its `id`, so that a click on a mark tells the cell.
- `view.signal("percentile", metric)`: the latency chart puts one percentile in front, such as latency_p95_s, and shows its figures; null
  for all of them with the figures of p90. Its datums carry `metric`.
- log or linear: Vega fixes an axis's type when a chart is made. Where a scale may be either, the specification has its `type`, "log" or
  "linear": set all of them to the other one in a copy and embed that.
"""

from collections.abc import Sequence

from reports.charts.base import Chart, finished, foremost, runtime
from reports.charts.coldstart import cold_start
from reports.charts.drawing import Draw, Drawing, here
from reports.charts.heat import heat, zoom
from reports.charts.latency import PERCENTILE, latency
from reports.charts.pairs import accuracies, energies, footprint
from reports.charts.pareto import pareto
from reports.heat import Course
from reports.labels import cell_names, ordered_cells
from reports.metrics import METRICS
from reports.pareto import Pairing
from reports.records import CellRecord
from reports.table import Row

__all__ = ["MOST_CELLS", "Chart", "Drawing", "charts", "runtime"]

MOST_CELLS = 60
_MOST_PAIRINGS = 12
_MOST_COURSES = 3
_PARAMS = {"latency": (PERCENTILE,)}


def charts(
    table: Sequence[Row],
    pairings: Sequence[Pairing] = (),
    courses: Sequence[Course] = (),
    records: Sequence[CellRecord] = (),
    draw: Draw = here,
) -> dict[str, Chart]:
    """The charts for which the table has numbers, by name, of at most MOST_CELLS cells.

    latency, footprint, cold-start, accuracy-METRIC for each metric of a task and energy-BOUNDARY for each boundary, since one axis never
    shows two of them, and the first of `pairings` and `courses` by their names. With `records` the distributions of latencies are under
    their percentiles.
    """
    cells = foremost(ordered_cells(table), MOST_CELLS)
    names = cell_names(table, statuses=True)
    by_id = {record.id: record for record in records}
    drawn = {
        **{
            one.name: (f"{one.x.label} and {one.title} of each cell, with the frontier", pareto(one, names))
            for one in pairings[:_MOST_PAIRINGS]
        },
        "latency": ("Latency of each cell: p50, p90, p95 and p99 with their 95 % intervals", latency(cells, names, by_id)),
        "footprint": ("Model size and peak memory of each cell", footprint(cells, names)),
        "cold-start": ("Cold start of each cell, stacked by part", cold_start(cells, names)),
        **{
            f"accuracy-{one}": (f"{METRICS[one].label} of each cell and its change against fp32", drawn)
            for one, drawn in accuracies(cells, names).items()
        },
        **{f"energy-{one}": (f"Energy per inference of each cell, {one}", drawn) for one, drawn in energies(cells, names).items()},
    }
    made = {name: finished(name, title, chart, draw, *_PARAMS.get(name, ())) for name, (title, chart) in drawn.items() if chart is not None}
    overtime = {
        one.name: finished(one.name, f"{names[one.row.cell]} over time", heat(one), draw, zoom(one)) for one in courses[:_MOST_COURSES]
    }
    return {**made, **overtime}
