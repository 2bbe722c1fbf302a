"""A run as JUnit XML, for the test views of CI servers: one suite for each model and workload."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reports.failures import Failure, failures
from reports.gates import NOT_TO_MEASURE, Judged, Ruling, rulings
from reports.labels import sentence_name
from reports.records import RunRecord
from reports.table import Row, heads

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2: Char


def to_junit(run: RunRecord, table: Sequence[Row]) -> str:
    """The run as JUnit XML: a test case for each cell, and one for each gate on each cell that it means.

    A cell that failed or is not valid is an error and its gates are skipped, one that was never to be measured is skipped; a gate that is
    broken or whose number is missing is a failure. The text says numbers, intervals and reasons; characters that XML forbids are \\uXXXX.
    """
    from xml.etree.ElementTree import Element, indent, tostring

    causes = {row.cell: failure for failure in failures(run, table) for row in failure.cells}
    found = rulings(run, table)
    suites = Element("testsuites", name="fleetmark")
    groups: dict[tuple[str, str], list[Row]] = {}
    for head in heads(table):
        groups.setdefault((head.model, head.workload), []).append(head)
    for (model, workload), cells in groups.items():
        suite = Element(
            "testsuite",
            name=_safe(f"{model}, {workload}"),
            timestamp=_safe(run.started_at[:19]),
        )
        suite.extend([*(_cell(head, causes) for head in cells), *_gates(found, {head.cell for head in cells})])
        _count(suite, [suite])
        suites.append(suite)
    _count(suites, list(suites))
    indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suites, encoding="unicode") + "\n"


def _cell(head: Row, causes: Mapping[str, Failure]) -> "Element":
    """Whether the cell was measured."""
    case = _case(head, sentence_name(head))
    if head.status != "valid":
        cause = causes.get(head.cell)
        message = f"{head.status}: {cause.fault.message if cause else head.message}"
        tag = "skipped" if head.status in NOT_TO_MEASURE else "error"
        case.append(_told(tag, message, head.status, _what_to_do(cause, head) if cause else ""))
    return case


def _what_to_do(cause: Failure, head: Row) -> str:
    """What to do next and, at the first of the cells with that cause, the end of the log."""
    parts = [f"next: {cause.fault.next}" if cause.fault.next else "", cause.log if cause.cells[0].cell == head.cell else ""]
    return "\n".join(part for part in parts if part)


def _gates(found: Sequence[Ruling], cells: set[str]) -> Iterator["Element"]:
    for ruling in found:
        for one in ruling.cells:
            if one.row.cell in cells:
                yield _gate(ruling, one)


def _gate(ruling: Ruling, one: Judged) -> "Element":
    case = _case(one.row, f"{ruling.name}: {sentence_name(one.row)}")
    if one.fails:
        case.append(_told("failure", one.sentence(), one.outcome))
    elif one.outcome == "not judged":
        case.append(_told("skipped", one.note(), one.outcome))
    else:
        case.append(_told("system-out", "", "", one.sentence()))
    return case


def _case(row: Row, name: str) -> "Element":
    from xml.etree.ElementTree import Element

    return Element("testcase", classname=_safe(f"{row.model}.{row.workload}"), name=_safe(name))


def _told(tag: str, message: str, kind: str, text: str = "") -> "Element":
    from xml.etree.ElementTree import Element

    attributes = {"message": message, "type": kind} if tag in ("failure", "error") else {"message": message} if message else {}
    element = Element(tag, {name: _safe(value) for name, value in attributes.items()})
    element.text = _safe(text) or None
    return element


def _count(element: "Element", suites: Sequence["Element"]) -> None:
    """Write how many test cases, and of which kinds, the suites have."""
    cases = [case for suite in suites for case in suite.iter("testcase")]
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(name, str(sum(case.find(tag) is not None for case in cases)))
    element.set("tests", str(len(cases)))


def _safe(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
