"""How one metric of each cell went over several runs, the earliest first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports import format as fmt
from reports import text
from reports.comparison import is_twin
from reports.metrics import headline
from reports.records import RunRecord
from reports.regressions import Name, name
from reports.table import Row

MOST_CHARTED = 12
_LABEL_LIMIT = 24


@dataclass(frozen=True, slots=True)
class Stop:
    """A run on the way: its id, what a column calls it, and when it began (ISO 8601, UTC)."""

    run: str
    label: str
    started_at: str


@dataclass(frozen=True, slots=True)
class Course:
    """A cell's rows of one metric, one for each stop, None where that run has none; the last stop has one."""

    row: Row
    rows: tuple[Row | None, ...]

    def shown(self) -> list[str]:
        """Its value at each stop, with its status where that is not valid; a dash where there is none."""
        return [_shown(row) for row in self.rows]

    def document(self) -> dict[str, object]:
        """JSON-ready: the cell's names, the metric, and value, interval and status at each stop, in SI units."""
        names = ("device", "model", "variant", "backend", "workload", "metric", "unit", "emulated")
        values = [row and {name: getattr(row, name) for name in ("value", "low", "high", "status")} for row in self.rows]
        return {**{name: getattr(self.row, name) for name in names}, "values": values}


@dataclass(frozen=True, slots=True)
class Trend:
    """The cells of the last run that an earlier one has too."""

    stops: tuple[Stop, ...]
    courses: tuple[Course, ...]

    @property
    def charted(self) -> tuple[Course, ...]:
        """The first cells, as many as a chart of one line each bears."""
        return self.courses[:MOST_CHARTED]

    def ordered(self, cells: Sequence[str]) -> "Trend":
        """The same with the courses in the order of these cells, by id."""
        places = {cell: at for at, cell in enumerate(cells)}
        return replace(self, courses=tuple(sorted(self.courses, key=lambda course: places.get(course.row.cell, len(places)))))


def trend(runs: Sequence[tuple[RunRecord, Sequence[Row]]], metric: str = "") -> Trend:
    """The trend over runs and their tables, in the order of time, by one metric or, if that is empty, by the headline of each cell."""
    stops = tuple(Stop(run.id, _label(run), run.started_at) for run, _ in runs)
    found = [_rows(table, metric) for _, table in runs]
    courses = [Course(row, tuple(each.get(at) for each in found)) for at, row in found[-1].items()] if found else []
    kept = tuple(course for course in courses if sum(row is not None and row.value is not None for row in course.rows) > 1)
    return Trend(stops, kept)


def _label(run: RunRecord) -> str:
    return text.line(run.tag or run.started_at[5:16].replace("T", " "), _LABEL_LIMIT)


def _rows(table: Sequence[Row], metric: str) -> dict[Name, Row]:
    return {name(row): row for row in table if row.metric == (metric or headline(row.workload)) and not is_twin(row)}


def _shown(row: Row | None) -> str:
    if row is None or row.value is None:
        return row.status if row and row.status != "valid" else "-"
    return fmt.value(row.metric, row.value) + ("" if row.status == "valid" else f" ({row.status})")
