"""Recipes without training need no torch, and importing the compressor costs nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from compress_models import write_onnx, write_tflite

from agent.schema import FaultError
from compress import pipeline, recipes
from compress.techniques import TrainingTechnique

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "onnxruntime", "openvino", "nncf", "onnx", "litert_quantizer", "ai_edge_litert", "scipy", "tensorly", "optuna")

IMPORTS = f"""
import json, sys
import compress, compress.build, compress.stages, compress.recipes
from compress.techniques import implementations
implementations()
compress.recipes.get("int8")
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""

BUILDS = """
import sys
from pathlib import Path
sys.modules["torch"] = None
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
from compress_models import images, random_data
from agent.schema import FaultError
from compress.build import Context, Source, build
from compress.records import Samples
from compress.recipes import get
from controller.reference import run_model

folder, kind, names = Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
held_out = images(20, seed=5)
labels = run_model(folder / "m.onnx", "onnx", {"image": held_out})["logits"].argmax(axis=1)
data = replace(random_data(), held_out=Samples({"image": held_out}, labels))
source = Source("small", folder / "m.onnx", folder / "m.tflite")
for name in names:
    try:
        build(source, get(name), kind, data, Context(folder / "cache", run_model))
    except FaultError as error:
        assert error.fault.code == "unsupported_op", (name, error.fault)
    else:
        print(name)
"""


def untrained(kind):
    """The recipes that a source without a torch module can have in a format, conversions left out that need another Python."""
    found = []
    for name in recipes.names():
        try:
            stages = pipeline.plan(recipes.get(name), ["onnx", "tflite"], kind)
        except FaultError:
            continue
        formats = {stage.technique.format for stage in stages}
        if not (kind == "tflite" and "onnx" in formats):
            assert not any(isinstance(stage.technique, TrainingTechnique) for stage in stages)
            found.append(name)
    return found


def test_importing_the_compressor_loads_no_library():
    """Nor does finding every technique and reading the recipes: `fleetmark --help` pays for none of them."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("onnx", {"fp32", "fp16", "int8-dynamic", "int8", "int8-weights", "int4-weights", "lowrank", "lowrank-int8", "int16x8"}),
        ("tflite", {"fp32", "fp16", "int8-dynamic", "int8", "int8-weights", "int4-weights", "int16x8", "edgetpu"}),
        ("openvino", {"fp32", "fp16", "int8", "nf4-weights", "lowrank-int8", "int8-accuracy-control"}),
        ("tensorrt", {"fp32", "fp16", "int8", "tensorrt-int8", "lowrank-int8"}),
    ],
)
def test_every_recipe_without_training_is_built_where_there_is_no_torch(tmp_path, kind, least):
    """In a process that cannot import it."""
    write_onnx(tmp_path / "m.onnx")
    write_tflite(tmp_path / "m.tflite")
    command = [sys.executable, "-c", BUILDS, str(ROOT / "tests"), str(tmp_path), kind, *untrained(kind)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= least
