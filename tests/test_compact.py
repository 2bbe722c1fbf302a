"""Compact filters: exact where the kernels allow it, shapes and parameters as the layer's, run as ONNX."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from compress_models import EXAMPLE, context
from torch import Tensor, nn
from torch_models import fashion, lenet, lenet_source, session

from agent.schema import FaultError
from compress.build import Source, build
from compress.recipes import Recipe, Step
from compress.techniques.compact import TECHNIQUES, CompactParams, CondenseParams
from compress.training import cost
from compress.training.compact import Fire, compacted, convolutions, separable
from compress.training.condense import LearnedGroups, condensed
from compress.training.export import to_onnx


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


WINDOWS = [
    {"kernel_size": 5},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 5), "padding": (2, 0), "dilation": (2, 1)},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 3, "padding": 3, "bias": False},
]


@pytest.mark.parametrize("window", WINDOWS)
def test_separable_kernels_are_kept(window: dict[str, object]) -> None:
    """Where all filters have the same kernel up to a factor for each input channel, the two convolutions give what the one gave."""
    layer = nn.Conv2d(4, 6, **window)
    layer.weight.data = numbers(6, 4)[:, :, None, None] * numbers(4, *layer.kernel_size)
    thin = separable(layer)
    torch.testing.assert_close(thin(numbers(2, 4, 13, 12)), layer(numbers(2, 4, 13, 12)), rtol=1e-4, atol=1e-5)
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    assert cost.parameters(thin) == 4 * (taps + 1) + 6 * 4 + (0 if layer.bias is None else 6)


def test_other_kernels_become_the_nearest_separable_ones() -> None:
    """No other factor for a channel leaves less of its kernels: what is lost is the rest of the singular values, squared."""
    layer = nn.Conv2d(3, 5, 3)
    depthwise, pointwise = separable(layer)
    made = pointwise.weight * depthwise.weight.transpose(0, 1)
    values = torch.linalg.svdvals(layer.weight.transpose(0, 1).flatten(2))
    torch.testing.assert_close((layer.weight - made).square().sum(), values[:, 1:].square().sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_fire_modules_have_the_layers_shape(window: dict[str, object]) -> None:
    """The same outputs' shape for every window, from the parameters of its three convolutions."""
    layer = nn.Conv2d(4, 8, **window)
    fire = Fire(layer, 0.25, 0.5)
    assert fire(numbers(2, 4, 13, 12)).shape == layer(numbers(2, 4, 13, 12)).shape
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    assert cost.parameters(fire) == 5 * 2 + 3 * 4 + (2 * taps + 1) * 4


def test_a_fire_modules_small_kernels_look_at_the_centre() -> None:
    """Without padding a 1 x 1 kernel beside a 5 x 5 one sees the middle of what that sees."""
    fire = Fire(nn.Conv2d(1, 2, 5), 0.5, 0.5)
    for one in (fire.squeeze, fire.small):
        one.load_state_dict({"weight": torch.ones(1, 1, 1, 1), "bias": torch.zeros(1)})
    images = torch.arange(49.0).reshape(1, 1, 7, 7)
    assert torch.equal(fire(images)[:, :1], images[:, :, 2:5, 2:5])


def test_all_but_the_first_convolution() -> None:
    """LeNet-5's second is exchanged by itself, the first only by name; what is no convolution is refused."""
    assert list(convolutions(lenet(), ())) == ["conv2"]
    assert list(convolutions(lenet(), ("conv1",))) == ["conv1"]
    with pytest.raises(FaultError, match="'fc1' is no convolution"):
        convolutions(lenet(), ("fc1",))


