"""Torch sources: exported, trained in a process of their own, and brought into every format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from compress_models import EXAMPLE, context
from torch_models import LENET, fashion, lenet_source

from agent.schema import FaultError
from compress import training
from compress.build import Source, build
from compress.recipes import Recipe, Step
from compress.records import Data, TorchSource

FINE_TUNED = Recipe("tuned-int8", (Step("fine-tune", {"epochs": 1}), Step("int8-static")))


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> TorchSource:
    """The example's network as a torch module with the example's weights."""
    return lenet_source(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def data() -> Data:
    """The example's data, little of it."""
    return fashion()


@pytest.fixture
def source(lenet: TorchSource, data: Data, tmp_path: Path) -> Source:
    """The torch source with its export."""
    return Source("lenet", training.exported(lenet, data, tmp_path), None, lenet)


def test_a_module_is_exported_as_it_is(lenet: TorchSource, data: Data, tmp_path: Path) -> None:
    """The export has the module's outputs: those of the ONNX that the weights came from."""
    run = context(tmp_path).run_model
    ours = run(training.exported(lenet, data, tmp_path), "onnx", data.eval_feeds)
    (theirs,) = run(EXAMPLE / "model.onnx", "onnx", data.eval_feeds).values()
    np.testing.assert_allclose(ours["output"], theirs, atol=1e-4)


def test_training_goes_before_quantising(source: Source, data: Data, tmp_path: Path) -> None:
    """What was trained is quantised; the manifest tells the held-out scores; the evaluation samples are no part of what was made."""
    made = build(source, FINE_TUNED, "onnx", data, context(tmp_path))
    scores = made.manifest["steps"]["fine-tune"]["held_out"]
    assert len(scores) == 1
    assert 0.8 < scores[0] <= 1
    assert made.manifest["size_bytes"] < 0.35 * made.manifest["float_size_bytes"]
    other = build(source, FINE_TUNED, "onnx", replace(data, labels=None), context(tmp_path))
    assert other.artifact == made.artifact
    assert len(list((tmp_path / "cache" / "made").glob("*[!k]"))) == 1


def test_training_wants_a_torch_module(data: Data, tmp_path: Path) -> None:
    """With an ONNX file alone a training step is refused before any work, with what works without training."""
    with pytest.raises(FaultError, match="fine-tune trains, and there is no torch module") as refusal:
        build(Source("lenet", EXAMPLE / "model.onnx", None), FINE_TUNED, "onnx", data, context(tmp_path))
    assert refusal.value.fault.code == "unsupported_op"
    assert "int8-static" in refusal.value.fault.next


def test_training_wants_training_samples(source: Source, data: Data, tmp_path: Path) -> None:
    """Without train_ arrays the data file is named as what to mend."""
    with pytest.raises(FaultError, match="no training samples"):
        build(source, FINE_TUNED, "onnx", replace(data, train=None), context(tmp_path))


def test_nothing_follows_what_quantises(source: Source, data: Data, tmp_path: Path) -> None:
    """A step after a quantising one is refused with the order that works."""
    recipe = Recipe("wrong", (Step("int8-static"), Step("fine-tune")))
    with pytest.raises(FaultError, match="fine-tune") as refusal:
        build(source, recipe, "onnx", data, context(tmp_path))
    assert refusal.value.fault.code == "unsupported_op"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def Net(): raise RuntimeError('no net')", "no net"),
        ("import not_a_module", "not_a_module"),
        ("x = (", "SyntaxError"),
        ("def Other(): ...", "Net"),
        ("import os\ndef Net(): os._exit(3)", "status 3"),
    ],
)
def test_a_module_that_cannot_be_made(code: str, reason: str, data: Data, tmp_path: Path) -> None:
    """Whatever its owner's code does, the fault names its file and what happened."""
    file = tmp_path / "net.py"
    file.write_text(code)
    with pytest.raises(FaultError, match=r"net\.py") as failure:
        training.exported(TorchSource(file, "Net", None), data, tmp_path)
    assert reason in str(failure.value)


def test_weights_are_read_as_numbers_only(data: Data, tmp_path: Path) -> None:
    """A pickle that would run code is refused."""
    weights = tmp_path / "evil.pt"
    torch.save({"conv1.weight": Path("/")}, weights)  # an object of a class, not a tensor
    with pytest.raises(FaultError, match=r"LeNet5\(\) gives no model"):
        training.exported(TorchSource(LENET, "LeNet5", weights), data, tmp_path)
