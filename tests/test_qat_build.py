"""Quantisation-aware training through whole builds: what a runtime runs is what was trained."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from compress_models import EXAMPLE, TO_NHWC, context, run_model
from onnx import numpy_helper
from torch_models import fashion, lenet, lenet_source, session

from compress import inspect, recipes, tflite_model, training
from compress.build import Source, build
from compress.recipes import Recipe, Step
from compress.records import Variant
from compress.techniques.qat import QatParams
from compress.training import export, quantisation
from compress.training.session import outputs
from compress.verify import drift

QAT = Step("qat", {"epochs": 1})
FOUR = Step("qat", {"weight_bits": 4, "activation_bits": 4, "weight_method": "minmax", "granularity": "block", "epochs": 1})


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the torch source's weights, and one cache for all builds: each recipe trains once."""
    return tmp_path_factory.mktemp("qat")


def built(steps: tuple[Step, ...], kind: str, work: Path) -> tuple[Variant, Path]:
    """The variant, and the float ONNX that its training gave."""
    torch_source, cache = lenet_source(work), context(work).cache
    exported = training.exported(torch_source, fashion(), cache)
    source = Source("lenet", exported, EXAMPLE / "model.tflite" if kind == "tflite" else None, torch_source)
    made = build(source, Recipe("qat", steps), kind, fashion(), context(work))
    return made, training.trained(torch_source, steps[:1], fashion(), cache).path


def weights_of(path: Path) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def main_file(made: Variant) -> Path:
    return made.folder / made.artifact.files[0].name


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_int8_artifacts_hold_the_trained_grid(kind: str, work: Path) -> None:
    """The post-training quantiser derives the trained scales again: int8 times scale is the trained weight, in every layer of TFLite and in
    the convolutions of ONNX, whose dense layers it divides finer; the artifact scores as the float model does."""
    made, trained = built((QAT, Step("int8-static")), kind, work)
    wanted = {name: np.sort(one.ravel()) for name, one in weights_of(trained).items() if one.ndim > 1}
    found = tflite_weights(main_file(made)) if kind == "tflite" else onnx_weights(main_file(made))
    for name in wanted if kind == "tflite" else ("conv1.weight", "conv2.weight"):
        assert any(np.allclose(values, wanted[name], rtol=1e-5, atol=0) for values in found if values.size == wanted[name].size)
    assert made.manifest["size_bytes"] < 0.35 * made.manifest["float_size_bytes"]
    assert made.manifest["accuracy"] > 0.88
    assert made.manifest["steps"]["qat"]["layers"]["fc1"]["granularity"] == "tensor"


def onnx_weights(path: Path) -> list[Any]:
    tensors = weights_of(path)
    stored = {name.removesuffix("_quantized"): one for name, one in tensors.items() if one.dtype == np.int8 and one.ndim > 1}
    scaled = {name: tensors[f"{name}_scale"].reshape(-1, *[1] * (one.ndim - 1)) for name, one in stored.items()}
    return [np.sort((one * scaled[name]).ravel()) for name, one in stored.items()]


def tflite_weights(path: Path) -> list[Any]:
    model = tflite_model.read(path)
    found = []
    for tensor in model.subgraphs[0].tensors:
        values = tflite_model.constant(model, tensor)
        if values is not None and tflite_model.type_name(tensor) == "INT8" and len(tensor.shape) > 1:
            scale, axis = tensor.quantization.scale, tensor.quantization.quantizedDimension
            shape = [-1 if at == axis else 1 for at in range(len(tensor.shape))]
            found.append(np.sort((values.view(np.int8).reshape(tensor.shape) * np.float32(scale).reshape(shape)).ravel()))
    return found


def test_four_bits_in_onnx_are_what_was_trained(work: Path) -> None:
    """Four-bit weights with a scale for each block and four-bit activations: the int4 file gives the outputs of the trained model."""
    made, trained = built((FOUR, Step("weight-only", {"dtype": "int4"})), "onnx", work)
    (wanted,), (found,) = (run_model(path, "onnx", fashion().eval_feeds).values() for path in (trained, main_file(made)))
    assert drift(wanted, found).sqnr_db > 60
    assert made.manifest["accuracy"] > 0.8
    assert made.manifest["size_bytes"] < made.manifest["float_size_bytes"] / 5
    assert any("4 bits are emulated in float" in note for note in made.manifest["notes"])
    rows = weights_of(trained)["fc2.weight"]
    assert max(len(np.unique(row[at : at + 32])) for row in rows for at in range(0, 120, 32)) <= 15


def test_four_bit_activations_in_tflite_are_what_was_trained(work: Path) -> None:
    """Converted to TFLite, Div, Clip, Round and Mul do the same there; half-precision weights move a few activations by a step."""
    made, trained = built((FOUR, Step("float16")), "tflite", work)
    (wanted,) = run_model(trained, "onnx", fashion().eval_feeds).values()
    (spec,) = inspect.inputs(main_file(made), "tflite")
    images = {spec.name: fashion().eval_feeds["image"].transpose(TO_NHWC)}
    (found,) = run_model(main_file(made), "tflite", images).values()
    assert drift(wanted, found).sqnr_db > 20
    assert (wanted.argmax(1) == found.argmax(1)).mean() > 0.97


@pytest.mark.parametrize(
    "params",
    [
        {"weight_bits": 4, "activation_bits": 4, "activation_method": "pact"},
        {"weight_bits": 2, "activation_bits": 6, "symmetric_activations": True},
        {"weight_bits": 1, "activation_bits": 1},
    ],
)
def test_low_bit_activations_in_onnxruntime(params: dict[str, Any], tmp_path: Path) -> None:
    """The exported model gives torch's outputs: its activations are rounded by plain operators."""
    model = lenet()
    here = session(model)
    quantisation.train(model, QatParams(epochs=0, **params), here)
    export.to_onnx(model, here.example(), tmp_path / "model.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert operators <= {
        "Conv",
        "Gemm",
        "Relu",
        "MaxPool",
        "Flatten",
        "Constant",
        "Div",
        "Clip",
        "Round",
        "Mul",
        "Where",
        "Less",
        "Not",
    } | {
        "GreaterOrEqual",
        "Identity",
    }
    assert {"Clip", "Round"} <= operators
    feeds = {"image": here.held_out.inputs[0][:100].numpy()}
    (found,) = run_model(tmp_path / "model.onnx", "onnx", feeds).values()
    wanted = outputs(model, here.held_out)[:100]
    torch.testing.assert_close(torch.tensor(found), wanted, rtol=1e-3, atol=1e-3)


def test_signed_one_bit_activations_in_onnxruntime(tmp_path: Path) -> None:
    """Inputs of both signs are -a or a in the exported model too."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 32), torch.nn.Linear(32, 16), torch.nn.Linear(16, 10))
    here = session(model)
    quantisation.train(model, QatParams(weight_bits=1, activation_bits=1, epochs=0), here)
    export.to_onnx(model, here.example(), tmp_path / "model.onnx")
    assert "Where" in {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    feeds = {"image": here.held_out.inputs[0][:100].numpy()}
    (found,) = run_model(tmp_path / "model.onnx", "onnx", feeds).values()
    torch.testing.assert_close(torch.tensor(found), outputs(model, here.held_out)[:100], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["qat-int8", "qat-int4", "w4a4", "binary", "ternary", "ternary-coded"])
def test_recipes_ship(name: str) -> None:
    """The named recipes train first, and their parameters are taken."""
    assert recipes.get(name).steps[0].technique == "qat"
