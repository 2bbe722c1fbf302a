"""Raw samples of launches in long format, one line a value, written launch by launch so that memory holds one of them."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from reports.table import csv_field

WHOLE = ("round", "stride", "index")
"""The columns of whole numbers."""

ABOUT = (
    *("run", "launch", "round", "started_at", "status", "cell"),
    *("device", "model", "variant", "backend", "workload", "protocol"),
    *("metric", "unit", "stride"),
)
COLUMNS = (*ABOUT, "index", "value")


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one metric, float64, 1-D; of what was taken, every `stride`-th is here."""

    metric: str
    unit: str
    stride: int
    values: NDArray[np.float64]

    @property
    def index(self) -> NDArray[np.int64]:
        """Which of what was taken each value is, from 0: of a latency the query."""
        return np.arange(len(self.values), dtype=np.int64) * self.stride


@dataclass(frozen=True, slots=True)
class RawLaunch:
    """One launch with all its series; `names` has the columns of ABOUT that they share."""

    names: Mapping[str, str | int]
    series: tuple[Series, ...]

    def about(self, series: Series) -> dict[str, str | int]:
        """The columns of ABOUT for a series."""
        return {**self.names, "metric": series.metric, "unit": series.unit, "stride": series.stride}


def write_csv(launches: Iterable[RawLaunch], file: TextIO) -> None:
    """Write raw values as CSV in the columns of COLUMNS, numbers exact; `file` takes text without newline translation."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for launch in launches:
        for series in launch.series:
            about = launch.about(series)
            shared = [csv_field(about[name]) for name in ABOUT]
            writer.writerows(
                [*shared, at, csv_field(value)] for at, value in zip(series.index.tolist(), series.values.tolist(), strict=True)
            )
