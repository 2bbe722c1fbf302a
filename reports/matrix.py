"""The device x variant matrix, one for each model and workload, as terminal and page show it."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports import format as fmt
from reports.foreign import REASON
from reports.labels import ICONS
from reports.metrics import METRICS
from reports.table import Row, heads
from reports.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Square:
    """One cell: `value` as shown or a dash, `mark` best or tied where it leads, `note` the reason where there is no number."""

    row: Row
    value: str
    interval: str
    mark: str
    note: str

    def words(self) -> str:
        """The square in plain text: 34.2 µs ✓ fastest, or ✕ failed."""
        status = self.row.status
        if self.row.value is None:
            return f"{ICONS[status]} {self.note if status == 'valid' else status}"
        return f"{self.value} {ICONS[status]}" + {"best": " fastest", "tied": " tied"}.get(
            self.mark, "" if status == "valid" else f" {status}"
        )


@dataclass(frozen=True, slots=True)
class Line:
    """A device with a backend, and its squares under each variant; a square is empty where that cell was not planned."""

    device: str
    backend: str
    emulated: str
    protocol: str
    squares: tuple[tuple[Square, ...], ...]

    @property
    def name(self) -> str:
        """The device, and that it is emulated wherever it is."""
        return f"{self.device} (emulated)" if self.emulated else self.device

    @property
    def backend_name(self) -> str:
        """The backend, and that another program measured with it wherever one did."""
        return f"{self.backend} ({REASON})" if self.protocol else self.backend


@dataclass(frozen=True, slots=True)
class Matrix:
    """All cells of one model under one workload; `label` names the metric shown."""

    model: str
    workload: str
    label: str
    variants: tuple[str, ...]
    lines: tuple[Line, ...]

    def by_device(self) -> list[list[Line]]:
        """The lines of each device together."""
        devices: dict[str, list[Line]] = {}
        for line in self.lines:
            devices.setdefault(line.device, []).append(line)
        return list(devices.values())


def matrices(table: Sequence[Row], decided: Verdict) -> list[Matrix]:
    """The matrices of a run; together they show every cell of the table once. What leads is marked, among real devices if there are any."""
    real = [finding for finding in decided.findings if not finding.emulated] or decided.findings
    marks = {one.row.cell: one.relation for finding in real for one in finding.standings if one.relation in ("best", "tied")}
    groups: dict[tuple[str, str], list[Square]] = {}
    for row in heads(table):
        groups.setdefault((row.model, row.workload), []).append(_square(row, marks.get(row.cell, "")))
    return [_matrix(squares) for squares in groups.values()]


def _matrix(squares: Sequence[Square]) -> Matrix:
    first = squares[0].row
    variants = tuple(dict.fromkeys(square.row.variant for square in squares))
    lines: dict[tuple[str, str], list[Square]] = {}
    for square in squares:
        lines.setdefault((square.row.device, square.row.backend), []).append(square)
    return Matrix(
        first.model, first.workload, METRICS[first.metric].label, variants, tuple(_line(found, variants) for found in lines.values())
    )


def _line(squares: Sequence[Square], variants: Sequence[str]) -> Line:
    row = squares[0].row
    return Line(
        row.device, row.backend, row.emulated, row.protocol, tuple(tuple(s for s in squares if s.row.variant == name) for name in variants)
    )


def _square(row: Row, mark: str) -> Square:
    shown = fmt.value(row.metric, row.value)
    return Square(row, shown, fmt.interval(row.metric, row.value, row.low, row.high), mark, "" if row.value is not None else row.reason)
