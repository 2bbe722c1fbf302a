"""What a new run changed against an earlier one (METHOD.md, rule 12), worst first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reports.comparison import NO_FLOORS, Floors, Judgement, is_twin, judge, noise_floors
from reports.shifts import Shift
from reports.statistics import CONFIDENCE, adjusted_p
from reports.table import Row, heads

VERDICTS = (
    "now failed",
    "regression",
    "suspected",
    "worse",
    "not confirmed",
    "not comparable",
    "gone",
    "new",
    "still failed",
    "unchanged",
    "improvement",
    "now valid",
)
FOLDED = ("still failed", "unchanged")
"""Verdicts of which a comparison only tells how many cells have them."""
WENT_WRONG = ("failed", "unreachable")
WITHOUT_NUMBER = (*WENT_WRONG, "unsupported", "skipped", "cancelled")

Name = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A cell by its headline row in each run, None where that run has no such cell; `p` is its p-value as adjusted over all cells.

    `judgement` is on the new row against the base. `verdict` is of VERDICTS: a regression is confirmed by the rerun, one suspected waits
    for a rerun, one not confirmed was not seen there; worse is a cell of which only other metrics, its `shifts`, got worse.
    """

    base: Row | None
    new: Row | None
    judgement: Judgement
    p: float | None
    verdict: str
    shifts: tuple[Shift, ...] = ()

    @property
    def row(self) -> Row:
        """The new row, of a cell that is gone the base's."""
        row = self.new or self.base
        assert row is not None  # noqa: S101  a change is of a cell of either run
        return row

    @property
    def reason(self) -> str:
        """Why there is no comparison, empty where there is one."""
        if self.verdict in ("now failed", "still failed") and self.new is not None:
            told = ": ".join(part for part in (self.new.reason, self.new.message) if part)
            return told if self.new.reason == self.new.status else f"{self.new.status}, {told}"
        return ", ".join(self.judgement.reasons) if self.verdict == "not comparable" else ""


def changes(
    base: Sequence[Row],
    new: Sequence[Row],
    rerun: Sequence[Row] = (),
    floors: Floors = NO_FLOORS,
    shifts: Mapping[Name, tuple[Shift, ...]] | None = None,
) -> list[Change]:
    """The changes of the cells of either run, worst first; `rerun` is the table of a second run of the new, `shifts` are by `name`.

    Slower or faster means all of: the interval excludes 1, the effect is above the floor of rule 11 (the largest that `floors`, or A/A
    pairs in any of the tables, have), and the p-value, adjusted over all comparable cells, is at most 0.05.
    Source: Benjamini and Hochberg, Controlling the False Discovery Rate (1995).
    """
    known = _floors(floors, base, new, rerun)
    earlier, later, again = named(base), named(new), named(rerun)
    judged = [(earlier[at], row, judge(row, earlier[at], known)) for at, row in later.items() if at in earlier]
    adjusted = iter(adjusted_p([found.comparison.p for *_, found in judged if found.comparison]))
    changed = [_change(old, row, found, next(adjusted) if found.comparison else None, again, known) for old, row, found in judged]
    changed += [_lone(row, None, "gone") for at, row in earlier.items() if at not in later]
    changed += [_lone(None, row, "new") for at, row in later.items() if at not in earlier]
    told = [_with(change, (shifts or {}).get(name(change.row), ())) for change in changed]
    return sorted(told, key=lambda change: (VERDICTS.index(change.verdict), -_ratio(change)))


def named(table: Sequence[Row]) -> dict[Name, Row]:
    """The headline rows of the cells that are measured under their own label, by `name`."""
    return {name(row): row for row in heads(table) if not is_twin(row)}


def name(row: Row) -> Name:
    """What a cell is called in every run: its id changes with the artifact."""
    return row.device, row.model, row.variant, row.backend, row.workload


def _change(base: Row, new: Row, judged: Judgement, p: float | None, again: Mapping[Name, Row], floors: Floors) -> Change:
    if new.status in WITHOUT_NUMBER or base.status in WITHOUT_NUMBER:
        return Change(base, new, judged, None, _broken(base, new))
    verdict = judged.verdict
    if p is not None:
        verdict = "unchanged" if verdict == "tied" or p > 1 - CONFIDENCE else verdict
    if verdict == "slower":
        repeated = again.get(name(new))
        confirmed = repeated is not None and judge(repeated, base, floors).verdict == "slower"
        verdict = "regression" if confirmed else "suspected" if repeated is None else "not confirmed"
    return Change(base, new, judged, p, "improvement" if verdict == "faster" else verdict)


def _broken(base: Row, new: Row) -> str:
    if new.status not in WITHOUT_NUMBER:
        return "now valid" if new.status == "valid" else "not comparable"
    went_wrong = new.status in WENT_WRONG and base.status not in WENT_WRONG
    return "now failed" if went_wrong or base.status not in WITHOUT_NUMBER else "still failed"


def _lone(base: Row | None, new: Row | None, verdict: str) -> Change:
    return Change(base, new, Judgement("not comparable", None, 0.0, (verdict,)), None, verdict)


def _with(change: Change, shifts: tuple[Shift, ...]) -> Change:
    """The change with its shifts: where one of them is for the worse, a verdict that is less bad than that gives way."""
    is_worse = any(shift.worse for shift in shifts) and VERDICTS.index(change.verdict) > VERDICTS.index("worse")
    return replace(change, shifts=shifts, verdict="worse" if is_worse else change.verdict)


def _floors(known: Floors, *tables: Sequence[Row]) -> Floors:
    """The largest floor that is known of each device."""
    items = [*known.items(), *(item for table in tables for item in noise_floors(table).items())]
    return dict(sorted(items, key=lambda item: item[1].share))


def _ratio(change: Change) -> float:
    return change.judgement.comparison.ratio if change.judgement.comparison else 0.0
