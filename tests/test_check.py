"""`fleetmark check` as CI runs it: exit codes, gates of the run or of a file, JSON, and what GitHub Actions shows of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from factory_runs import CRASH, NO_ROUTE, broken, cell, mixed_run, run_of
from stored_runs import keep

from controller.cli.__main__ import main
from reports import format as fmt
from reports.cheapest import gated
from reports.github import MOST_ANNOTATIONS, SUMMARY_BYTES, annotations, capped
from reports.markdown import escaped, to_markdown
from reports.records import CellRecord, Gate, RunRecord
from reports.table import rows

LAPTOP = cell("laptop", "int8", "tflite", 1)
FAST = Gate("all", "latency_p90_s", 1.0, None, "latency_p90_ms <= 1000")
TOO_FAST = Gate("all", "latency_p90_s", 1e-9, None, "latency_p90_us <= 0.001")
SENSED = Gate("all", "energy_net_j", 1.0, None, "energy_net_j <= 1")
FAILED = broken("laptop", "fp32", "tflite", "failed", CRASH, launched=True)
GONE = broken("pi-b", "fp32", "tflite", "unreachable", NO_ROUTE, launched=False)

RUNS: dict[str, tuple[tuple[CellRecord, ...], tuple[Gate, ...]]] = {
    "held": ((LAPTOP,), (FAST,)),
    "over": ((LAPTOP, FAILED), (FAST, TOO_FAST)),
    "unmeasured": ((LAPTOP,), (FAST, SENSED)),
    "incomplete": ((LAPTOP, FAILED), (FAST,)),
    "gone": ((LAPTOP, FAILED, GONE), (TOO_FAST,)),
    "of-others": ((LAPTOP,), (FAST, replace(TOO_FAST, variants=("fp16",)))),
    "free": ((LAPTOP,), ()),
}

Fleetmark = Callable[..., tuple[int, str, str]]


def named(name: str, cells: tuple[CellRecord, ...], gates: tuple[Gate, ...]) -> RunRecord:
    """A run of that id, whose launches are no other run's."""
    own = tuple(replace(one, launches=tuple(replace(launch, id=f"{name}-{launch.id}") for launch in one.launches)) for one in cells)
    return replace(run_of(own), id=name, gates=gates)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for name, (cells, gates) in RUNS.items():
        keep(named(name, cells, gates), folder)
    return folder


