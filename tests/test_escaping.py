"""What devices, models and suites call themselves neither steers a terminal nor becomes markup or a spreadsheet's formula."""

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from factory_runs import hostile_run
from stored_runs import keep
from typer.testing import CliRunner

from controller.cli import doctor
from controller.cli.__main__ import app
from controller.cli.output import stdout_lines, stdout_table
from controller.cli.progress import Lines
from controller.doctor import Check
from reports.records import CellRecord

HOSTILE = "=cmd|' /C calc'!A0\x1b]0;owned\x07\x1b[2J\r\u202egnp[red]</td><script>alert(1)</script>\x9b31m"
STEERING = {"\x1b", "\x07", "\r", "\u202e", "\x9b", "\x00"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored run in which all that has a name is called HOSTILE."""
    folder = tmp_path_factory.mktemp("results")
    run = hostile_run(HOSTILE)
    keep(dataclasses.replace(run, gates=(), cells=tuple(map(_with_short_logs, run.cells))), folder)
    return folder


def _with_short_logs(cell: CellRecord) -> CellRecord:
    return dataclasses.replace(cell, launches=tuple(dataclasses.replace(one, log_tail=one.log_tail[-16_384:]) for one in cell.launches))


@pytest.mark.parametrize(
    "words",
    [
        ("runs", "list"),
        ("runs", "show"),
        ("runs", "show", "--json"),
        ("export", "--to", "csv"),
        ("export", "--to", "json"),
        ("export", "--to", "markdown"),
        ("export", "--to", "junit"),
        ("export", "--to", "openmetrics"),
    ],
)
def test_no_command_lets_a_name_steer_the_terminal(words: tuple[str, ...], results: Path) -> None:
    """Whatever reads the store."""
    done = CliRunner().invoke(app, [*words, "--results", str(results)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    shown = done.output.replace("\r\n", "\n")  # as CSV ends its lines
    assert "calc" in shown
    assert STEERING & set(shown) == set()


def test_narration_tables_and_checks_do_not_either(capsys: pytest.CaptureFixture[str]) -> None:
    """What is told of devices while they are asked."""
    with Lines() as shown:
        shown.say(HOSTILE)
    stdout_table(["device"], [[HOSTILE]])
    stdout_lines(doctor.lines({HOSTILE: [Check("required", HOSTILE, False, HOSTILE, HOSTILE)]}))
    told = capsys.readouterr()
    assert told.err.count("owned") == 1
    assert told.out.count("owned") == 5
    assert STEERING & set(told.err + told.out) == set()


def test_no_field_of_csv_is_a_formula(results: Path) -> None:
    """Neither in the table nor in the raw samples: one that would be begins with a quotation mark."""
    whole = CliRunner().invoke(app, ["export", "--to", "csv", "--results", str(results)]).output
    samples = CliRunner().invoke(app, ["export", "--to", "csv", "--raw", "--results", str(results)]).output
    fields = [field for text in (whole, samples) for row in csv.reader(io.StringIO(text)) for field in row if not _is_number(field)]
    assert any(field.startswith("'=cmd") for field in fields)
    assert [field for field in fields if field.startswith(("=", "+", "-", "@"))] == []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
