"""What the fault campaign looks for is found where it is planted, so that its silence means something."""

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from faults import campaign, checks, suite
from faults.checks import CellState, Evidence, Row
from faults.kinds import KINDS

from agent.schema import REASONS

FASTEST_S = np.linspace(0.001, 0.002, 5)
OUTPUTS = {"a": np.ones((6, 2), np.float32), "b": np.full((6, 2), 2.0, np.float32)}


def _row(cell: str, round_: int, **changes: Any) -> Row:
    device = "d0" if cell == "a" else "d1"
    name = f"{cell}{round_}"
    made = Row(name, cell, round_, "valid", "", f"measured by {device} in {name}\n", FASTEST_S * (10 * ord(cell) + round_))
    return replace(made, **{"output": OUTPUTS[cell] if round_ == 0 else None, **changes})


def _evidence(**changes: Any) -> Evidence:
    """A campaign of two cells on two devices that went well, two rounds each; a third cell cannot run."""
    cells = [
        CellState("a", "d0", "valid", output=OUTPUTS["a"]),
        CellState("b", "d1", "valid", output=OUTPUTS["b"]),
        CellState("c", "d1", "failed", nature=frozenset({"no_device"})),
    ]
    rows = [_row("a", 0), _row("a", 1), _row("b", 0), _row("b", 1), Row("c0", "c", 0, "failed", "no_device")]
    return replace(Evidence(2, cells, rows, {"d0": frozenset({"crash", "link_lost"}), "d1": frozenset()}, exit_codes=[3]), **changes)


def _with(*rows: Row) -> Evidence:
    """The good campaign with launches added, or put in the place of those of the same name."""
    named = {row.id: row for row in (*_evidence().rows, *rows)}
    return _evidence(rows=list(named.values()))


def test_a_good_campaign_has_no_problem() -> None:
    """Every cell measured once a round, or failed for its own reason: nothing is found, and nothing is left to do."""
    assert checks.problems(_evidence()) == []
    assert checks.is_through(_evidence())
    assert (checks.measured(_evidence()), checks.failed(_evidence())) == (4, 1)


def test_a_retried_launch_is_no_problem() -> None:
    """One that failed for a reason that the faults explain, and was measured again."""
    assert checks.problems(_with(Row("a0-first", "a", 0, "failed", "crash"), _row("a", 0))) == []


PLANTED: dict[str, tuple[Evidence, str]] = {
    "a launch that was never finished": (_with(Row("a2", "a", 1, "started")), "lost: launch a2"),
    "a round that is missing": (_evidence(rows=[row for row in _evidence().rows if row.id != "b1"]), "lost: cell b"),
    "a cell without any launch": (_evidence(rows=[row for row in _evidence().rows if row.cell != "a"]), "lost: cell a"),
    "a failure that could pass": (_with(Row("c0", "c", 0, "failed", "link_lost")), "lost: cell c"),
    "a round measured twice": (_with(_row("a", 1, id="a1-again", latencies=FASTEST_S)), "doubled: cell a"),
    "a round that nobody asked for": (_with(_row("a", 2)), "doubled: cell a"),
    "the same samples twice": (_with(_row("a", 1, latencies=_row("a", 0).latencies)), "doubled: launches a0 and a1"),
    "another device's launch": (_with(_row("a", 0, log="measured by d1 in a0\n")), "wrong: launch a0 of d0 is another's"),
    "another launch's samples": (_with(_row("a", 0, log="measured by d0 in a1\n")), "wrong: launch a0 of d0 is another's"),
    "another model's outputs": (_with(_row("a", 0, output=OUTPUTS["b"])), "wrong: launch a0 has another model's outputs"),
    "a launch without samples": (_with(_row("a", 0, latencies=None)), "wrong: launch a0 has no samples"),
    "numbers of what cannot run": (_with(Row("c0", "c", 0, "valid", "", "measured by d1 in c0", FASTEST_S)), "wrong: launch c0 measured"),
    "a launch of no cell": (_with(Row("x", "x", 1, "valid")), "wrong: launch x is of cell x"),
    "a reason that no fault explains": (_with(Row("b2", "b", 1, "failed", "crash")), "wrong: launch b2"),
    "a process that still runs": (_evidence(left=["d0: process 7 still runs"]), "wrong: d0: process 7"),
    "a damaged store": (_evidence(store=["launch a0 is of cell a, which is not there"]), "wrong: launch a0 is of"),
    "a wrong exit code": (_evidence(exit_codes=[130, 0]), "wrong: the last controller ended with 0"),
    "a controller that hangs": (_evidence(exit_codes=[None, 3]), "wrong: a controller did not end"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_problem_is_found(name: str) -> None:
    """Each with a line of its own that names what it is about."""
    evidence, expected = PLANTED[name]
    assert any(line.startswith(expected) for line in checks.problems(evidence)), checks.problems(evidence)


def test_a_cells_reason_has_to_be_explained() -> None:
    """Also where it has no launch at all: a device that was never out of reach cannot be `unreachable`."""
    cells = [replace(_evidence().cells[0], status="unreachable", reason="unreachable"), *_evidence().cells[1:]]
    assert any("'unreachable', which nothing explains" in line for line in checks.problems(_evidence(cells=cells)))


def test_what_is_left_to_do_is_not_through() -> None:
    """A launch that is open, or a round without numbers whose reason may pass, has the run resumed."""
    assert not checks.is_through(_with(Row("a2", "a", 1, "started")))
    assert not checks.is_through(_with(Row("b1", "b", 1, "failed", "link_lost")))


def test_there_are_25_kinds_of_fault_with_reasons_that_there_are() -> None:
    """Their reasons are codes that a launch can have; the modules that define them are those that campaigns use."""
    assert campaign.KINDS is KINDS
    assert len(KINDS) >= 25
    assert {reason for kind in KINDS.values() for reason in kind.reasons} <= set(REASONS)
    assert {kind.do.__module__ for kind in KINDS.values()} == {f"faults.{name}" for name in ("links", "processes", "files", "controllers")}


def test_two_models_cannot_be_taken_for_each_other() -> None:
    """Their outputs for the same images are far apart, compared with what the check lets pass."""
    left, right = map(suite.true_output, suite.MODELS)
    cell = CellState("a", "d0", "valid", output=left)
    mixed = dataclasses.replace(_row("a", 0), output=right)
    found = checks.problems(_evidence(cells=[cell, *_evidence().cells[1:]], rows=[mixed, *_evidence().rows[1:]]))
    assert "wrong: launch a0 has another model's outputs" in found