@pytest.fixture
def check(results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fleetmark:
    """Run `fleetmark check WORDS` here; give its exit code, stdout and stderr."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fleetmark", "check", *map(str, words), "--results", str(results)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.mark.parametrize(
    ("name", "code"),
    [("held", 0), ("of-others", 0), ("over", 1), ("unmeasured", 1), ("incomplete", 3), ("gone", 4), ("free", 2), ("nowhere", 2)],
)
def test_the_exit_code_says_what_is_wrong_worst_first(check: Fleetmark, name: str, code: int) -> None:
    """0 all kept; 1 over a limit or not measured; 2 nothing to check; 3 cells that gave no number; 4 a device that was not there."""
    assert check(name)[0] == code


def test_the_program_ends_with_the_code(results: Path) -> None:
    """As a process of its own, as CI starts it; what it prints without colour and links says the number that the report shows."""
    words = [str(Path(sys.executable).with_name("fleetmark")), "check", "over", "--results", str(results)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    (shown,) = (fmt.value(row.metric, row.value) for row in rows(run_of((LAPTOP,))) if row.metric == "latency_p90_s")
    assert done.returncode == 1
    assert "✓ latency_p90_ms <= 1000 (all): held by 1 of 1 cells, 1 not judged" in done.stdout
    assert f"    ✕ int8 on laptop with tflite: p90 latency {shown}" in done.stdout
    assert CRASH.message in done.stdout
    assert "\x1b" not in done.stdout
    assert "2 gates on run over: 1 held, 1 broken" in done.stderr


def test_a_run_without_gates_says_how_to_give_some(check: Fleetmark) -> None:
    """The error names the run and the option."""
    _, out, err = check("free")
    assert out == ""
    assert "free has no gates" in err
    assert "--gates FILE" in err


ALONE = "all: {latency_p90_us: 0.001}\n"
SUITE = "version: 1\nmodels: {m: {source: m.onnx}}\nrecipes: [fp32]\ngates:\n  " + ALONE


@pytest.mark.parametrize("text", [ALONE, f"gates:\n  {ALONE}", f"version: 1\ngates:\n  {ALONE}", SUITE])
def test_gates_come_from_a_file_in_place_of_the_runs(check: Fleetmark, tmp_path: Path, text: str) -> None:
    """The mapping alone, below its key, or a whole suite: the same gates, bound to the devices of the run."""
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    code, out, _ = check("held", "--gates", path)
    assert (code, "latency_p90_us <= 0.001 (all): held by 0 of 1 cells, 1 broken" in out) == (1, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("all: {latency_p9_ms: 3}\n", "gates.yaml:1:7: no metric is called `latency_p9_ms`"),
        ("all: {zzz: 3}\n", "gates.yaml:1:7: no metric is called `zzz`; known here: accelerator_"),
        ("all: {zzz: 3}\n", " more\n"),
        ("gates:\n  all: {latency_p90_ms: fast}\n", "gates.yaml:2:"),
        ("all: {}\n", "has no gates"),
        ("gates: {}\n", "has no gates"),
        ("", "the file is empty"),
        ("gates: {}\nlaunches: 3\n", "unknown key `launches`"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(check: Fleetmark, tmp_path: Path, text: str, said: str) -> None:
    """As in a suite, and the code is that of wrong usage."""
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    code, _, err = check("held", "--gates", path)
    assert code == 2
    assert said in err


def test_a_selector_that_means_nothing_here_is_told_and_fails_nothing(check: Fleetmark, tmp_path: Path) -> None:
    """A part of the fleet may be checked against the gates of all of it."""
    path = tmp_path / "gates.yaml"
    path.write_text('"kind=coral-usb": {energy_net_mj: 5}\n')
    code, out, _ = check("held", "--gates", path)
    assert (code, "energy_net_mj <= 5 (kind=coral-usb): this run has no cell that it means" in out) == (0, True)


def test_json_has_each_gate_and_cell(check: Fleetmark) -> None:
    """One document with the exit code, limits in the table's unit and the table's numbers."""
    code, out, _ = check("over", "--json")
    found = json.loads(out)["check"]
    assert (found["run"], found["exit_code"], code) == ("over", 1, 1)
    assert [(one["at_most"], one["outcome"]) for one in found["gates"]] == [(1.0, "held"), (1e-9, "broken")]
    values = {row.cell: row.value for row in rows(run_of((LAPTOP, FAILED))) if row.metric == "latency_p90_s"}
    assert {one["cell"]: one["value"] for one in found["gates"][0]["cells"]} == values
    assert [one["outcome"] for one in found["gates"][1]["cells"]] == ["broken", "not judged"]
    assert found["answers"][0]["best"] is None


def test_files_are_written_beside_the_text(check: Fleetmark, tmp_path: Path) -> None:
    """JUnit and Markdown to their paths, or Markdown to stdout in the text's place."""
    junit, markdown = tmp_path / "deep" / "junit.xml", tmp_path / "summary.md"
    code, out, _ = check("over", "--junit", junit, "--markdown", markdown)
    assert code == 1
    assert "held by" in out
    assert junit.read_text().startswith("<?xml")
    assert markdown.read_text() == check("over", "--markdown", "-")[1]


@pytest.mark.parametrize("words", [("--json", "--markdown", "-"), ("--junit", "-", "--markdown", "-"), ("--json", "--junit", "-")])
def test_one_document_at_most_is_on_stdout(words: tuple[str, ...], check: Fleetmark) -> None:
    """Two would be neither: both options are named, and nothing is printed."""
    code, out, err = check("over", *words)
    assert (code, out) == (2, "")
    assert all(word in err for word in words if word != "-")


def test_a_summary_that_cannot_be_written_is_told_after_the_result(
    check: Fleetmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found is printed all the same; the error names file and variable."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    code, out, err = check("over", "--github")
    assert code == 2
    assert "1 broken" in out
    assert f"cannot write the step summary to {tmp_path}" in err.replace("\n", " ")
    assert "GITHUB_STEP_SUMMARY" in err


@pytest.mark.parametrize("words", [(), ("--json",), ("--markdown", "-")])
def test_the_code_is_the_same_where_nobody_reads(words: tuple[str, ...], results: Path) -> None:
    """`check | head` in a script with pipefail: a broken gate ends with 1 although the pipe is closed, and without a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(Path(sys.executable).with_name("fleetmark")), "check", "over", *words, "--results", str(results)]
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_in_github_actions_a_step_has_annotations_and_a_summary(check: Fleetmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself there; the summary is appended; --no-github writes neither, --github only what there is a place for."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert "::error" not in check("over", "--no-github")[2]
    assert summary.read_text() == "before\n"
    code, out, err = check("over", "--json")
    assert (code, json.loads(out)["check"]["run"]) == (1, "over")
    assert "::error title=fleetmark%3A gate broken::latency_p90_us <= 0.001 (all): int8 on laptop" in err
    assert "::error title=fleetmark%3A cell failed::fp32 on laptop" in err
    assert summary.read_text().startswith("before\n# fleetmark run over")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name)
    assert "::error" in check("over", "--github")[2]


HOSTILE = "::error::x\r\n::set-env name=A::100%|`<b>**\x1b[31m\u202e, [a](b)"


def hostile_run() -> RunRecord:
    named_so = replace(LAPTOP, cell=LAPTOP.cell._replace(variant=HOSTILE, backend=HOSTILE))
    failed = replace(FAILED, launches=tuple(replace(one, fault=CRASH._replace(message=HOSTILE)) for one in FAILED.launches))
    gates = (replace(TOO_FAST, selector=HOSTILE, devices=("laptop",)), replace(FAST, devices=("laptop",)))
    return replace(run_of((named_so, failed)), gates=gates, suite=HOSTILE)


def test_an_annotation_is_one_command_whatever_a_device_is_called() -> None:
    """Per cent signs and line ends are escaped, in titles colons and commas too: no text of others begins a line."""
    run = hostile_run()
    found = annotations(run, rows(run), gated(run, rows(run)))
    assert len(found) == 2
    for line in found:
        assert line.startswith("::error title=fleetmark%3A ")
        assert not {"\n", "\r", "\x1b", "\u202e"} & set(line)
        assert line.replace("%25", "").replace("%3A", "").count("%") == 0
        assert line.split("::")[1].count(":") == line.split("::")[1].count(",") == 0
    assert "100%25" in found[0]


def test_annotations_beyond_githubs_limit_are_counted() -> None:
    """Of each kind ten are shown; the last one says how many there are besides."""
    run = mixed_run()
    gate = replace(TOO_FAST, devices=tuple(run.devices))
    run = replace(run, gates=(gate,))
    held = gated(run, rows(run))
    errors = [line for line in annotations(run, rows(run), held) if line.startswith("::error")]
    told = len(held.failures) + 3  # an unsteady, a failed and an unreachable one
    assert len(errors) == MOST_ANNOTATIONS < told
    assert errors[-1].endswith(f"::and {told - MOST_ANNOTATIONS + 1} more in the job's summary")


@pytest.mark.parametrize("limit", [200, 1000, 5000])
def test_a_summary_is_cut_after_a_line_within_its_bytes(limit: int) -> None:
    """Not in characters: these take more bytes. What is left out is counted."""
    text = "".join(f"µs ✕ line {at}\n" for at in range(1000))
    cut = capped(text, limit)
    whole = cut[: cut.index("\n\n") + 1]
    assert limit - 40 < len(cut.encode()) <= limit
    assert text.startswith(whole)
    assert f"{1000 - whole.count(chr(10))} more lines" in cut
    assert capped(text, len(text.encode())) == text


def test_the_summary_of_a_large_run_fits() -> None:
    """Cells that together break gates 600 times are more than the limit in Markdown; once it is cut, the verdict and gates are there."""
    run = mixed_run()
    gates = tuple(replace(TOO_FAST, at_most=1e-9 * at, devices=tuple(run.devices)) for at in range(1, 25))
    run = replace(run, gates=gates)
    text = to_markdown(run, rows(run))
    assert text.count("- broken: ") == 24 * 25
    assert len(text.encode()) > SUMMARY_BYTES >= len(capped(text).encode())
    assert "## Gates" in capped(text)


def test_markdown_has_the_verdict_the_gates_the_matrix_and_the_failures() -> None:
    """In this order, with the table's numbers as everywhere, and every table has as many fields in each row."""
    run = replace(mixed_run(), gates=(replace(TOO_FAST, devices=("laptop",)),))
    text = to_markdown(run, rows(run))
    places = [text.index(f"## {title}") for title in ("Verdict", "Gates", "lenet, single_stream: p90 latency", "Failures")]
    assert places == sorted(places)
    values = [row for row in rows(run) if row.metric == "latency_p90_s" and row.value is not None]
    assert all(f" {fmt.value(row.metric, row.value)} " in text for row in values)
    for block in text.split("\n\n"):
        table = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in table}) <= 1


def test_markdown_shows_hostile_text_as_text() -> None:
    """Nothing in it is a table's edge, code, emphasis, a link, HTML or an escape sequence, and no line begins with it."""
    run = hostile_run()
    text = to_markdown(run, rows(run))
    plain = escaped(HOSTILE)
    assert plain in text
    for special in ("|", "`", "**", "[a", "<b>"):
        at = text.index("name=A")
        assert f"\\{special[0]}" in text[at : at + 60]
    assert not {"\x1b", "\u202e", "\r"} & set(text)
    assert all(not line.startswith("::") for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("84.5 µs", "84.5 µs"),
        ("-0.30 pp", "-0.30 pp"),
        ("-", "-"),
        ("latency_p90_ms <= 20", "latency_p90_ms <= 20"),
        ("# a", "\\# a"),
        ("- a", "\\- a"),
        ("1. a", "1\\. a"),
        ("_a_ *b* <b> a|b", "\\_a\\_ \\*b\\* \\<b> a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("a\nb", "a b"),
    ],
)
def test_only_what_would_be_markup_is_escaped(text: str, shown: str) -> None:
    """Numbers and gates stay as they are, so that the file reads well as text too."""
    assert escaped(text) == shown
