"""What the terminal shows after a run: the matrix, the verdict, the gates, and what to do about failures."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.failures import Failure, failures
from reports.gates import Ruling
from reports.labels import ICONS, OUTCOME_ICONS, sentence_name
from reports.matrix import Matrix, Square, matrices
from reports.records import RunRecord
from reports.table import Row
from reports.verdict import verdict

MOST_FAILING = 3
_OUTCOME_STYLES = {"held": "green", "broken": "red", "not measured": "red", "not judged": "dim"}
_STYLES = {"valid": "green", "unsteady": "yellow", "throttled": "yellow", "cancelled": "dim", "skipped": "dim"}


def summary(run: RunRecord, table: Sequence[Row]) -> RenderableType:
    """The matrices, the verdict and the failures of a run; strings of others are shown as text, never read as markup."""
    decided = verdict(run, table)
    counts = Text("  ").join(Text(f"{ICONS[status]} {count} {status}", _style(status)) for status, count in decided.counts.items())
    blocks: list[list[RenderableType]] = [[*map(Text, decided.sentences())], [], [*causes(run, table)]]
    for head, failing in gate_lines(decided.gated.rulings, MOST_FAILING):
        blocks[1] += [head, *(Padding(line, (0, 0, 0, 4)) for line in failing)]
    told = [line for block in blocks if block for line in (Text(), *block)]
    return Group(*(_drawn(matrix) for matrix in matrices(table, decided)), counts, *told)


def gate_lines(rulings: Sequence[Ruling], most: int | None = None) -> list[tuple[Text, list[Text]]]:
    """Each gate with how many cells keep it, and the cells that fail it, at most so many of them."""
    return [
        (Text(f"{OUTCOME_ICONS[ruling.outcome]} {ruling.sentence()}", _OUTCOME_STYLES[ruling.outcome]), list(_failing(ruling, most)))
        for ruling in rulings
    ]


def _failing(ruling: Ruling, most: int | None) -> Iterator[Text]:
    for one in ruling.failing[:most]:
        yield Text(f"{OUTCOME_ICONS[one.outcome]} {one.sentence()}", "red")
    more = len(ruling.failing) - (most or len(ruling.failing))
    if more > 0:
        yield Text(f"and {more} more: fleetmark check names them all")


def causes(run: RunRecord, table: Sequence[Row]) -> list[Text]:
    """Why cells gave no number, or fewer than planned, the same cause once, and what to do."""
    return [_cause(failure) for failure in failures(run, table)]


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
        drawn.add_row(Text(line.name), Text(line.backend_name), *(_shown(squares) for squares in line.squares))
    return drawn


def _shown(squares: Sequence[Square]) -> Text:
    return Text("\n").join(_square(square) for square in squares)


def _square(square: Square) -> Text:
    style = _style(square.row.status)
    return Text(square.words(), f"bold {style}" if square.mark == "best" else style)


def _style(status: str) -> str:
    return _STYLES.get(status, "red")
