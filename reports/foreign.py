"""Figures of other programs, which `fleetmark import` brings in: shown beside ours, never ranked or compared (METHOD.md, rule 1)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from agent.schema import Cell
from reports import format as fmt
from reports import text
from reports.figures import Figure, counted, figures
from reports.metrics import METRICS, PERCENTILES, headline
from reports.records import CellRecord, LaunchRecord
from reports.statistics import smallest_sample

TOOL = "tool"
"""The option of a cell that names the program that measured it."""

REASON = "foreign protocol"

ABOUT = "about"
"""What launch details keep sentences on metrics under."""

MEAN = "latency_mean_s"
"""The one latency that some tools tell."""

BESIDE = ("latency_p50_s", MEAN, "accelerator_operation_share")
"""What is told in the place of the metric that cells are ranked by, where a tool does not tell that."""


def protocol_of(cell: Cell) -> str:
    """The program that measured the cell; empty where fleetmark did."""
    told = cell.options.get(TOOL)
    return told if isinstance(told, str) else ""


def foreign_figures(record: CellRecord) -> Iterator[Figure]:
    """What a tool told: metrics of METRICS among its launches' values as they are, percentiles of the raw latencies where it gives those.

    Each file is a launch; of several the mean is taken. A percentile that was printed of too few queries is left out, as ours would be.
    """
    found = {figure.metric: figure for figure in figures(record, None)}
    for metric in METRICS:
        launches = [launch for launch in counted(record) if len(launch.values.get(metric, ()))]
        if launches:
            found[metric] = _told(metric, launches)
    ranked_by = headline(record.cell.workload.name)
    if ranked_by not in found:
        beside = next((f"; {_shown(figure)}" for figure in found.values() if figure.value is not None and figure.metric in BESIDE), "")
        message = f"{protocol_of(record.cell)} does not tell {METRICS[ranked_by].label}"
        found[ranked_by] = Figure(ranked_by, None, reason=f"not told{beside}", message=message)
    return iter(found.values())


def _told(metric: str, launches: Sequence[LaunchRecord]) -> Figure:
    counts = [int(launch.values["queries"][0]) if "queries" in launch.values else 1 for launch in launches]
    needed = smallest_sample(PERCENTILES[metric]) if metric in PERCENTILES else 0
    if min(counts) < needed:
        message = f"{metric} needs {needed} queries; the tool made {min(counts)}"
        return Figure(metric, None, n=sum(counts), reason="n too small", message=message)
    value = float(np.mean([launch.values[metric][0] for launch in launches]))
    about = cast(Mapping[str, object], launches[-1].details.get(ABOUT, {})).get(metric, "")
    return Figure(metric, value, n=sum(counts) if metric.startswith("latency_") else len(launches), message=text.line(about))


def _shown(figure: Figure) -> str:
    return f"{METRICS[figure.metric].label} {fmt.value(figure.metric, figure.value)}"
