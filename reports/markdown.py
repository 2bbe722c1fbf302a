"""A run in Markdown, for a CI job's summary or a pull request: the verdict, the gates, the matrices and what gave no number."""

import re
from collections.abc import Iterable, Iterator, Sequence

from reports.cheapest import Gated
from reports.failures import Failure, failures
from reports.labels import ICONS, OUTCOME_ICONS, sentence_name
from reports.matrix import Matrix, matrices
from reports.records import RunRecord
from reports.table import Row
from reports.text import line
from reports.verdict import verdict

_SPECIAL = re.compile(r"[\\`*\[\]|~&$]|<(?=[A-Za-z/!?])|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|^[#>+=-](?=\D)|^\d+(?=[.)](?:\s|$))")


def to_markdown(run: RunRecord, table: Sequence[Row]) -> str:
    """The run as GitHub-flavoured Markdown; strings of others are shown as text, none of them is markup."""
    decided = verdict(run, table)
    counts = ", ".join(f"{count} {status}" for status, count in decided.counts.items()) or "no cells"
    unfinished = "" if run.finished_at else ", not finished"
    lines = [
        f"# fleetmark run {escaped(run.id)}",
        "",
        f"Suite {escaped(run.suite)}, profile {escaped(run.profile)}{unfinished}: {counts}.",
        "",
    ]
    lines += _section("Verdict", [f"- {escaped(sentence)}" for sentence in decided.sentences()])
    lines += _section("Gates", list(_gates(decided.gated)))
    for matrix in matrices(table, decided):
        lines += _section(f"{escaped(matrix.model)}, {escaped(matrix.workload)}: {escaped(matrix.label)}", list(_matrix(matrix)))
    lines += _section("Failures", [_failure(failure) for failure in failures(run, table)])
    return "\n".join(lines)


def escaped(text: str) -> str:
    """One line in which no character is markup: of Markdown, of HTML or of a table."""
    return _SPECIAL.sub(lambda found: f"\\{found[0]}" if not found[0].isdigit() else f"{found[0]}\\", line(text, limit=2000))


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def _gates(gated: Gated) -> Iterator[str]:
    """A table of the gates, and below it every cell that fails one."""
    if not gated.rulings:
        return
    yield from _table(
        ["gate", "for", "", "held", "broken", "not measured", "not judged", "tightest"],
        [
            [
                ruling.gate.written,
                ruling.scope,
                f"{OUTCOME_ICONS[ruling.outcome]} {ruling.outcome}",
                *(str(ruling.counts[outcome]) for outcome in ("held", "broken", "not measured", "not judged")),
                ruling.tightest.sentence() if ruling.tightest else "-",
            ]
            for ruling in gated.rulings
        ],
    )
    if gated.failures:
        yield ""
    for ruling, one in gated.failures:
        yield f"- {one.outcome}: {escaped(ruling.name)}: {escaped(one.sentence())}"


def _matrix(matrix: Matrix) -> Iterator[str]:
    rows = [
        [found.name, found.backend_name, *("; ".join(one.words() for one in squares) for squares in found.squares)]
        for found in matrix.lines
    ]
    yield from _table(["device", "backend", *matrix.variants], rows)


def _failure(failure: Failure) -> str:
    first, *others = failure.cells
    more = f" and {len(others)} more" if others else ""
    following = f". Next: {failure.fault.next}" if failure.fault.next else ""
    told = f"{sentence_name(first)}{more}: {failure.fault.message}{following}"
    return f"- {ICONS[failure.status]} {failure.status}: {escaped(told)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(head)
    yield _row(["---"] * len(head), plain=True)
    yield from map(_row, rows)


def _row(fields: Sequence[str], *, plain: bool = False) -> str:
    return f"| {' | '.join(field if plain else escaped(field) for field in fields)} |"
