"""Deep Compression: weights that share few values, trained on, and the model that is read from the coded file."""
# torch and onnx are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from compress_models import context, example, random_data, write_onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch_models import fashion, lenet, lenet_source, session

from agent.schema import FaultError
from compress import coding, training
from compress.build import Source, build
from compress.recipes import Recipe, Step
from compress.techniques import Workspace, find
from compress.training import weight_sharing

CODED = Recipe("coded", (Step("deep-coding", {"conv_bits": 6, "fc_bits": 4}),))


def halved(model: nn.Module) -> nn.Module:
    """The module without the smaller half of each layer's weights."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.mul_(layer.weight.abs() > layer.weight.abs().median())
    return model


def test_a_centres_gradient_is_the_sum_of_its_weights() -> None:
    """Weights 1, 1, 2, 0 with gradients 1, 2, 3, 4: 3 for the centre 1, 3 for the centre 2, and zero has none to move it."""
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    with weight_sharing.shared(layer, 8, 2) as entries:
        (centres,) = layer.parameters()
        assert centres.tolist() == [1.0, 2.0]
        (layer.weight * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
        assert centres.grad is not None
        assert centres.grad.tolist() == [3.0, 3.0]
        centres.data -= 0.5
    assert entries == {"": 2}
    assert layer.weight.tolist() == [[0.5, 0.5], [1.5, 0.0]]


def test_training_moves_the_values_and_nothing_else() -> None:
    """After share-weights a pruned LeNet-5 has its zeros where they were, at most 16 values a layer, and fits at least as well."""
    model, here = halved(lenet()), session(lenet())
    before = {name: layer.weight == 0 for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    technique: Any = find("share-weights", "torch")
    technique.train(model, technique.check({"conv_bits": 5, "fc_bits": 2, "epochs": 1}), here)
    for name, zeros in before.items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        assert torch.equal(weight == 0, zeros)
        assert len(weight.unique()) <= 4 + 1
    told: Any = here.told["step"]
    assert told["values"]["fc1"] == 4
    assert max(told["held_out"]) > told["clustered"] - 0.01


def test_the_paper_trains_the_codebook_for_a_reason() -> None:
    """With two bits a layer training the centres makes the training loss smaller than k-means alone does."""
    models = {epochs: halved(lenet()) for epochs in (0, 1)}
    losses: dict[int, float] = {}
    technique: Any = find("share-weights", "torch")
    for epochs, model in models.items():
        here = session(lenet())
        technique.train(model, technique.check({"conv_bits": 2, "fc_bits": 2, "epochs": epochs}), here)
        with torch.inference_mode():
            losses[epochs] = float(here.loss(model(*here.train.inputs), here.train))
    assert losses[1] < losses[0]


def test_there_must_be_a_layer() -> None:
    """A module without linear or convolution layers is refused."""
    with pytest.raises(FaultError, match="no linear or convolution"), weight_sharing.shared(nn.Sequential(nn.ReLU()), 8, 5):
        pass


def test_an_onnx_model_is_coded_without_training(tmp_path: Path) -> None:
    """The example in a tenth of its bytes or so; what is verified is the model that was read from the file."""
    source, data = example()
    made = build(source, CODED, "onnx", data, context(tmp_path))
    told = made.manifest["steps"]["deep-coding"]
    assert (made.folder / told["file"]).stat().st_size == told["file_bytes"]
    assert 7 < told["ratio_of_file"] < 10
    assert told["ratio_of_weights"] == pytest.approx(4 * 61_706 / told["weights_bytes"], abs=0.01)
    assert told["weights_bytes"] + told["graph_bytes"] < told["file_bytes"] < told["weights_bytes"] + told["graph_bytes"] + 20
    assert made.manifest["accuracy"] > made.manifest["reference_accuracy"] - 0.02
    weights = {one.name: numpy_helper.to_array(one) for one in onnx.load(made.folder / "model.onnx").graph.initializer}
    assert len(np.unique(weights["fc1.weight"])) <= 16 + 1


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_it_is_the_coded_file_that_has_to_be_smaller(tmp_path: Path, kind: str) -> None:
    """The model that runs has the float model's bytes; it is shipped for the coded file, a quarter of them and less, beside it."""
    source = Source("small", write_onnx(tmp_path / "m.onnx"), None)
    made = build(source, CODED, kind, random_data(), context(tmp_path))
    coded_bytes = made.manifest["steps"]["deep-coding"]["file_bytes"]
    assert 4 * coded_bytes < made.manifest["float_size_bytes"] <= made.manifest["size_bytes"]
    assert (made.folder / "model.fmdc").stat().st_size == coded_bytes
    assert made.refusal is None


