"""`fleetmark compare` on stored runs: what it prints, writes and ends with."""

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from device_commands import Command
from factory_runs import CRASH, broken
from history_runs import cells, keep

from controller import history
from controller.store import Store

HOSTILE = "6.6\x1b[2J[bold]x[/nothing]\u202e"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days: the base; int8 30 % slower on another kernel; the same again; fp16 crashes; as the base."""
    folder = tmp_path_factory.mktemp("results")
    keep(folder, 1, cells(0), tag="baseline")
    keep(folder, 2, cells(100, {"int8": 1.3}), kernel=HOSTILE)
    keep(folder, 3, cells(200, {"int8": 1.3}), kernel=HOSTILE)
    crashed = broken("laptop", "fp16", "tflite", "failed", CRASH, launched=True)
    keep(folder, 4, (cells(300)[0], crashed, cells(300)[2]))
    keep(folder, 5, cells(400))
    return folder


def test_the_terminal_shows_worst_first_and_folds_the_rest(fleetmark: Command, results: Path) -> None:
    """The suspected cell with its change and what is another beside it, two unchanged in one line, and the command that confirms."""
    shown = fleetmark("compare", "baseline", "20260102", "--results", results).out
    assert re.search(r"1 suspected, 2 unchanged of 3 cells\.\s+△ suspected +int8 on laptop with tflite", shown)
    assert "+30 %" in shown
    assert "changed beside it: kernel 6.1.0 → 6.6[bold]x[/nothing]\\u202e" in shown
    assert "2 unchanged (--all shows them)" in shown
    assert "fp16 on laptop" not in shown
    assert "\x1b" not in shown
    assert "fleetmark compare 20260101-120000-0001 20260102-120000-0002 --rerun 20260103-120000-0003" in shown
    assert "fp16 on laptop" in fleetmark("compare", "baseline", "20260102", "--all", "--results", results).out


def test_a_run_without_a_later_one_is_to_be_made_again(fleetmark: Command, tmp_path: Path) -> None:
    """Where no later run of the suite was in the same environment, the advice is to measure again."""
    keep(tmp_path, 1, cells(0))
    keep(tmp_path, 2, cells(100, {"int8": 1.3}))
    keep(tmp_path, 3, cells(200), kernel="6.6")
    keep(tmp_path, 4, cells(300), suite="other.yaml")
    shown = fleetmark("compare", "20260101", "20260102", "--results", tmp_path).out
    assert "Run it again to confirm what is suspected:" in shown
    assert "fleetmark run suite.yaml" in shown
    assert "--rerun latest" in shown


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        (("20260102",), {"none": 0, "failed": 0, "regression": 0, "suspected": 1, "worse": 1}),
        (("20260102", "--rerun", "20260103"), {"none": 0, "failed": 0, "regression": 1, "suspected": 1, "worse": 1}),
        (("20260102", "--rerun", "20260105"), {"none": 0, "failed": 0, "regression": 0, "suspected": 0, "worse": 0}),
        (("20260104",), {"none": 0, "failed": 1, "regression": 1, "suspected": 1, "worse": 1}),
        (("20260105",), {"none": 0, "failed": 0, "regression": 0, "suspected": 0, "worse": 0}),
    ],
)
def test_it_ends_with_1_from_the_level_on_that_was_asked_for(
    words: tuple[str, ...], codes: dict[str, int], fleetmark: Command, results: Path
) -> None:
    """Each level of --fail-on includes those before it: failed, regression, suspected, worse; without it the code is 0."""
    for level, code in codes.items():
        fleetmark("compare", "baseline", *words, "--fail-on", level, "--results", results, code=code)


def test_the_json_has_every_cell_with_numbers_and_surroundings(fleetmark: Command, results: Path) -> None:
    """One versioned document: both runs, the counts, and per cell verdict, values, ratio with interval and p, and what is another."""
    done = fleetmark("compare", "baseline", "20260102", "--rerun", "20260103", "--json", "--results", results)
    document = json.loads(done.out)
    found = document["comparison"]
    assert document["version"] == 1
    assert (found["base"]["tag"], found["rerun"]["id"]) == ("baseline", "20260103-120000-0003")
    assert found["counts"] == {"regression": 1, "unchanged": 2}
    worst = found["cells"][0]
    assert (worst["variant"], worst["verdict"]) == ("int8", "regression")
    assert worst["new"]["value"] / worst["base"]["value"] == pytest.approx(1.3, rel=0.05)
    ratio = worst["cost_ratio"]
    assert 1 < ratio["low"] < ratio["value"] < ratio["high"]
    assert ratio["p"] < 0.05
    assert worst["environment"][0]["what"] == "kernel"
    assert len(found["cells"]) == 3


def test_the_terminal_has_the_numbers_of_the_json(fleetmark: Command, results: Path) -> None:
    """Base, new and change of each cell are shown to the same last digit."""
    words = ("compare", "baseline", "20260102", "--results", results)
    shown = fleetmark(*words, "--all").out
    for one in json.loads(fleetmark(*words, "--json").out)["comparison"]["cells"]:
        told = one["shown"]
        assert f"{told['base']} → {told['new']}, {told['change']} ({told['interval']})" in shown


def test_markdown_has_the_same_numbers_and_no_markup_of_others(fleetmark: Command, results: Path) -> None:
    """A row for the suspected cell with its figures; the kernel's brackets are escaped, and the fold and the command are there."""
    words = ("compare", "baseline", "20260102", "--results", results)
    told = json.loads(fleetmark(*words, "--json").out)["comparison"]["cells"][0]["shown"]
    shown = fleetmark(*words, "--to", "markdown").out
    change = f"{told['change']} ({told['interval']})"
    (row,) = [line for line in shown.splitlines() if "suspected |" in line]
    assert row.startswith(f"| △ suspected | int8 on laptop with tflite, p90 latency | {told['base']} | {told['new']} | {change} |")
    assert "6.6\\[bold\\]x\\[/nothing\\]" in row
    assert "2 unchanged" in shown
    assert "--rerun 20260103-120000-0003" in shown


