"""JUnit XML of a run: what CI servers count as passed, failed, in error and skipped, well-formed whatever a string holds."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from factory_runs import CRASH, UNSUPPORTED, broken, cell, mixed_run, run_of
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.schema import Workload, cell_id
from controller.errors import ExitCode
from controller.gates import exit_code
from reports import format as fmt
from reports.cheapest import gated
from reports.junit import to_junit
from reports.records import Gate, RunRecord
from reports.table import rows

LAPTOP = cell("laptop", "int8", "tflite", 1)
MIXED = mixed_run()
SLOW = Gate("all", "latency_p90_s", 1.2e-3, None, "latency_p90_ms <= 1.2", tuple(MIXED.devices))
SMALL = Gate("all", "size_bytes", 1e6, None, "size_mb <= 1", tuple(MIXED.devices))
NEVER = Gate("all", "latency_p90_s", 1e-9, None, "latency_p90_us <= 0.001", ("laptop",))


def junit(run: RunRecord) -> ElementTree.Element:
    return ElementTree.fromstring(to_junit(run, rows(run)))  # noqa: S314 - our own


def counted(element: ElementTree.Element) -> dict[str, int]:
    return {name: int(element.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}


def test_each_cell_and_each_gate_on_it_is_a_test_case() -> None:
    """Failing gates are failures, cells that failed errors, what was not judged or not to be measured is skipped; the counts add up."""
    run = replace(MIXED, gates=(SLOW, SMALL))
    root = junit(run)
    found = gated(run, rows(run))
    not_judged = sum(ruling.counts["not judged"] for ruling in found.rulings)
    statuses = [record.status for record in run.cells]
    expected = {
        "tests": 3 * len(run.cells),
        "failures": len(found.failures),
        "errors": sum(status in ("unsteady", "failed", "unreachable") for status in statuses),
        "skipped": not_judged + statuses.count("unsupported"),
    }
    assert len(found.failures) > 2
    assert counted(root) == expected
    assert {name: sum(counted(suite)[name] for suite in root) for name in expected} == expected
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"), ("tests", "testcase")):
        assert len(root.findall(f".//{tag}")) == expected[name]


def test_a_failure_says_the_numbers_that_the_report_shows() -> None:
    """The value and its interval, as the one table has them."""
    run = replace(run_of((LAPTOP,)), gates=(NEVER,))
    (row,) = (row for row in rows(run) if row.metric == "latency_p90_s")
    (failure,) = junit(run).iter("failure")
    span = fmt.interval(row.metric, row.value, row.low, row.high)
    assert failure.attrib == {
        "message": f"int8 on laptop with tflite: p90 latency {fmt.value(row.metric, row.value)} ({span})",
        "type": "broken",
    }


def test_an_error_says_the_cause_what_to_do_and_the_end_of_the_log() -> None:
    """The log once, where several cells have the same cause."""
    cells = tuple(broken("laptop", variant, "tflite", "failed", CRASH, launched=True) for variant in ("fp32", "int8"))
    first, second = junit(run_of(cells)).iter("error")
    assert first.attrib == {"message": f"failed: {CRASH.message}", "type": "failed"}
    assert first.text == f"next: {CRASH.next}\nloading model.onnx\nFatal: segmentation fault"
    assert second.text == f"next: {CRASH.next}"


def test_a_suite_is_a_model_under_a_workload() -> None:
    """Its cells and no others; names of test cases are unlike each other in it."""
    named = LAPTOP.cell._replace(workload=Workload("offline", {"batch": 8}))
    run = replace(run_of((LAPTOP, replace(LAPTOP, id=cell_id(named), cell=named))), gates=(NEVER, replace(SMALL, devices=("laptop",))))
    suites = list(junit(run))
    assert [suite.attrib["name"] for suite in suites] == ["lenet, single_stream", "lenet, offline batch=8"]
    for suite in suites:
        names = [case.attrib["name"] for case in suite]
        assert len(names) == len(set(names)) == 3
        assert {case.attrib["classname"] for case in suite} == {suite.attrib["name"].replace(", ", ".")}


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ((LAPTOP, broken("laptop", "fp32", "tflite", "unsupported", UNSUPPORTED, launched=False)), ExitCode.OK),
        ((LAPTOP, broken("laptop", "fp32", "tflite", "failed", CRASH, launched=True)), ExitCode.INCOMPLETE),
        ((LAPTOP, cell("laptop", "fp32", "tflite", 2, status="throttled")), ExitCode.INCOMPLETE),
    ],
)
def test_a_server_counts_something_bad_where_the_exit_code_says_so(cells: tuple[object, ...], code: ExitCode) -> None:
    """The file and the code agree."""
    run = replace(MIXED, cells=cells)
    root = counted(junit(run))
    assert exit_code(run, 0) == code
    assert bool(root["errors"] + root["failures"]) == (code != ExitCode.OK)


@given(text=st.text(st.characters(codec=None), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_string_gives_well_formed_xml(text: str) -> None:
    """Control characters, lone surrogates and non-characters that XML 1.0 forbids are replaced; markup is text."""
    named = LAPTOP.cell._replace(variant=text, model=text)
    failed = broken("laptop", "fp32", "tflite", "failed", CRASH._replace(message=text, next=text), launched=True)
    logged = replace(failed, launches=tuple(replace(one, log_tail=text) for one in failed.launches))
    run = replace(run_of((replace(LAPTOP, cell=named), logged)), gates=(replace(NEVER, written=text, selector=text),), started_at=text)
    shown = to_junit(run, rows(run))
    root = ElementTree.fromstring(shown.encode())  # noqa: S314 - our own
    assert counted(root) == {"tests": 4, "failures": 1, "errors": 1, "skipped": 1}
