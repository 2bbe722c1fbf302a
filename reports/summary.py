"""What the terminal shows after a run: the matrix and the verdict."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.labels import ICONS
from reports.matrix import Line, Matrix, Square, matrices
from reports.records import RunRecord
from reports.table import Row
from reports.verdict import verdict

_STYLES = {"valid": "green", "unsteady": "yellow", "throttled": "yellow", "cancelled": "dim", "skipped": "dim"}


def summary(run: RunRecord, table: Sequence[Row]) -> RenderableType:
    """The matrices and the verdict of a run; strings of others are shown as text, never read as markup."""
    decided = verdict(run, table)
    counts = Text("  ").join(Text(f"{ICONS[status]} {count} {status}", _style(status)) for status, count in decided.counts.items())
    sentences = [Text(sentence) for sentence in decided.sentences()]
    return Group(*(_drawn(matrix) for matrix in matrices(table, decided)), counts, *sentences)


def _drawn(matrix: Matrix) -> Table:
    drawn = Table(title=Text(f"{matrix.model}, {matrix.workload}: {matrix.label}"), box=box.SIMPLE_HEAD, title_justify="left")
    drawn.add_column("device")
    drawn.add_column("backend")
    for variant in matrix.variants:
        drawn.add_column(Text(variant), justify="right")
    for line in matrix.lines:
        drawn.add_row(Text(_device(line)), Text(line.backend), *(_shown(squares) for squares in line.squares))
    return drawn


def _device(line: Line) -> str:
    return f"{line.device} (emulated)" if line.emulated else line.device


def _shown(squares: Sequence[Square]) -> Text:
    return Text("\n").join(_square(square) for square in squares)


def _square(square: Square) -> Text:
    status = square.row.status
    if square.row.value is None:
        return Text(f"{ICONS[status]} {status}: {square.note}", _style(status))
    words = {"best": " fastest", "tied": " tied"}.get(square.mark, "" if status == "valid" else f" {status}")
    return Text(f"{square.value} {ICONS[status]}{words}", f"bold {_style(status)}" if square.mark == "best" else _style(status))


def _style(status: str) -> str:
    return _STYLES.get(status, "red")
