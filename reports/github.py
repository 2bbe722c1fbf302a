"""What GitHub Actions shows of a run: annotations, as workflow commands, and a Markdown summary within its limit."""

from collections.abc import Iterator, Sequence

from reports.cheapest import Gated
from reports.failures import failures
from reports.gates import NOT_TO_MEASURE
from reports.labels import sentence_name
from reports.records import RunRecord
from reports.table import Row

SUMMARY_BYTES = 65_536
MOST_ANNOTATIONS = 10
"""Of a kind and step; GitHub drops further ones without a word."""


def annotations(run: RunRecord, table: Sequence[Row], gated: Gated) -> list[str]:
    """Workflow commands, one a line: an error for whatever makes the check fail, a warning for what holds without being resolved."""
    errors = [("gate " + one.outcome, f"{ruling.name}: {one.sentence()}") for ruling, one in gated.failures]
    errors += list(_failures(run, table))
    warnings = [("gate not resolved", f"{ruling.name}: {one.sentence()}") for ruling in gated.rulings for one in ruling.unresolved]
    return [*_commands("error", errors), *_commands("warning", warnings)]


def capped(text: str, limit: int = SUMMARY_BYTES) -> str:
    """The text in at most `limit` bytes of UTF-8, cut after a line, with a note of how much is left out."""
    if len(text.encode()) <= limit:
        return text
    lines = text.splitlines(keepends=True)
    sizes = [len(each.encode()) for each in lines]
    room, kept = limit - len(_left_out(len(lines)).encode()), 0
    while kept < len(lines) and sizes[kept] <= room:
        room -= sizes[kept]
        kept += 1
    return "".join(lines[:kept]) + _left_out(len(lines) - kept)


def _left_out(count: int) -> str:
    return f"\n{count} more lines are left out here: `fleetmark check --markdown PATH` writes them all.\n"


def _failures(run: RunRecord, table: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for failure in failures(run, table):
        cells = [row for row in failure.cells if row.status not in ("valid", *NOT_TO_MEASURE)]
        if cells:
            more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
            yield f"cell {failure.status}", f"{sentence_name(cells[0])}{more}: {failure.fault.message}"


def _commands(kind: str, found: Sequence[tuple[str, str]]) -> Iterator[str]:
    shown = found if len(found) <= MOST_ANNOTATIONS else found[: MOST_ANNOTATIONS - 1]
    rest = [("more", f"and {len(found) - len(shown)} more in the job's summary")] if len(shown) < len(found) else []
    for title, message in [*shown, *rest]:
        yield f"::{kind} title={_property('fleetmark: ' + title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
