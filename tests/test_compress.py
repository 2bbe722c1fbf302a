"""Variants: what a build makes, keeps, checks and refuses."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compress_models import SIDE, TO_NHWC, context, example, images, random_data, run_model, write_onnx, write_tflite

from agent.schema import FaultError, fingerprint
from compress import recipes
from compress.build import Context, Source, build
from compress.quiet import quiet
from compress.techniques import find

FORMATS = ("onnx", "tflite", "openvino")
EVERYWHERE = ("fp32", "fp16", "int8-dynamic", "int8")
LARGEST_SHARE = {"fp16": 0.56, "int8-dynamic": 0.37, "int8": 0.37}  # of the float model's bytes


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The recipes that every format has, of the example, built once."""
    folder = tmp_path_factory.mktemp("shipped")
    source, data = example()
    return {(kind, name): build(source, recipes.get(name), kind, data, context(folder)) for kind in FORMATS for name in EVERYWHERE}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_recipe_in_every_format_keeps_the_examples_accuracy(shipped, kind, name):
    """Within one percentage point of the float model, with outputs at least 30 dB above the error."""
    manifest = shipped[kind, name].manifest
    assert manifest["reference_accuracy"] > 0.85
    assert abs(manifest["accuracy"] - manifest["reference_accuracy"]) <= 0.01
    assert manifest["drift"]["sqnr_db"] > 30
    assert manifest["samples"] == 200


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", sorted(LARGEST_SHARE))
def test_compression_makes_the_example_smaller(shipped, kind, name):
    """fp16 about halves it, int8 brings it to little more than a quarter (IR has its graph in XML beside that)."""
    manifest = shipped[kind, name].manifest
    assert manifest["size_bytes"] < LARGEST_SHARE[name] * manifest["float_size_bytes"]
    assert manifest["shrank"] is True


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_fp32_is_the_source_file_itself(shipped, kind):
    """Byte for byte, so its sha256 is that of what the user has."""
    source, _ = example()
    path = source.onnx if kind == "onnx" else source.tflite
    assert shipped[kind, "fp32"].artifact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", FORMATS)
def test_the_manifest_tells_where_an_artifact_comes_from(shipped, kind):
    """Parents, recipe, tools, parameters and samples, and files that are those on disk."""
    variant = shipped[kind, "int8"]
    manifest = json.loads((variant.folder / "manifest.json").read_text())
    assert manifest == variant.manifest
    assert manifest["recipe"]["name"] == "int8"
    assert [step["technique"] for step in manifest["recipe"]["steps"]] == ["int8-static"]
    assert manifest["parents"][0]["sha256"] == shipped["tflite" if kind == "tflite" else "onnx", "fp32"].artifact.sha256
    assert manifest["parameters"] == 61706
    assert manifest["calibration_samples"] == 50
    assert "fleetmark" in manifest["tools"]
    sizes = {file.name: file.size_bytes for file in variant.artifact.files}
    assert sizes == {path.name: path.stat().st_size for path in variant.folder.iterdir() if path.name != "manifest.json"}


def test_an_artifact_of_two_files_is_named_by_the_fingerprint_of_both(shipped):
    """The main file comes first."""
    artifact = shipped["openvino", "fp32"].artifact
    assert [file.name for file in artifact.files] == ["model.xml", "model.bin"]
    assert artifact.sha256 == fingerprint(artifact.files)


@pytest.mark.parametrize("kind", FORMATS)
def test_builds_are_reproducible(shipped, kind, tmp_path):
    """Another cache gives the same bytes, so devices that have them get nothing new."""
    source, data = example()
    assert build(source, recipes.get("int8"), kind, data, context(tmp_path)).artifact == shipped[kind, "int8"].artifact


class CountingContext:
    """A context that keeps what was run."""

    def __init__(self, folder):
        self.runs = []
        self.context = Context(folder / "cache", self.run)

    def run(self, path, kind, feeds):
        self.runs.append(path)
        return run_model(path, kind, feeds)

    def build(self, source, name="int8", kind="onnx", data=None):
        return build(source, recipes.get(name), kind, data or random_data(), self.context)


def test_the_second_build_runs_nothing(tmp_path):
    """A hit gives the same variant without a single inference; the original is run once for all recipes."""
    source, counting = Source("small", write_onnx(tmp_path / "m.onnx"), None), CountingContext(tmp_path)
    first = counting.build(source)
    assert len(counting.runs) == 2
    assert counting.build(source) == first
    assert len(counting.runs) == 2
    counting.build(source, "fp16")
    assert len(counting.runs) == 3


