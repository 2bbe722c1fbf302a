"""The terminal's summary: matrix, verdict, gates and failures fit the terminal, and strings of others stay text."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from factory_runs import CRASH, broken, cell, mixed_run, run_of
from rich.console import Console

from controller.cli import report as report_command
from controller.cli.output import stdout_path
from reports import format as fmt
from reports.records import Gate, RunRecord
from reports.summary import summary
from reports.table import rows

MIXED = mixed_run()
GATE = Gate("all", "latency_p90_s", 1e-4, None, "latency_p90_us <= 100", tuple(MIXED.devices))


def printed(run: RunRecord, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(summary(run, rows(run)))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_summary_fits_the_terminal(width: int) -> None:
    """Nothing is wider, and what belongs to a gate is indented below it also where a line is folded."""
    lines = printed(replace(MIXED, gates=(GATE,)), width)
    assert max(map(len, lines)) <= width
    head = next(at for at, line in enumerate(lines) if line.startswith("✕ latency_p90_us"))
    last = next(at for at, line in enumerate(lines) if line.startswith("    and "))
    below = [line for line in lines[head:last] if line.startswith("    ")]
    assert sum(line.startswith("    ✕ ") for line in below) == 3
    assert lines[last - len(below) : last] == below


def test_matrix_verdict_gates_and_failures_come_in_this_order() -> None:
    """The numbers are the table's as the report shows them; without gates there is no such block."""
    text = "\n".join(printed(replace(MIXED, gates=(GATE,)), 200))
    places = [
        text.index(part)
        for part in ("lenet, single_stream: p90 latency", "25 valid", "all: the fastest that keeps", GATE.written, CRASH.message)
    ]
    assert places == sorted(places)
    best = min(
        (row for row in rows(MIXED) if row.metric == "latency_p90_s" and row.value and not row.emulated), key=lambda row: row.value or 0
    )
    assert text.count(f"{fmt.value(best.metric, best.value)} ✓ fastest") == 1
    assert "gate" not in "\n".join(printed(MIXED, 200))


def test_strings_of_others_are_no_markup() -> None:
    """A fault that speaks rich's markup, or writes escape sequences, is shown as it is."""
    hostile = CRASH._replace(message="[red]x[/red] \x1b[31m [link=file:///etc/passwd]y[/link]", next="[bold]z")
    run = run_of((cell("laptop", "int8", "tflite", 1), broken("laptop", "fp32", "tflite", "failed", hostile, launched=True)))
    text = "\n".join(printed(run, 200))
    assert "[red]x[/red]" in text
    assert "[bold]z" in text
    assert "\x1b" not in text


def test_a_path_is_a_link_on_a_terminal_and_plain_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link is to the file, its spaces quoted; a pipe gets `label: path` and nothing else."""
    path = tmp_path / "my results" / "report.html"
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    stdout_path("report", path)
    assert capsys.readouterr().out == f"report: {path}\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stdout_path("report", path)
    out = capsys.readouterr().out
    assert path.as_uri() in out
    assert "\x1b]8;" in out


@pytest.mark.parametrize("found", [True, False])
def test_a_machine_without_a_browser_is_told(
    found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`report --open` gives the browser the file's address, and says where there is no browser."""
    asked: list[str] = []

    def browse(address: str) -> bool:
        asked.append(address)
        return found

    monkeypatch.setattr("webbrowser.open", browse)
    report_command._open(tmp_path / "report.html")  # pyright: ignore[reportPrivateUsage]
    assert asked == [(tmp_path / "report.html").as_uri()]
    assert ("no browser" in capsys.readouterr().err) == (not found)
