"""Where a cell's memory went: proportional set size by phase, what the model took, what an accelerator holds."""

from collections.abc import Iterator

import numpy as np

from reports.figures import Figure, counted
from reports.metrics import MEMORIES
from reports.records import CellRecord
from reports.statistics import Interval, mean_interval

NOT_OBSERVABLE = "not observable"
_ONLY_SOME = "accelerator_context_bytes"  # a runtime without an accelerator has none to tell of


def memory_figures(record: CellRecord) -> Iterator[Figure]:
    """The memory figures of a cell, each the mean of the launches that told it; what none told is not observable, never 0."""
    launches = [launch for launch in counted(record) if len(launch.values.get("latency_s", ()))]
    for metric in MEMORIES if launches else ():
        told = tuple((launch.round, float(launch.values[metric][0])) for launch in launches if len(launch.values.get(metric, ())))
        if told:
            each = [value for _, value in told]
            interval = mean_interval(each)
            clipped = interval and Interval(max(0.0, interval.low), interval.high)
            yield Figure(metric, float(np.mean(each)), clipped, len(each), per_launch=told)
        elif metric != _ONLY_SOME:
            yield Figure(metric, None, reason=NOT_OBSERVABLE, message="neither the device nor the runtime tells")
