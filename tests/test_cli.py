"""The command line as a person meets it: help, wrong words, missing files, exit codes, JSON."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from device_commands import Command, typed

from controller.cli import run

FLEETMARK = Path(sys.executable).with_name("fleetmark")
LAPTOP = "version: 1\ndevices:\n  laptop: {kind: local}\n"


@pytest.fixture
def fleetmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in an empty folder, without a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("NO_COLOR", "1")
    return functools.partial(typed, monkeypatch, capsys)


def program(*words: str, folder: Path, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """The same as the program that is installed, in a process of its own."""
    environ = {**os.environ, "COLUMNS": "140", "NO_COLOR": "1"}
    done = subprocess.run([str(FLEETMARK), *words], cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_help_names_every_command_and_the_exit_codes(tmp_path: Path) -> None:
    """`--help` teaches the commands and what each exit code means."""
    text = " ".join(program("--help", folder=tmp_path).stdout.split())
    for word in ("init", "plan", "run", "report", "export", "device", "runs", "130 interrupted"):
        assert word in text


@pytest.mark.parametrize("words", [(), ("device",), ("runs",)])
def test_a_group_without_a_command_shows_its_help(words: tuple[str, ...], tmp_path: Path) -> None:
    """No command at all is answered with help and the usage code."""
    done = program(*words, folder=tmp_path, code=2)
    assert "Usage:" in done.stdout + done.stderr


def test_init_writes_files_that_load_and_overwrites_nothing(fleetmark: Command, tmp_path: Path) -> None:
    """`init` writes an inventory and a suite that the other commands read; a second `init` refuses."""
    fleetmark("init")
    listed = json.loads(fleetmark("device", "list", "--json").out)
    assert listed["version"] == 1
    assert "laptop" in [device["name"] for device in listed["devices"]]
    before = (tmp_path / "inventory.yaml").read_bytes()
    fleetmark("init", code=2)
    assert (tmp_path / "inventory.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "give a SUITE or MODEL"),
        (("run", "nowhere.onnx"), "there is no nowhere.onnx"),
        (("run", "nowhere.yaml"), "there is no nowhere.yaml"),
        (("run", "--resume", "latest"), "there are no results"),
        (("runs", "list"), "there are no results"),
        (("export", "latest"), "there are no results"),
        (("report", "20200101"), "there are no results"),
        (("fly",), "fly"),
        (("export", "latest", "--to", "yaml"), "yaml"),
        (("run", "suite.yaml", "--launches", "0"), "--launches"),
    ],
)
def test_wrong_words_are_told_in_one_line_and_end_with_2(fleetmark: Command, words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """Wrong usage and missing files say what is wrong, write nothing to stdout, and exit with 2."""
    (tmp_path / "inventory.yaml").write_text(LAPTOP)
    done = fleetmark(*words, code=2)
    assert said in done.err
    assert done.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inventory.yaml"]


def test_a_mistake_in_a_file_is_told_with_its_place_and_the_nearest_key(tmp_path: Path) -> None:
    """An unknown key of the inventory is an error with file, line, column and the nearest known key."""
    (tmp_path / "inventory.yaml").write_text("version: 1\ndevices:\n  laptop:\n    knid: local\n")
    done = program("device", "list", folder=tmp_path, code=2)
    assert "inventory.yaml:4:5" in done.stderr
    assert "kind" in done.stderr


def test_an_unknown_recipe_or_selector_names_the_nearest(fleetmark: Command, tmp_path: Path) -> None:
    """A recipe nobody has and a device nobody has are refused before any work, with the nearest name."""
    (tmp_path / "inventory.yaml").write_text(LAPTOP)
    (tmp_path / "model.onnx").write_bytes(b"")
    assert "int8" in fleetmark("run", "model.onnx", "--recipe", "int9", code=2).err
    assert "onnxruntime" in fleetmark("run", "model.onnx", "--backend", "onnx", code=2).err
    assert "laptop" in fleetmark("run", "model.onnx", "-l", "lapdog", code=2).err
    assert not (tmp_path / "results").exists()


def test_a_model_is_given_its_task(fleetmark: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run MODEL --task` is the suite's `task`; a metric of one's own is found again by --resume in another folder."""
    (tmp_path / "inventory.yaml").write_text(LAPTOP)
    (tmp_path / "suite.yaml").write_text("version: 1\nmodels: {net: {source: model.onnx}}\n")
    (tmp_path / "model.onnx").write_bytes(b"")
    assert "--task is for a MODEL" in fleetmark("run", "suite.yaml", "--task", "anomaly", code=2).err
    assert "did you mean" in fleetmark("run", "model.onnx", "--task", "anomoly", code=2).err
    monkeypatch.chdir(tmp_path)
    for given, task in (("anomaly", "anomaly"), ("python:own:score", f"python:{tmp_path / 'own.py'}:score")):
        asked = run._ask(Path("model.onnx"), None, Path("inventory.yaml"), None, None)
        request = run._request({**asked, "task": given}, None)
        assert [model.task for model in request.suite.models.values()] == [task]
        assert request.document["task"] == task
        assert run._request(dict(request.document), None).suite == request.suite


def test_nothing_selected_has_its_own_code(fleetmark: Command, tmp_path: Path) -> None:
    """Selectors that leave no device end with 5."""
    (tmp_path / "inventory.yaml").write_text(LAPTOP)
    (tmp_path / "model.onnx").write_bytes(b"")
    fleetmark("run", "model.onnx", "-l", "!laptop", code=5)


def test_the_plan_gives_every_cell_and_the_reason_of_those_left_out(fleetmark: Command, tmp_path: Path) -> None:
    """`plan` shows cells of a backend that the model does not fit with the reason; JSON and table agree on their number."""
    (tmp_path / "inventory.yaml").write_text(LAPTOP)
    suite = "version: 1\nmodels:\n  net: {source: net.tflite}\nrecipes: [fp32, int8]\ndevices: [laptop]\nbackends: [onnxruntime, tflite]\n"
    (tmp_path / "suite.yaml").write_text(suite)
    plan = json.loads(fleetmark("plan", "suite.yaml", "--json").out)["plan"]
    assert [cell["backend"] for cell in plan["cells"] if cell["left out"]] == ["onnxruntime", "onnxruntime"]
    assert plan["estimated_s"] > 0
    table = fleetmark("plan", "suite.yaml")
    assert table.out.count("convert_fail") == 2
    assert "4 cells, 2 of them left out" in table.err


def test_results_can_be_piped_to_a_reader_that_stops(tmp_path: Path) -> None:
    """`fleetmark ... | head -1` ends quietly."""
    (tmp_path / "inventory.yaml").write_text(LAPTOP)
    line = f"set -o pipefail; '{FLEETMARK}' device list --json | true"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