def test_what_changes_the_result_changes_the_key(tmp_path):
    """Other weights or other calibration samples are built anew; another name of the same model is not."""
    path, counting = write_onnx(tmp_path / "m.onnx"), CountingContext(tmp_path)
    first = counting.build(Source("small", path, None))
    assert counting.build(Source("small", path.rename(tmp_path / "n.onnx"), None)).folder == first.folder
    other_samples = replace(random_data(), calib_feeds={"image": images(40, seed=9)})
    other_model = write_onnx(tmp_path / "o.onnx", opset=14)
    assert counting.build(Source("small", tmp_path / "n.onnx", None), data=other_samples).folder != first.folder
    assert counting.build(Source("small", other_model, None)).folder != first.folder


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_a_damaged_artifact_is_built_again(tmp_path, damage):
    """A hit is only one while its files have the manifest's sha256."""
    source, counting = Source("small", write_onnx(tmp_path / "m.onnx"), None), CountingContext(tmp_path)
    first = counting.build(source)
    (first.folder / "model.onnx").write_bytes(damage)
    assert counting.build(source).artifact == first.artifact
    assert (first.folder / "model.onnx").stat().st_size == first.artifact.files[0].size_bytes


def kept(folder):
    return [path.name for kind in ("variants", "references") for path in (folder / "cache" / kind).glob("*") if path.suffix != ".lock"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, FaultError("crash", "the runtime died")])
@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_build_leaves_nothing(tmp_path, error, at):
    """Stopped in the original's run or in the artifact's, no variant is there and no half of one."""
    counting = CountingContext(tmp_path)
    source = Source("small", write_onnx(tmp_path / "m.onnx"), None)

    def run(path, kind, feeds):
        outputs = counting.run(path, kind, feeds)
        if len(counting.runs) == at:
            raise error
        return outputs

    with pytest.raises((KeyboardInterrupt, FaultError)):
        build(source, recipes.get("fp16"), "onnx", random_data(), Context(tmp_path / "cache", run))
    assert len(kept(tmp_path)) == at - 1  # the reference, once it was made
    assert not list((tmp_path / "cache" / "variants").glob("*.partial"))


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from compress_models import context, random_data, run_model
from compress.build import Context, Source, build
from compress.recipes import get

def killed(path, kind, feeds):
    if path.parent.name != "original":
        os.kill(os.getpid(), signal.SIGKILL)
    return run_model(path, kind, feeds)

