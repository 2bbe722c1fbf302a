"""`fleetmark runs`: the list, tags that name one run each, and the trend."""

import json
from pathlib import Path

import pytest
from device_commands import Command
from history_runs import cells, keep

from controller.store import Store


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for day in (1, 2, 3):
        keep(folder, day, cells(100 * day, {"int8": 1 + day / 10})[: 3 - day // 3])
    return folder


def tags(results: Path) -> dict[str, str | None]:
    store = Store.open(results)
    found = {row.id[:8]: row.tag for row in store.list_runs()}
    store.close()
    return found


def test_a_tag_names_the_run_for_every_command(fleetmark: Command, results: Path) -> None:
    """Once tagged, the run is found by its tag and listed with it."""
    fleetmark("runs", "tag", "20260101", "baseline", "--results", results)
    assert tags(results) == {"20260101": "baseline", "20260102": None, "20260103": None}
    shown = json.loads(fleetmark("runs", "show", "baseline", "--json", "--results", results).out)
    assert shown["run"]["run"]["id"].startswith("20260101")
    listed = fleetmark("runs", "list", "--results", results).out
    assert [line.split()[:2] for line in listed.splitlines() if "2026" in line][-1] == ["20260101-120000-0001", "baseline"]


def test_a_tag_moves_only_when_forced(fleetmark: Command, results: Path) -> None:
    """Who has it is named; with --force it moves, and is nowhere twice. A tag is not lost by another one without --force either."""
    fleetmark("runs", "tag", "20260101", "baseline", "--results", results)
    refused = fleetmark("runs", "tag", "20260102", "baseline", "--results", results, code=2)
    assert "run 20260101-120000-0001 is tagged baseline already" in refused.err
    fleetmark("runs", "tag", "20260101", "baseline", "--results", results)
    assert "is tagged baseline already" in fleetmark("runs", "tag", "20260101", "v1", "--results", results, code=2).err
    fleetmark("runs", "tag", "20260102", "baseline", "--force", "--results", results)
    assert tags(results) == {"20260101": None, "20260102": "baseline", "20260103": None}
    fleetmark("runs", "tag", "20260102", "v1", "--force", "--results", results)
    assert tags(results)["20260102"] == "v1"


def test_a_tag_is_taken_away(fleetmark: Command, results: Path) -> None:
    """--remove takes it from its run and from no other; a name beside it, or neither of both, is refused."""
    fleetmark("runs", "tag", "20260101", "v1", "--results", results)
    fleetmark("runs", "tag", "20260102", "v2", "--results", results)
    fleetmark("runs", "tag", "v1", "--remove", "--results", results)
    assert tags(results) == {"20260101": None, "20260102": "v2", "20260103": None}
    for words in (("v2",), ("v2", "v3", "--remove")):
        assert "either a NAME or --remove" in fleetmark("runs", "tag", *words, "--results", results, code=2).err


@pytest.mark.parametrize(
    "name", ["latest", "2026", "20260101-120000-0001", "1st", "-v", "two words", "tab\tbed", "\x1b[31mred", "v" * 65, ""]
)
def test_a_tag_cannot_be_what_names_runs_otherwise(name: str, fleetmark: Command, results: Path) -> None:
    """Not `latest`, not the start of an id, no digit first, nothing invisible, no space, at most 64 characters."""
    done = fleetmark("runs", "tag", "--results", results, "--", "20260101", name, code=2)
    assert "cannot be a tag" in done.err
    assert set(tags(results).values()) == {None}


def test_the_list_says_what_is_not_finished(fleetmark: Command, results: Path) -> None:
    """A run without an end is told so; where all have ended there is no such column."""
    assert "not finished" not in fleetmark("runs", "list", "--results", results).out
    store = Store.open(results)
    store.create_run("20260104-120000-0004", "2026-01-04T12:00:00.000+00:00", {"suite": "s", "profile": "quick"})
    store.close()
    shown = fleetmark("runs", "list", "--results", results).out
    assert "not finished" in shown
    assert shown.count("suite.yaml") == 3


def test_the_trend_has_a_column_for_each_run(fleetmark: Command, results: Path) -> None:
    """The headline of each cell of the last run at each run, the tagged one by its tag, the earliest first."""
    fleetmark("runs", "tag", "20260102", "v1", "--results", results)
    shown = fleetmark("runs", "trend", "20260103", "--results", results).out
    assert "cell, p90 latency" in shown
    (head,) = [line for line in shown.splitlines() if "p90 latency" in line]
    assert head.split()[-5:] == ["01-01", "12:00", "v1", "01-03", "12:00"]
    assert sum("on laptop with tflite" in line for line in shown.splitlines()) == 2
    document = json.loads(fleetmark("runs", "trend", "20260103", "--json", "--results", results).out)["trend"]
    assert [one["label"] for one in document["runs"]] == ["01-01 12:00", "v1", "01-03 12:00"]
    assert all(len(one["values"]) == 3 for one in document["cells"])


def test_a_trend_of_another_metric_and_of_none(fleetmark: Command, results: Path) -> None:
    """A metric of the table is shown; a word that is none is told with the nearest; a run before all others has no trend."""
    assert "cell, peak memory" in fleetmark("runs", "trend", "--metric", "peak_memory_bytes", "--results", results).out
    assert "peak_memory_bytes" in fleetmark("runs", "trend", "--metric", "peak_memory", "--results", results, code=2).err
    assert "no earlier run shares a cell" in fleetmark("runs", "trend", "20260101", "--results", results, code=2).err
    unmeasured = fleetmark("runs", "trend", "--metric", "energy_net_j", "--results", results, code=2).err
    assert "no earlier run shares energy_net_j of a cell with 20260103" in unmeasured
