"""What a new run changed against an earlier one (METHOD.md, rule 12), worst first."""
# scipy ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.comparison import Floors, Judgement, is_twin, judge, noise_floors
from reports.statistics import CONFIDENCE
from reports.table import Row, heads

VERDICTS = ("regression", "suspected", "not confirmed", "not comparable", "unchanged", "improvement")


@dataclass(frozen=True, slots=True)
class Change:
    """A cell in both runs by its headline row; `judgement` is on the new row against the base, `p` its p-value as adjusted over all cells.

    `verdict` is of VERDICTS: a regression is confirmed by the rerun, one suspected waits for a rerun, one not confirmed was not seen there.
    """

    base: Row
    new: Row
    judgement: Judgement
    p: float | None
    verdict: str


def changes(base: Sequence[Row], new: Sequence[Row], rerun: Sequence[Row] = ()) -> list[Change]:
    """The changes of the cells that the tables of both runs have, worst first; `rerun` is the table of a second run of the new.

    Slower or faster means all of: the interval excludes 1, the effect is above the floor of rule 11 (with what A/A pairs any of the
    tables have), and the p-value, adjusted over all comparable cells, is at most 0.05.
    Source: Benjamini and Hochberg, Controlling the False Discovery Rate (1995).
    """
    floors = _floors(base, new, rerun)
    earlier, again = _by_name(base), _by_name(rerun)
    judged = [(earlier[name], row, judge(row, earlier[name], floors)) for name, row in _by_name(new).items() if name in earlier]
    adjusted = iter(_adjusted([found.comparison.p for *_, found in judged if found.comparison]))
    changed = [_change(old, row, found, next(adjusted) if found.comparison else None, again, floors) for old, row, found in judged]
    return sorted(changed, key=lambda change: (VERDICTS.index(change.verdict), -_ratio(change)))


def _change(base: Row, new: Row, judged: Judgement, p: float | None, again: dict[tuple[str, ...], Row], floors: Floors) -> Change:
    verdict = judged.verdict
    if p is not None:
        verdict = "unchanged" if verdict == "tied" or p > 1 - CONFIDENCE else verdict
    if verdict == "slower":
        repeated = again.get(_name(new))
        confirmed = repeated is not None and judge(repeated, base, floors).verdict == "slower"
        verdict = "regression" if confirmed else "suspected" if repeated is None else "not confirmed"
    return Change(base, new, judged, p, "improvement" if verdict == "faster" else verdict)


def _floors(*tables: Sequence[Row]) -> Floors:
    """The largest floor that any of the tables knows of each device."""
    known = [item for table in tables for item in noise_floors(table).items()]
    return dict(sorted(known, key=lambda item: item[1].share))


def _by_name(table: Sequence[Row]) -> dict[tuple[str, ...], Row]:
    return {_name(row): row for row in heads(table) if not is_twin(row)}


def _name(row: Row) -> tuple[str, ...]:
    """What a cell is called in every run: its id changes with the artifact."""
    return row.device, row.model, row.variant, row.backend, row.workload


def _adjusted(values: Sequence[float]) -> Iterable[float]:
    from scipy.stats import false_discovery_control

    return (float(value) for value in false_discovery_control(values)) if values else ()


def _ratio(change: Change) -> float:
    return change.judgement.comparison.ratio if change.judgement.comparison else 0.0