folder, recipe, kind, how = Path(sys.argv[2]), *sys.argv[3:]
sys.path.insert(0, str(folder))
run = killed if how == "killed" else run_model
build(Source("small", folder / "m.onnx", None), get(recipe), kind, random_data(), Context(folder / "cache", run))
"""


def build_elsewhere(folder, recipe, kind, how):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder), recipe, kind, how]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False)


def test_a_killed_build_is_cleared_away_by_the_next(tmp_path):
    """SIGKILL leaves a partial folder, which is no hit; the next build removes it and makes a whole one."""
    write_onnx(tmp_path / "m.onnx")
    assert build_elsewhere(tmp_path, "fp16", "onnx", "killed").returncode == -signal.SIGKILL
    assert list((tmp_path / "cache" / "variants").glob("*.partial"))
    counting = CountingContext(tmp_path)
    variant = counting.build(Source("small", tmp_path / "m.onnx", None), "fp16")
    assert [path.parent for path in counting.runs] == [variant.folder.with_suffix(".partial")]
    assert not list((tmp_path / "cache" / "variants").glob("*.partial"))


def test_libraries_say_nothing_and_call_nobody(tmp_path):
    """nncf and OpenVINO, the most talkative, leave stdout and stderr empty, and their telemetry is not imported."""
    write_onnx(tmp_path / "m.onnx")
    (tmp_path / "openvino_telemetry.py").write_text("open(__file__ + '.imported', 'w').close()")
    done = build_elsewhere(tmp_path, "int8", "openvino", "whole")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "openvino_telemetry.py.imported").exists()


def test_quiet_keeps_every_way_of_writing_from_both_streams(capfd):
    """Native writes and warnings vanish inside, and only inside."""
    with quiet():
        os.write(1, b"native")
        os.write(2, b"native")
        warnings.warn("warned", stacklevel=1)
    os.write(1, b"after")
    assert capfd.readouterr() == ("after", "")


def test_builds_of_the_same_variant_at_once_make_it_once(tmp_path):
    """Four at a time: one builds, the others wait and get the same."""
    source, counting = Source("small", write_onnx(tmp_path / "m.onnx"), None), CountingContext(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        variants = list(pool.map(lambda _: counting.build(source, "fp16"), range(4)))
    assert all(variant == variants[0] for variant in variants)
    assert len(counting.runs) == 2


@pytest.mark.parametrize("broken", [np.nan, 0.0])
def test_an_artifact_that_gives_something_else_is_refused(tmp_path, broken):
    """NaN or zeros where the float model has logits: `verification`, and the variant is not kept."""

    def run(path, kind, feeds):
        outputs = run_model(path, kind, feeds)
        return outputs if path.parent.name == "original" else {name: array * broken for name, array in outputs.items()}

    source = Source("small", write_onnx(tmp_path / "m.onnx"), None)
    with pytest.raises(FaultError, match=r"m\.onnx") as caught:
        build(source, recipes.get("int8"), "onnx", random_data(), Context(tmp_path / "cache", run))
    assert caught.value.fault.code == "verification"
    assert len(kept(tmp_path)) == 1  # the reference


@pytest.mark.parametrize("at", [0, 39])
@pytest.mark.parametrize("kind", FORMATS)
def test_static_int8_looks_at_every_calibration_sample(tmp_path, kind, at):
    """A sample ten times as large as the rest, first or last, widens the ranges until it passes unclipped."""
    calibration = images(40, seed=2)
    calibration[at] *= 10
    data = replace(random_data(), calib_feeds={"image": calibration})
    source = Source("small", write_onnx(tmp_path / "m.onnx"), write_tflite(tmp_path / "m.tflite"))
    variant = build(source, recipes.get("int8"), kind, data, context(tmp_path))
    outlier = calibration[at : at + 1]
    feeds = {"image": outlier.transpose(TO_NHWC) if kind == "tflite" else outlier}
    original = source.tflite if kind == "tflite" else source.onnx
    expected = run_model(original, "tflite" if kind == "tflite" else "onnx", feeds)["logits"]
    got = run_model(variant.folder / variant.artifact.files[0].name, kind, feeds)["logits"]
    assert np.linalg.norm(got - expected) < 0.05 * np.linalg.norm(expected)


def test_an_unknown_recipe_names_the_nearest():
    """The message is what a person needs to mend the suite."""
    with pytest.raises(recipes.UnknownRecipeError, match="did you mean 'int8-dynamic'"):
        recipes.get("int8-dynmic")


def test_a_technique_refuses_parameters_it_does_not_take():
    """A misspelt parameter is an error before any work, and so is a technique that nobody has."""
    with pytest.raises(ValueError, match="no parameter 'bits'"):
        find("float16", "onnx").check({"bits": 8})
    with pytest.raises(FaultError, match="no technique 'float61' for onnx"):
        find("float61", "onnx")


def fault_of(source, kind="onnx", name="int8", data=None, folder=None):
    with pytest.raises(FaultError) as caught:
        build(source, recipes.get(name), kind, data or random_data(), context(folder))
    return caught.value.fault


def test_a_model_without_the_format_says_what_to_give(tmp_path):
    """No .tflite for TFLite and no .onnx for OpenVINO are `convert_fail` with the key of the suite."""
    no_tflite = fault_of(Source("small", write_onnx(tmp_path / "m.onnx"), None), "tflite", folder=tmp_path)
    assert (no_tflite.code, "`tflite:`" in no_tflite.next) == ("convert_fail", True)
    no_onnx = fault_of(Source("small", None, write_tflite(tmp_path / "m.tflite")), "openvino", folder=tmp_path)
    assert (no_onnx.code, "`source:`" in no_onnx.next) == ("convert_fail", True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eval_feeds": {"image": images(4)[:, :, :-1]}}, "[4, 1, 11, 12]"),
        ({"calib_feeds": {"image": images(4)[:, 0]}}, "[4, 12, 12]"),
        ({"eval_feeds": {"image": images(4), "other": images(4)}, "calib_feeds": {"other": images(4), "third": images(4)}}, "'image'"),
        ({"eval_feeds": {"image": images(4) * np.nan}}, "NaN"),
        ({"eval_feeds": {"image": images(0)}}, "0 evaluation samples"),
        ({"labels": np.zeros(3, np.uint8)}, "3 labels"),
        ({"calib_feeds": {}}, "no calibration samples"),
    ],
)
def test_data_that_does_not_fit_the_model_is_bad_data(tmp_path, changes, said):
    """The message gives the array and its shape, or what is missing."""
    fault = fault_of(Source("small", write_onnx(tmp_path / "m.onnx"), None), data=replace(random_data(), **changes), folder=tmp_path)
    assert fault.code == "bad_data"
    assert said in fault.message
    assert "\n" not in fault.message


def test_an_array_of_another_layout_than_tflites_is_bad_data(tmp_path):
    """Without the axes that transpose it, a channels-first array does not fit a channels-last model."""
    source = Source("small", None, write_tflite(tmp_path / "m.tflite"))
    fault = fault_of(source, "tflite", data=replace(random_data(), transpose={}), folder=tmp_path)
    assert (fault.code, str(["samples", SIDE, SIDE, 1]) in fault.message) == ("bad_data", True)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_or_missing_model_is_a_bad_model(tmp_path, kind):
    """Whatever the target format, the fault names the file."""
    path = write_tflite(tmp_path / "m.tflite") if kind == "tflite" else write_onnx(tmp_path / "m.onnx")
    source = Source("small", None if kind == "tflite" else path, path if kind == "tflite" else None)
    path.write_bytes(path.read_bytes()[:-1000])
    cut = fault_of(source, kind, folder=tmp_path)
    path.unlink()
    missing = fault_of(source, kind, folder=tmp_path)
    assert [cut.code, missing.code] == ["bad_model", "bad_model"]
    assert path.name in cut.message
    assert path.name in missing.message


def test_a_full_disk_is_a_fault(tmp_path):
    """ENOSPC from the file system becomes `disk_full`."""
    source = Source("small", write_onnx(tmp_path / "m.onnx"), None)

    def run(path, kind, feeds):
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(FaultError) as caught:
        build(source, recipes.get("fp32"), "onnx", random_data(), Context(tmp_path / "cache", run))
    assert caught.value.fault.code == "disk_full"
    assert kept(tmp_path) == []
