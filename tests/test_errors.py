"""Errors say what failed, why and what to do next, in plain text that cannot harm, and end with the code of their kind."""

from pathlib import Path

import pytest

from agent.schema import Fault, FaultError
from controller.cli.output import stderr_text
from controller.errors import MAX_LINES, ConfigError, ExitCode, Problem, exit_code, gravest, render


def test_an_error_cannot_steer_the_terminal() -> None:
    """What a device or a file said is shown escaped; a fault's further lines are its why."""
    fault = Fault("host_key", "connect", "refusing to connect to pi\x1b[2J\nit presented \u202eX", "first\nsecond")
    assert render(FaultError("crash", "a\rb")) == "error[crash]: a\\rb"
    assert render(fault).splitlines() == [
        "error[host_key]: refusing to connect to pi\\x1b[2J",
        "  why:  it presented \\u202eX",
        "  next: first",
        "        second",
    ]


def test_narration_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever writes it: escape sequences are shown escaped, nothing is markup, lines stay lines."""
    stderr_text("pi says [bold]\x1b[2J\n\u202eX")
    assert capsys.readouterr().err == "pi says [bold]\\x1b[2J\n\\u202eX\n"


def test_the_gravest_exit_code_wins() -> None:
    """130 > 70 > 2 > 5 > 4 > 1 > 3, and an error has the code of its kind."""
    order = [130, 70, 2, 5, 4, 1, 3, 0]
    for at, code in enumerate(order):
        assert gravest([ExitCode(one) for one in order[at:]]) == code
    assert gravest([]) == ExitCode.OK
    errors = [FaultError("host_key", ""), FaultError("crash", ""), KeyboardInterrupt(), ZeroDivisionError()]
    assert [exit_code(error) for error in errors] == [4, 3, 130, 70]


def test_problems_are_sorted_counted_and_bounded() -> None:
    """Many problems are told in the file's order, each once, and the screen is not flooded."""
    error = ConfigError(Path("x.yaml"), [Problem(line, 1, "wrong") for line in (*range(MAX_LINES + 5, 0, -1), 1)])
    lines = render(error).splitlines()
    assert lines[0] == f"error[config]: cannot use x.yaml: {MAX_LINES + 5} problems"
    assert lines[1] == "  why:  x.yaml:1:1: wrong"
    assert lines[MAX_LINES + 1] == "        and 5 more"
