"""fleetmark compress, as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compress_models import EXAMPLE

from agent.schema import Artifact, load

FLOOR = "version: 1\nname: careless\nsteps: [{lowrank: {ratio: 0.8}}]\naccuracy_drop_pp: 1\n"


@pytest.fixture
def fleetmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The program in an empty folder, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "controller.cli", "compress", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    return run


def test_artifacts_are_written_with_their_manifest(fleetmark, tmp_path: Path) -> None:
    """Each recipe in each format: files as the manifest has them, figures in the table, the same in JSON; again it is the same."""
    words = (EXAMPLE / "suite.yaml", "-r", "fp16", "-r", "int8", "-f", "onnx", "-f", "tflite", "-o", "out")
    done = fleetmark(*words, "--json")
    assert done.returncode == 0, done.stderr
    variants = json.loads(done.stdout)["variants"]
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
    assert table.returncode == 0
    assert f"{variants[2]['size_bytes']:,}" in table.stdout
    assert "0.925" in table.stdout
    assert not list((tmp_path / "out").rglob(".*"))


def test_what_loses_more_than_its_floor_is_not_written_unless_asked(fleetmark, tmp_path: Path) -> None:
    """An artifact below its recipe's floor is told with its reason and left out; --keep-all writes it with that reason."""
    Path("careless.yaml").write_text(FLOOR)
    words = (EXAMPLE / "suite.yaml", "-r", tmp_path / "careless.yaml", "-o", "out")
    refused = fleetmark(*words, "--json")
    assert refused.returncode == 3
    assert [one["fault"]["code"] for one in json.loads(refused.stdout)["variants"]] == ["accuracy_floor"]
    assert "accuracy_floor: careless loses" in refused.stderr
    assert not Path("out").exists()
    kept = fleetmark(*words, "--keep-all")
    assert kept.returncode == 0, kept.stderr
    manifest = json.loads(next(Path("out").rglob("manifest.json")).read_text())
    assert manifest["refusal"]["code"] == "accuracy_floor"
    assert manifest["accuracy"] < manifest["reference_accuracy"] - 0.01


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing.onnx",), "there is no"),
        (("nothing.yaml",), "no such file"),
        (("python:x",), "python:package.module:factory"),
        ((EXAMPLE / "model.onnx", "-r", "in8"), "did you mean 'int8'"),
        ((EXAMPLE / "model.onnx", "-f", "onx"), "did you mean `onnx`"),
        ((EXAMPLE / "suite.yaml", "--data", "x.npz"), "--data is for a MODEL"),
        ((EXAMPLE / "model.onnx", "--task", "guess"), "no task is called"),
        ((EXAMPLE / "model.onnx", "--trials", "3"), "--trials is for a search"),
        ((EXAMPLE / "model.onnx", "-l", "pi"), "inventory.yaml"),
        ((EXAMPLE / "model.onnx", "-o", EXAMPLE / "model.onnx" / "below"), "model.onnx is a file"),
    ],
)
def test_mistakes_are_named_with_the_way_out(fleetmark, words, said: str) -> None:
    """One line that says what is wrong, an exit code that is not 0, and nothing written."""
    done = fleetmark(*words)
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("artifacts").exists()


def test_the_table_names_the_metric_of_the_task(fleetmark) -> None:
    """An embedding is scored by ROC-AUC, and the heading says so."""
    with np.load(EXAMPLE / "data.npz", allow_pickle=False) as arrays:
        np.savez("few.npz", eval_image=arrays["eval_image"][:40], eval_labels=arrays["eval_labels"][:40])
    done = fleetmark(EXAMPLE / "model.onnx", "--data", "few.npz", "--task", "embedding", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "ROC-AUC (pp)" in done.stdout
    assert "accuracy" not in done.stdout


def test_what_is_not_ours_stays(fleetmark, tmp_path: Path) -> None:
    """A file that somebody put beside an artifact is not lost: the artifact is not written, and the way out is told."""
    words = (EXAMPLE / "model.onnx", "-r", "fp16", "-o", "out")
    assert fleetmark(*words).returncode == 0
    folder = tmp_path / "out" / "model" / "fp16" / "onnx"
    (folder / "notes.txt").write_text("mine")
    again = fleetmark(*words)
    assert again.returncode == 2
    assert "holds notes.txt" in again.stderr
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    assert fleetmark(*words).returncode == 0


def test_a_name_stays_in_the_output_folder(fleetmark, tmp_path: Path) -> None:
    """A model called `...onnx` or `my model.onnx` has a folder of its own below --output."""
    for name, folder in (("...onnx", "model"), ("my model.onnx", "my_model")):
        (tmp_path / name).write_bytes((EXAMPLE / "model.onnx").read_bytes())
        assert fleetmark(tmp_path / name, "-o", "out").returncode == 0
        assert (tmp_path / "out" / folder / "fp32" / "onnx" / "model.onnx").is_file()