def test_it_is_written_where_it_is_asked_for(fleetmark: Command, results: Path, tmp_path: Path) -> None:
    """-o PATH writes what the terminal shows and prints the path; -o - prints it."""
    words = ("compare", "baseline", "20260104", "--results", results)
    path = tmp_path / "reports" / "change.txt"
    assert fleetmark(*words, "-o", path).out.strip() == str(path)
    written = path.read_text()
    assert "now failed" in written
    assert "SIGSEGV" in written
    assert fleetmark(*words, "-o", "-").out == written


def test_json_is_written_where_it_is_asked_for(fleetmark: Command, results: Path, tmp_path: Path) -> None:
    """-o PATH has the document that --json prints, and the level of --fail-on still decides; Markdown beside it is a contradiction."""
    words = ("compare", "baseline", "20260102", "--json", "--results", results)
    path = tmp_path / "change.json"
    assert fleetmark(*words, "-o", path, "--fail-on", "suspected", code=1).out.strip() == str(path)
    assert path.read_text() == fleetmark(*words).out
    assert "two forms" in fleetmark(*words, "--to", "markdown", code=2).err


def test_names_of_no_run_and_one_run_twice_are_told(fleetmark: Command, results: Path) -> None:
    """Each is a usage error that says which run it is about."""
    assert "there is no run 'nope'" in fleetmark("compare", "nope", "20260102", "--results", results, code=2).err
    assert "there is no run 'nope'" in fleetmark("compare", "baseline", "20260102", "--rerun", "nope", "--results", results, code=2).err
    assert "is both runs" in fleetmark("compare", "baseline", "20260101", "--results", results, code=2).err


@pytest.mark.parametrize(("rerun", "said"), [("20260102", "the new run itself"), ("baseline", "the base itself")])
def test_a_run_is_no_rerun_of_itself(rerun: str, said: str, fleetmark: Command, results: Path) -> None:
    """What is suspected would be confirmed by the very same numbers: it is a usage error."""
    assert said in fleetmark("compare", "baseline", "20260102", "--rerun", rerun, "--results", results, code=2).err


def test_runs_of_different_suites_are_said_to_be(fleetmark: Command, tmp_path: Path) -> None:
    """Cells of the same name are compared, and what the suites are stands above them."""
    keep(tmp_path, 1, cells(0))
    keep(tmp_path, 2, cells(100), suite="other.yaml")
    assert "The runs differ in: suite suite.yaml → other.yaml." in fleetmark("compare", "20260101", "--results", tmp_path).out


def test_the_report_has_the_tagged_baseline_by_itself(fleetmark: Command, results: Path, tmp_path: Path) -> None:
    """The earlier run of the suite tagged baseline is compared with, another one where it is named."""
    path = tmp_path / "report.html"
    for words, said in (
        ((), "20260105-120000-0005, 2026-01-05 against baseline (20260101-120000-0001), 2026-01-01"),
        (("--baseline", "20260103"), "against 20260103-120000-0003, 2026-01-03"),
    ):
        fleetmark("report", "20260105", *words, "-o", path, "--results", results)
        assert said in path.read_text()


def test_a_baseline_is_an_earlier_run_of_the_same_suite(tmp_path: Path) -> None:
    """The tagged run itself has none, nor has a run of another suite, nor one before it."""
    keep(tmp_path, 1, cells(0))
    keep(tmp_path, 2, cells(1), suite="other.yaml", tag="baseline")
    keep(tmp_path, 3, cells(2))
    keep(tmp_path, 4, cells(3), suite="other.yaml")
    with closing(Store.open(tmp_path)) as store:
        found = [history.baseline(store, history.load(store, f"2026010{day}")) for day in (1, 2, 3, 4)]
    assert [one and one.base.id for one in found] == [None, None, None, "20260102-120000-0002"]
