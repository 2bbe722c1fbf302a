"""What the terminal shows after a run: the matrix, the verdict, and what to do about failures."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.failures import Failure, failures
from reports.labels import ICONS, sentence_name
from reports.matrix import Line, Matrix, Square, matrices
from reports.records import RunRecord
from reports.table import Row
from reports.verdict import verdict

_STYLES = {"valid": "green", "unsteady": "yellow", "throttled": "yellow", "cancelled": "dim", "skipped": "dim"}


def summary(run: RunRecord, table: Sequence[Row]) -> RenderableType:
    """The matrices, the verdict and the failures of a run; strings of others are shown as text, never read as markup."""
    decided = verdict(run, table)
    counts = Text("  ").join(Text(f"{ICONS[status]} {count} {status}", _style(status)) for status, count in decided.counts.items())
    sentences = [Text(sentence) for sentence in decided.sentences()]
    causes = [_cause(failure) for failure in failures(run, table)]
    return Group(*(_drawn(matrix) for matrix in matrices(table, decided)), counts, Text(), *sentences, Text(), *causes)


def _cause(failure: Failure) -> Text:
    """Which cells, why, and on a line of its own what to do."""
    first = sentence_name(failure.cells[0])
    cells = first if len(failure.cells) == 1 else f"{first} and {len(failure.cells) - 1} more"
    why = Text(f"{ICONS[failure.status]} {failure.status}: {cells}: {failure.fault.message}", _style(failure.status))
    return Text("\n  next: ").join([why, Text(failure.fault.next)]) if failure.fault.next else why


def _drawn(matrix: Matrix) -> Table:
    drawn = Table(
        title=Text(f"{matrix.model}, {matrix.workload}: {matrix.label}"),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
    )
    drawn.add_column("device", overflow="fold")
    drawn.add_column("backend", overflow="fold")
    for variant in matrix.variants:
        drawn.add_column(Text(variant), justify="right", overflow="fold")
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
        return Text(f"{ICONS[status]} {square.note if status == 'valid' else status}", _style(status))
    words = {"best": " fastest", "tied": " tied"}.get(square.mark, "" if status == "valid" else f" {status}")
    return Text(f"{square.value} {ICONS[status]}{words}", f"bold {_style(status)}" if square.mark == "best" else _style(status))


def _style(status: str) -> str:
    return _STYLES.get(status, "red")
