"""fleetmark compress, as it is typed."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from compress_models import EXAMPLE
from device_commands import Command, typed

from agent.schema import Artifact, load

FLOOR = "version: 1\nname: careless\nsteps: [{lowrank: {ratio: 0.8}}]\naccuracy_drop_pp: 1\n"


@pytest.fixture
def fleetmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command in an empty folder, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return functools.partial(typed, monkeypatch, capfd, "compress")


def test_artifacts_are_written_with_their_manifest(fleetmark, tmp_path: Path) -> None:
    """Each recipe in each format: files as the manifest has them, figures in the table, the same in JSON; again it is the same."""
    words = (EXAMPLE / "suite.yaml", "-r", "fp16", "-r", "int8", "-f", "onnx", "-f", "tflite", "-o", "out")
    variants = json.loads(fleetmark(*words, "--json").out)["variants"]
    assert [(one["recipe"], one["format"]) for one in variants] == [(r, f) for r in ("fp16", "int8") for f in ("onnx", "tflite")]
    for one in variants:
        folder = tmp_path / one["path"]
        manifest = json.loads((folder / "manifest.json").read_text())
        artifact = load(Artifact, manifest["artifact"])
        assert {file.name: file.size_bytes for file in artifact.files} | {"manifest.json": (folder / "manifest.json").stat().st_size} == {
            path.name: path.stat().st_size for path in folder.iterdir()
        }
        assert one["macs"] == 416_520  # 28*28*6*25 + 10*10*16*150 + 400*120 + 120*84 + 84*10
        assert one["parameters"] == 61_706
    table = fleetmark(*words)
    assert f"{variants[2]['size_bytes']:,}" in table.out
    assert "0.925" in table.out
    assert not list((tmp_path / "out").rglob(".*"))


def test_what_loses_more_than_its_floor_is_not_written_unless_asked(fleetmark, tmp_path: Path) -> None:
    """An artifact below its recipe's floor is told with its reason and left out; --keep-all writes it with that reason."""
    Path("careless.yaml").write_text(FLOOR)
    words = (EXAMPLE / "suite.yaml", "-r", tmp_path / "careless.yaml", "-o", "out")
    refused = fleetmark(*words, "--json", code=3)
    assert [one["fault"]["code"] for one in json.loads(refused.out)["variants"]] == ["accuracy_floor"]
    assert "accuracy_floor: careless loses" in refused.err
    assert not Path("out").exists()
    fleetmark(*words, "--keep-all")
    manifest = json.loads(next(Path("out").rglob("manifest.json")).read_text())
    assert manifest["refusal"]["code"] == "accuracy_floor"
    assert manifest["accuracy"] < manifest["reference_accuracy"] - 0.01


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nothing.onnx",), 3, "there is no"),
        (("nothing.yaml",), 2, "no such file"),
        (("python:x",), 2, "python:package.module:factory"),
        ((EXAMPLE / "model.onnx", "-r", "in8"), 2, "did you mean 'int8'"),
        ((EXAMPLE / "model.onnx", "-f", "onx"), 2, "did you mean `onnx`"),
        ((EXAMPLE / "suite.yaml", "--data", "x.npz"), 2, "--data is for a MODEL"),
        ((EXAMPLE / "model.onnx", "--task", "guess"), 2, "no task is called"),
        ((EXAMPLE / "model.onnx", "--trials", "3"), 2, "--trials is for a search"),
        ((EXAMPLE / "model.onnx", "-l", "pi"), 2, "inventory.yaml"),
        ((EXAMPLE / "model.onnx", "-o", EXAMPLE / "model.onnx" / "below"), 2, "model.onnx is a file"),
    ],
)
def test_mistakes_are_named_with_the_way_out(fleetmark, words, code: int, said: str) -> None:
    """One line that says what is wrong, its exit code, and nothing written."""
    assert said in fleetmark(*words, code=code).err
    assert not Path("artifacts").exists()


def test_the_table_names_the_metric_of_the_task(fleetmark) -> None:
    """An embedding is scored by ROC-AUC, and the heading says so."""
    with np.load(EXAMPLE / "data.npz", allow_pickle=False) as arrays:
        np.savez("few.npz", eval_image=arrays["eval_image"][:40], eval_labels=arrays["eval_labels"][:40])
    done = fleetmark(EXAMPLE / "model.onnx", "--data", "few.npz", "--task", "embedding", "-o", "out")
    assert "ROC-AUC (pp)" in done.out
    assert "accuracy" not in done.out


def test_what_is_not_ours_stays(fleetmark, tmp_path: Path) -> None:
    """A file that somebody put beside an artifact is not lost: the artifact is not written, and the way out is told."""
    words = (EXAMPLE / "model.onnx", "-r", "fp16", "-o", "out")
    fleetmark(*words)
    folder = tmp_path / "out" / "model" / "fp16" / "onnx"
    (folder / "notes.txt").write_text("mine")
    assert "holds notes.txt" in fleetmark(*words, code=2).err
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    fleetmark(*words)


def test_a_name_stays_in_the_output_folder(fleetmark, tmp_path: Path) -> None:
    """A model called `...onnx` or `my model.onnx` has a folder of its own below --output."""
    for name, folder in (("...onnx", "model"), ("my model.onnx", "my_model")):
        (tmp_path / name).write_bytes((EXAMPLE / "model.onnx").read_bytes())
        fleetmark(tmp_path / name, "-o", "out")
        assert (tmp_path / "out" / folder / "fp32" / "onnx" / "model.onnx").is_file()
