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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from reports.charts.base import Chart, Drawn, Metrics, finished, foremost, load_altair, runtime
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

__all__ = ["MOST_CELLS", "Chart", "Drawing", "cell_charts", "further_charts", "runtime"]

MOST_CELLS = 60
_MOST_PAIRINGS = 12
_MOST_COURSES = 3

Declared = tuple[str, str, Drawn | None] | tuple[str, str, Drawn | None, Mapping[str, Any]]
"""A chart's name, its title, what it is, and a parameter of its own where it has one."""


def cell_charts(table: Sequence[Row], records: Sequence[CellRecord] = (), draw: Draw = here) -> dict[str, Chart]:
    """The charts for which the table has numbers, by name, of at most MOST_CELLS cells.

    latency, footprint, cold-start, accuracy-METRIC for each metric of a task and energy-BOUNDARY for each boundary, since one axis never
    shows two of them. With `records` the distributions of latencies are under their percentiles.
    """
    cells = foremost(ordered_cells(table), MOST_CELLS)
    if cells:
        load_altair()
    names = cell_names(table, statuses=True)
    return _finished(_of_cells(cells, names, {record.id: record for record in records}), draw)


def further_charts(table: Sequence[Row], pairings: Sequence[Pairing], courses: Sequence[Course], draw: Draw = here) -> dict[str, Chart]:
    """The charts of the first pairings, and of the courses that were throttled or, where none was, of the hottest; by their names."""
    if pairings or courses:
        load_altair()
    names = cell_names(table, statuses=True)
    return _finished(chain(_of_pairings(pairings, names), _over_time(courses, names)), draw)


def _finished(declared: Iterable[Declared], draw: Draw) -> dict[str, Chart]:
    """Each goes to be drawn before the next is declared."""
    return {name: finished(name, title, drawn, draw, *params) for name, title, drawn, *params in declared if drawn is not None}


def _of_cells(cells: Sequence[Metrics], names: Mapping[str, str], records: Mapping[str, CellRecord]) -> Iterator[Declared]:
    title = "Latency of each cell: p50, p90, p95 and p99 with their 95 % intervals"
    yield "latency", title, latency(cells, names, records), PERCENTILE
    yield "footprint", "Model size and peak memory of each cell", footprint(cells, names)
    yield "cold-start", "Cold start of each cell, stacked by part", cold_start(cells, names)
    for one, drawn in accuracies(cells, names).items():
        yield f"accuracy-{one}", f"{METRICS[one].label} of each cell and its change against fp32", drawn
    for one, drawn in energies(cells, names).items():
        yield f"energy-{one}", f"Energy per inference of each cell, {one}", drawn


def _of_pairings(pairings: Sequence[Pairing], names: Mapping[str, str]) -> Iterator[Declared]:
    for one in pairings[:_MOST_PAIRINGS]:
        yield one.name, f"{one.x.label} and {one.title} of each cell, with the frontier", pareto(one, names)


def _over_time(courses: Sequence[Course], names: Mapping[str, str]) -> Iterator[Declared]:
    throttled = [one for one in courses if one.is_throttled]
    for one in throttled[:_MOST_COURSES] or courses[:1]:
        yield one.name, f"{names[one.row.cell]} over time", heat(one), zoom(one)
