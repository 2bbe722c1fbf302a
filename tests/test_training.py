"""Torch sources: exported, trained in a process of their own, and brought into every format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from compress_models import EXAMPLE, context
from torch_models import LENET, fashion, lenet_source

from agent.schema import FaultError
from compress import inspect, training
from compress.build import Source, build
from compress.recipes import Recipe, Step
from compress.records import Data, Samples, TorchSource
from compress.training.loop import fit
from compress.training.session import Session

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
    with pytest.raises(FaultError, match=r"evil\.pt: not a state_dict \(it holds more than tensors\)"):
        training.exported(TorchSource(LENET, "LeNet5", weights), data, tmp_path)


SIBLING = "import torch\nfrom layers import WIDTH\n\n\ndef Net():\n    return torch.nn.Linear(3, WIDTH)\n"


def small(inputs: dict[str, np.ndarray], labels: np.ndarray | None = None) -> Data:
    """These inputs for everything."""
    samples = Samples(inputs, labels)
    return Data(inputs, inputs, labels, {}, samples, samples, "classification")


def net(folder: Path, code: str) -> TorchSource:
    """The module Net of this code."""
    (folder / "net.py").write_text("import torch\n" + code)
    return TorchSource(folder / "net.py", "Net", None)


def test_a_module_depends_on_what_it_imports_from_its_folder(tmp_path: Path) -> None:
    """A change of a module beside it, or of one in a package there that only that one imports, makes it another module."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "sizes.py").write_text("WIDTH = 5\n")
    (tmp_path / "layers.py").write_text("from parts.sizes import WIDTH\n")
    (tmp_path / "other.py").write_text("x = (\n")
    source = net(tmp_path, SIBLING)
    assert [path.name for path in training.beside(source.file)] == ["layers.py", "sizes.py"]
    data = small({"x": np.zeros((4, 3), np.float32)})
    narrow = training.exported(source, data, tmp_path)
    (tmp_path / "parts" / "sizes.py").write_text("WIDTH = 7  # wider\n")
    wide = training.exported(source, data, tmp_path)
    run = context(tmp_path).run_model
    assert [next(iter(run(one, "onnx", data.eval_feeds).values())).shape for one in (narrow, wide)] == [(4, 5), (4, 7)]


def test_an_export_depends_on_what_the_inputs_are(tmp_path: Path) -> None:
    """An input of another name, or of another type, is another export."""
    source = net(tmp_path, "class Net(torch.nn.Module):\n    def forward(self, x):\n        return x * 2\n")
    named = {
        (name, kind): training.exported(source, small({name: np.ones((2, 3), kind)}), tmp_path)
        for name, kind in (("x", "float32"), ("x", "int64"), ("y", "int64"))
    }
    assert len(set(named.values())) == 3
    for (name, kind), path in named.items():
        (spec,) = inspect.inputs(path, "onnx")
        assert (spec.name, spec.dtype) == (name, kind)


@pytest.mark.parametrize(
    ("code", "inputs", "said"),
    [
        ("class Net(torch.nn.Module):\n    def forward(self, x):\n        return {'a': x}", ["x"], "gives a dict"),
        ("class Net(torch.nn.Module):\n    def forward(self, a, mask, b):\n        return a + b", ["b", "a"], "no array for mask"),
    ],
)
def test_a_module_that_is_fed_or_answers_otherwise(code: str, inputs: list[str], said: str, tmp_path: Path) -> None:
    """A dictionary of outputs, or an input left out before one that is given, is named instead of being guessed at."""
    data = small({name: np.zeros((2, 3), np.float32) for name in inputs})
    with pytest.raises(FaultError, match=said):
        training.exported(net(tmp_path, code), data, tmp_path)


@pytest.mark.parametrize("kind", ["uint16", ">i8", "int64"])
def test_labels_of_any_whole_type_are_learnt(kind: str) -> None:
    """Unsigned and foreign byte orders too, which torch itself does not take."""
    labels = np.array([0, 1, 1], kind)
    here = Session(torch.nn.Linear(2, 2), "classification", None, Samples({"x": np.zeros((3, 2), np.float32)}, labels), None)
    here._names = ["x"]
    split = here.held_out
    assert split.labels is not None
    assert split.labels.dtype == torch.int64
    assert split.labels.tolist() == [0, 1, 1]


def test_a_last_batch_of_one_sample_is_no_fault() -> None:
    """129 samples through BatchNorm, which has no variance of one: trained without it."""
    samples = Samples({"x": np.random.default_rng(0).normal(size=(129, 4)).astype(np.float32)}, np.zeros(129, np.int64))
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    assert len(fit(model, Session(model, "classification", samples, samples, samples), 1)) == 1


def test_a_step_that_fails_says_why(tmp_path: Path) -> None:
    """A label that the module has no output for: the fault names the file, the step and torch's reason, not a process."""
    source = net(tmp_path, "def Net():\n    return torch.nn.Linear(3, 2)\n")
    data = small({"x": np.ones((20, 3), np.float32)}, np.full(20, 7))
    with pytest.raises(FaultError, match=r"net\.py: fine-tune: IndexError: Target 7 is out of bounds") as failure:
        training.trained(source, [Step("fine-tune", {"epochs": 1})], data, tmp_path)
    assert failure.value.fault.code == "convert_fail"


def test_the_manifest_tells_where_it_comes_from(source: Source, data: Data, tmp_path: Path) -> None:
    """Its parents are the export that it is compared with and the module with its weights; parameters stand there with their defaults."""
    told = build(source, FINE_TUNED, "onnx", data, context(tmp_path)).manifest
    assert [one["format"] for one in told["parents"]] == ["onnx", "torch"]
    assert source.torch is not None
    assert told["parents"][1] == {"file": "lenet.py", "format": "torch", "sha256": training.digest(source.torch)}
    assert told["techniques"][0] == {"technique": "fine-tune", "format": "torch", "params": {"epochs": 1, "learning_rate": 1e-3}}
    assert {"torch", "torch-pruning", "tensorly", "onnxruntime"} <= set(told["tools"])
