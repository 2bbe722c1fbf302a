"""A run against an earlier one: every cell of either, worst first, with what changed around it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports import format as fmt
from reports import text
from reports.comparison import known_floors
from reports.figures import Quality, quality_of
from reports.labels import sentence_name
from reports.records import CellRecord, NoiseFloor, RunRecord
from reports.regressions import FOLDED, VERDICTS, Change, Name, changes, name, named
from reports.shifts import Pair, ratio_change, shifts
from reports.surroundings import Difference, differences, of_cell, of_run
from reports.table import Row, by_cell, rows
from reports.trend import Trend

MOST_DIFFERENCES = 8  # in one line; JSON and the page's tables have all
MARKS = {
    "now failed": "✕",
    "regression": "▲",
    "suspected": "△",
    "worse": "▲",
    "not confirmed": "○",
    "not comparable": "?",
    "gone": "-",
    "new": "+",
    "still failed": "✕",
    "unchanged": "=",
    "improvement": "▼",
    "now valid": "✓",
}
_TONES = {
    "now failed": "bad",
    "regression": "bad",
    "suspected": "doubtful",
    "worse": "doubtful",
    "improvement": "good",
    "now valid": "good",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A change with what is different around the cell; `cell` is how a sentence calls it, with its model where runs have several."""

    cell: str
    change: Change
    surroundings: tuple[Difference, ...]

    @property
    def mark(self) -> str:
        """The verdict's icon."""
        return MARKS[self.change.verdict]

    @property
    def tone(self) -> str:
        """Whether the verdict is bad, doubtful or good; empty for neither."""
        return _TONES.get(self.change.verdict, "")

    @property
    def was(self) -> str:
        """The headline in the base."""
        return _shown(self.change.base)

    @property
    def now(self) -> str:
        """The headline in the new run."""
        return _shown(self.change.new)

    @property
    def by(self) -> tuple[str, str]:
        """By how much it changed, and the interval of that; empty where it cannot be said."""
        return ratio_change(self.change.row.metric, self.change.judgement)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A run compared with `base`, one earlier; `rerun` is the second run of the new that confirms regressions.

    `lines` are worst first, `differences` those between the runs as such. `advice` says how to confirm what is suspected: a sentence,
    then commands.
    """

    base: RunRecord
    new: RunRecord
    rerun: RunRecord | None
    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]
    trend: Trend | None = None
    advice: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Cells by verdict, worst first."""
        found = Counter(line.change.verdict for line in self.lines)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    @property
    def told(self) -> tuple[Line, ...]:
        """The lines that are shown one by one."""
        return tuple(line for line in self.lines if line.change.verdict not in FOLDED)

    @property
    def folded(self) -> tuple[Line, ...]:
        """The lines of which only the number is told."""
        return tuple(line for line in self.lines if line.change.verdict in FOLDED)

    def folded_around(self) -> tuple[Difference, ...]:
        """What is different around the cells that are folded and around none that is told, each once."""
        told = {difference for line in self.told for difference in line.surroundings}
        return tuple(dict.fromkeys(one for line in self.folded for one in line.surroundings if one not in told))

    def folded_counts(self) -> str:
        """How many cells of which verdict are folded."""
        return ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items() if verdict in FOLDED)

    def sentences(self) -> list[str]:
        """Which runs are compared, what came of it, and how the runs as such differ."""
        again = f", with the rerun {called(self.rerun)}" if self.rerun else ""
        counted = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items())
        of = f"of {len(self.lines)} cell{'' if len(self.lines) == 1 else 's'}"
        differing = [f"The runs differ in: {joined(self.differences)}."] if self.differences else []
        told = f"{counted} {of}." if counted else "Neither run has a cell."
        return [f"{called(self.new)} against {called(self.base)}{again}.", told, *differing]


def against(
    base: RunRecord, new: RunRecord, rerun: RunRecord | None = None, trend: Trend | None = None, advice: Sequence[str] = ()
) -> Baseline:
    """The comparison of `new` with `base`; `advice` is kept only where something is suspected."""
    runs = [_Tabled(run) for run in (base, new)]
    again = rows(rerun) if rerun else []
    floors = _floors(*runs)
    earlier, later = runs
    common = [at for at in later.heads if at in earlier.heads]
    pairs = [Pair(earlier.metrics(at), later.metrics(at), (_quality(earlier, at), _quality(later, at))) for at in common]
    found = changes(earlier.table, later.table, again, floors, dict(zip(common, shifts(pairs, floors), strict=True)))
    several = len({(change.row.model, change.row.workload) for change in found}) > 1
    lines = tuple(Line(cell_name(change.row, several), change, _around(earlier, later, change)) for change in found)
    is_open = any(change.verdict == "suspected" for change in found)
    ordered = trend and trend.ordered([change.row.cell for change in found])
    return Baseline(base, new, rerun, lines, differences(of_run(base), of_run(new)), ordered, tuple(advice) if is_open else ())


class _Tabled:
    """A run with its table, its cells by name and by id."""

    def __init__(self, run: RunRecord) -> None:
        self.run, self.table = run, rows(run)
        self.heads = named(self.table)
        self._cells = by_cell(self.table)
        self._records = {record.id: record for record in run.cells}

    def metrics(self, at: Name) -> Mapping[str, Row]:
        return self._cells[self.heads[at].cell]

    def record(self, at: Name) -> CellRecord:
        return self._records[self.heads[at].cell]


def cell_name(row: Row, several: bool) -> str:
    """A cell as a sentence calls it, with model and workload in front where there are `several`."""
    return f"{row.model}, {row.workload}: {sentence_name(row)}" if several else sentence_name(row)


def _shown(row: Row | None) -> str:
    """Its value, else why there is none; a status that is not valid beside a value."""
    if row is None:
        return "-"
    if row.value is None:
        return row.reason or row.status
    return fmt.value(row.metric, row.value) + ("" if row.status == "valid" else f" ({row.status})")


def _quality(run: _Tabled, at: Name) -> Quality | None:
    return quality_of(run.record(at))


def _around(base: _Tabled, new: _Tabled, change: Change) -> tuple[Difference, ...]:
    if change.base is None or change.new is None:
        return ()
    at = name(change.new)
    return differences(*(of_cell(each.run, each.record(at), each.metrics(at)) for each in (base, new)))


def _floors(*runs: _Tabled) -> dict[str, NoiseFloor]:
    """The largest known floor of each device."""
    found = [item for each in runs for item in known_floors(each.run, each.table).items()]
    return dict(sorted(found, key=lambda item: item[1].share))


def called(run: RunRecord) -> str:
    """A run as a sentence calls it: by its tag where it has one, with its id and day."""
    known = f"{run.tag} ({run.id})" if run.tag else run.id
    return text.line(f"{known}, {run.started_at[:10]}")


def joined(differences: Sequence[Difference]) -> str:
    """The first differences in one line, the others counted."""
    more = len(differences) - MOST_DIFFERENCES
    return "; ".join(map(str, differences[:MOST_DIFFERENCES])) + (f"; and {more} more" if more > 0 else "")