def test_a_technique_that_stands_there_twice_is_told_twice(tmp_path: Path) -> None:
    """Each step's figures are under its technique and its place; one that stands there once has its technique's name alone."""
    path = write_onnx(tmp_path / "m.onnx")
    steps = (Step("deep-coding", {"fc_bits": 5}), Step("sparsify", {"sparsity": 0.2}), Step("deep-coding", {"fc_bits": 4}))
    told = build(Source("small", path, None), Recipe("twice", steps), "onnx", random_data(), context(tmp_path)).manifest["steps"]
    first, second = (told[f"deep-coding {place}"]["layers"]["fc1_w"]["values"] for place in (1, 3))
    assert second <= 16 < first <= 32
    assert set(told) == {"deep-coding 1", "sparsify", "deep-coding 3"}


def test_steps_of_training_are_told_by_their_place_in_the_recipe(tmp_path: Path) -> None:
    """Also where a technique comes again once the module is an ONNX model."""
    torch_source, data = lenet_source(tmp_path), fashion()
    once, coded, again = Step("sparsify", {"sparsity": 0.3, "epochs": 0}), Step("deep-coding"), Step("sparsify", {"sparsity": 0.5})
    source = Source("lenet", training.exported(torch_source, data, tmp_path), None, torch_source)
    made = build(source, Recipe("again", (once, coded, again)), "onnx", data, context(tmp_path))
    assert set(made.manifest["steps"]) == {"sparsify 1", "deep-coding", "sparsify 3"}


def test_the_file_holds_the_values_that_were_trained(tmp_path: Path) -> None:
    """Trained values reach the coded file unchanged: the artifact has the exported module's weights."""
    torch_source, data = lenet_source(tmp_path), fashion()
    sharing = Step("share-weights", {"conv_bits": 6, "fc_bits": 4, "epochs": 1})
    recipe = Recipe("trained", (sharing, Step("deep-coding", {"conv_bits": 6, "fc_bits": 4, "values": "float32"})))
    source = Source("lenet", training.exported(torch_source, data, tmp_path), None, torch_source)
    made = build(source, recipe, "onnx", data, context(tmp_path))
    trained = onnx.load(training.trained(torch_source, [sharing], data, context(tmp_path).cache).path)
    for tensor, theirs in zip(onnx.load(made.folder / "model.onnx").graph.initializer, trained.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(theirs))


def test_the_coded_file_is_what_it_is_told_to_be(tmp_path: Path) -> None:
    """The file beside the result has the size and the hash that are told, holds the result, and is the same each time."""
    source, _ = example()
    assert source.onnx is not None
    technique: Any = find("deep-coding", "onnx")
    applied = technique.apply(source.onnx, technique.check({}), Workspace(tmp_path, {}))
    content = (tmp_path / "model.fmdc").read_bytes()
    assert applied.told["file_bytes"] == len(content)
    again = tmp_path / "again"
    again.mkdir()
    assert technique.apply(source.onnx, technique.check({}), Workspace(again, {})).told == applied.told
    assert applied.told["sha256"] == hashlib.sha256(content).hexdigest()
    read, written = coding.decode(content, "model.fmdc"), onnx.load(applied.path)
    assert read.graph == written.graph


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    """There is nothing to code, and the fault says so."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [helper.make_tensor_value_info("y", 1, [1, 4])])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    technique: Any = find("deep-coding", "onnx")
    with pytest.raises(FaultError, match="no float32 weights") as refusal:
        technique.apply(tmp_path / "m.onnx", technique.check({}), Workspace(tmp_path, {}))
    assert refusal.value.fault.code == "unsupported_op"
