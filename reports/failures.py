"""Everything that gave no number, or fewer than planned: complete, with why and what to do; the same cause is told once."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.schema import Fault
from reports import text
from reports.records import CellRecord, LaunchRecord, RunRecord
from reports.table import Row, fault_of, heads

_WITHOUT_FAULT = {
    "unsteady": Fault(
        "", "measure", "the latency did not settle, or drifted by more than 5 % in a launch", "let the device rest, then run again"
    ),
    "throttled": Fault("", "measure", "the device slowed itself down while measuring", "cool it or lower its load, then run again"),
}
_UNKNOWN = Fault("", "", "no reason was recorded", "run again")


@dataclass(frozen=True, slots=True)
class Failure:
    """One cause: `launches` says of how many launches where there were any; `log` is the end of the last one's log."""

    status: str
    fault: Fault
    cells: tuple[Row, ...]
    launches: str
    log: str


def failures(run: RunRecord, table: Sequence[Row]) -> list[Failure]:
    """The causes in the run's order; each cell that is not valid is in one, and so is a valid one with launches that are not."""
    rows = {row.cell: row for row in heads(table)}
    groups: dict[tuple[str, Fault, str], list[CellRecord]] = {}
    for record in run.cells:
        bad = _bad(record)
        if record.status != "valid" or bad:
            status = bad[-1].status if record.status == "valid" else record.status
            launches = f"{len(bad)} of {len(record.launches)} launches" if bad else ""
            groups.setdefault((status, _fault(record, status), launches), []).append(record)
    return [
        Failure(status, fault, tuple(rows[record.id] for record in records), launches, _log(records))
        for (status, fault, launches), records in groups.items()
    ]


def _bad(record: CellRecord) -> list[LaunchRecord]:
    """The launches that gave no number, less those that somebody cancelled and a resumed run measured again."""
    fine = {"valid", "cancelled"} if record.status == "valid" else {"valid"}
    return [launch for launch in record.launches if launch.status not in fine]


def _fault(record: CellRecord, status: str) -> Fault:
    """The recorded fault, else the launches' notes, else what the status alone tells; made safe to show."""
    notes = "; ".join(dict.fromkeys(note for launch in _bad(record) for note in launch.notes))
    plain = _WITHOUT_FAULT.get(status, _UNKNOWN)
    fault = fault_of(record) or (plain._replace(message=notes) if notes else plain)
    return Fault(*(text.line(field) for field in fault))


def _log(records: Sequence[CellRecord]) -> str:
    tails = [launch.log_tail for record in records for launch in _bad(record) if launch.log_tail.strip()]
    return text.log(tails[-1]) if tails else ""
