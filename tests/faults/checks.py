"""What must hold once a campaign is over, whatever befell it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controller.run import PASSING
from controller.stored import MEASURED

CLOSE = 1e-3  # of an output's largest value: other models' outputs are far away from that
STARTED = "started"
MENDED = PASSING | {"unreachable", "host_key", "auth"}  # by the end of a campaign: a resumed run measures what failed for them


@dataclass(frozen=True, slots=True)
class Row:
    """A launch as the store has it: `latencies` and `output` where it measured and evaluated."""

    id: str
    cell: str
    round: int
    status: str
    reason: str = ""
    log: str = ""
    latencies: NDArray[np.float64] | None = None
    output: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class CellState:
    """A cell: the tag of its device, its status and its own reason, the reasons that its nature gives it, its true outputs."""

    id: str
    device: str
    status: str
    reason: str = ""
    nature: frozenset[str] = frozenset()
    output: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is looked at. `reasons` are those that the campaign's faults may cause, by device; `left` what lies or runs on devices."""

    rounds: int
    cells: Sequence[CellState]
    rows: Sequence[Row]
    reasons: Mapping[str, frozenset[str]]
    left: Sequence[str] = ()
    store: Sequence[str] = ()
    exit_codes: Sequence[int | None] = ()
    other: Sequence[str] = field(default_factory=tuple[str, ...])


def problems(found: Evidence) -> list[str]:
    """What does not hold, a line each, beginning with `lost`, `doubled` or `wrong`."""
    return [*_lost(found), *_doubled(found), *_wrong(found)]


def is_through(found: Evidence) -> bool:
    """Whether there is nothing left to do for a resumed run."""
    return not any(row.status == STARTED for row in found.rows) and not any(line.startswith("lost") for line in _lost(found))


def measured(found: Evidence) -> int:
    """How many launches gave numbers."""
    return sum(row.status in MEASURED for row in found.rows)


def failed(found: Evidence) -> int:
    """How many launches gave a reason instead."""
    return sum(row.status not in MEASURED and row.status != STARTED for row in found.rows)


def _lost(found: Evidence) -> Iterator[str]:
    for row in found.rows:
        if row.status == STARTED:
            yield f"lost: launch {row.id} was started and never finished"
    for cell in found.cells:
        rows = [row for row in found.rows if row.cell == cell.id]
        rounds = {row.round for row in rows if row.status in MEASURED}
        last = {row.round: row for row in rows}
        final = {row.reason for row in last.values() if row.reason and row.reason not in MENDED}
        missing = set(range(found.rounds)) - rounds
        if missing and not final:
            told = cell.reason or ", ".join(sorted({row.reason for row in last.values() if row.reason})) or "no reason"
            yield f"lost: cell {cell.id} on {cell.device} was not measured in rounds {sorted(missing)} ({cell.status}: {told})"


def _doubled(found: Evidence) -> Iterator[str]:
    times = Counter((row.cell, row.round) for row in found.rows if row.status in MEASURED)
    for (cell, round_), count in times.items():
        if count > 1:
            yield f"doubled: cell {cell} was measured {count} times in round {round_}"
        if not 0 <= round_ < found.rounds:
            yield f"doubled: cell {cell} was measured in round {round_}, which nobody asked for"
    seen: dict[bytes, str] = {}
    for row in found.rows:
        if row.latencies is not None:
            other = seen.setdefault(row.latencies.tobytes(), row.id)
            if other != row.id:
                yield f"doubled: launches {other} and {row.id} have the same samples"


def _wrong(found: Evidence) -> Iterator[str]:
    cells = {cell.id: cell for cell in found.cells}
    for row in found.rows:
        cell = cells.get(row.cell)
        if cell is None:
            yield f"wrong: launch {row.id} is of cell {row.cell}, which is not there"
        elif row.status in MEASURED:
            yield from _wrong_numbers(row, cell)
        elif row.status != STARTED and row.reason not in found.reasons.get(cell.device, frozenset()) | cell.nature:
            yield f"wrong: launch {row.id} on {cell.device} failed with {row.reason!r}, which nothing explains"
    for cell in found.cells:
        if cell.reason and cell.reason not in found.reasons.get(cell.device, frozenset()) | cell.nature:
            yield f"wrong: cell {cell.id} on {cell.device} has the reason {cell.reason!r}, which nothing explains"
    yield from (f"wrong: {line}" for line in (*found.left, *found.store, *found.other))
    expected = 3 if any(cell.status != "valid" for cell in found.cells) else 0
    if found.exit_codes and found.exit_codes[-1] != expected:
        yield f"wrong: the last controller ended with {found.exit_codes[-1]}, not {expected}"
    if None in found.exit_codes:
        yield "wrong: a controller did not end"


def _wrong_numbers(row: Row, cell: CellState) -> Iterator[str]:
    expected = f"measured by {cell.device} in {row.id}"
    if expected not in row.log:
        yield f"wrong: launch {row.id} of {cell.device} is another's: its log says {row.log[-200:]!r}"
    if row.latencies is None or not len(row.latencies):
        yield f"wrong: launch {row.id} has no samples"
    if row.output is not None and cell.output is not None and not _are_close(row.output, cell.output):
        yield f"wrong: launch {row.id} has another model's outputs"
    if cell.nature:
        yield f"wrong: launch {row.id} measured what cannot run"


def _are_close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    return found.shape == expected.shape and float(np.abs(found - expected).max()) <= CLOSE * float(np.abs(expected).max())