def test_each_group_gives_up_what_it_uses_least() -> None:
    """By hand: two groups of one filter, four channels, a factor of two: the smaller two weights of each go, in one stage."""
    one = LearnedGroups(nn.Conv2d(4, 2, 1, bias=False), groups=2, factor=2)
    one.layer.weight.data = torch.tensor([[1.0, -4.0, 2.0, 3.0], [-5.0, 0.5, 4.0, -1.0]])[:, :, None, None]
    assert one.lasso().item() == pytest.approx(10 + 10.5)
    one.stage()
    assert one.seen.tolist() == [[False, True, False, True], [True, False, True, False]]
    thin = one.condensed()
    assert thin[0].index.tolist() == [1, 3, 0, 2]
    assert thin[1].weight.flatten().tolist() == [-4.0, 3.0, -5.0, 4.0]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_condensed_convolution_is_the_masked_one(window: dict[str, object]) -> None:
    """Selection and grouped convolution give what the dense one with zeros gives, after three stages with a quarter of the weights."""
    layer = nn.Conv2d(8, 6, **window)
    one = LearnedGroups(layer, groups=3, factor=4)
    for _ in range(3):
        one.stage()
    assert one.seen.sum(1).tolist() == [2, 2, 2]
    thin, images = one.condensed(), numbers(2, 8, 13, 12)
    torch.testing.assert_close(thin(images), one(images), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(thin(images), layer(images), atol=1e-2)
    assert thin[1].weight.numel() * 4 == layer.weight.numel()


def agrees(model: nn.Module, path: Path) -> None:
    """Run as ONNX it gives what it gives."""
    to_onnx(model, {"image": torch.zeros(1, 1, 28, 28)}, path)
    images = fashion().eval_feeds["image"][:1]
    (got,) = onnxruntime.InferenceSession(str(path)).run(None, {"image": images})
    np.testing.assert_allclose(got, model(torch.tensor(images)).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", ["separable", "fire"])
def test_a_module_with_compact_filters(kind: str, tmp_path: Path) -> None:
    """Its second convolution has fewer parameters, an epoch teaches it, and it is exported."""
    here = session(lenet())
    model = compacted(lenet(), CompactParams.model_validate({"kind": kind, "epochs": 1}), here)
    told = here.told["step"]
    conv2 = 6 * 26 + 7 * 16 if kind == "separable" else 7 * 2 + 3 * 8 + 51 * 8
    assert told["after"]["parameters"] == cost.parameters(model) == 61_706 - 2_416 + conv2
    assert told["layers"] == ["conv2"]
    assert told["held_out"][-1] > told["untrained"]
    agrees(model, tmp_path / "model.onnx")


def test_a_module_with_learned_groups(tmp_path: Path) -> None:
    """Half of its second convolution's weights go, a stage and the rest of the training are told, and it is exported."""
    here = session(lenet())
    model = condensed(lenet(), CondenseParams(groups=4, factor=2, epochs=2), here)
    told = here.told["step"]
    assert told["after"]["parameters"] == cost.parameters(model) == 61_706 - 1_200
    assert [len(part) for part in told["held_out"]] == [1, 1]
    assert told["after"]["score"] > 0.8
    agrees(model, tmp_path / "model.onnx")


def test_nothing_to_condense() -> None:
    """Channels that do not divide by the factor are refused."""
    with pytest.raises(FaultError, match="factor of 5"):
        condensed(lenet(), CondenseParams(groups=4, factor=5), session(lenet()))


def test_nothing_would_be_smaller() -> None:
    """A convolution with one input channel has more parameters as a Fire module: refused."""
    with pytest.raises(FaultError, match="no convolution would have fewer parameters"):
        compacted(lenet(), CompactParams(kind="fire", layers=("conv1",), squeeze=1.0), session(lenet()))


@pytest.mark.parametrize("given", [{"kind": "ghost"}, {"squeeze": 0.0}, {"alpha": 2.0}])
def test_parameters_are_checked(given: dict[str, object]) -> None:
    """What is out of range is refused before any work."""
    with pytest.raises(ValueError, match="compact"):
        TECHNIQUES[0].check(given)


def test_compact_then_int8(tmp_path: Path) -> None:
    """A separable convolution is quantised with the rest, and what is built gives the model's classes."""
    source = Source("lenet", EXAMPLE / "model.onnx", None, lenet_source(tmp_path))
    recipe = Recipe("compact-int8", (Step("compact", {"epochs": 2}), Step("int8-static")))
    made = build(source, recipe, "onnx", fashion(), context(tmp_path))
    assert made.manifest["steps"]["compact"]["layers"] == ["conv2"]
    assert made.manifest["accuracy"] > made.manifest["reference_accuracy"] - 0.15
