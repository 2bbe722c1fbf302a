"""Structured pruning: the surgery, how the loss of channels is spread, and the technique from end to end."""

from pathlib import Path
from typing import Any

import pytest
import torch
from compress_models import context
from torch import Tensor, nn
from torch_models import fashion, lenet, lenet_source, session
from torch_sources.mobilenet import MobileNet
from torch_sources.recurrent import Recurrent

from agent.schema import FaultError
from compress import training
from compress.build import Source, build
from compress.recipes import Recipe, Step
from compress.techniques import TORCH, find
from compress.techniques.prune import PruneParams
from compress.training.cost import parameters
from compress.training.loop import fit
from compress.training.pruning import prune, recalibrate
from compress.training.pruning_allocation import Candidates, by_score, candidates, cheapest, slopes, uniform
from compress.training.pruning_layers import Layer, cut, layers, widths
from compress.training.session import Split

IMAGE = (torch.zeros(1, 1, 28, 28),)
LENET_WIDTHS = {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84, "fc3": 10}


class Branches(nn.Module):
    """A grouped convolution, two branches that are concatenated, and a GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.left, self.right = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 5, 1)
        self.joined = nn.Conv2d(8, 12, 1)
        self.norm = nn.GroupNorm(3, 12)
        self.first = nn.Conv2d(1, 4, 1)
        self.head = nn.Linear(12, 10)

    def forward(self, image: Tensor) -> Tensor:
        values = self.grouped(self.first(image).relu()).relu()
        both = torch.cat([self.left(values), self.right(values)], 1)
        found: Tensor = self.head(self.norm(self.joined(both)).mean((2, 3)))
        return found


class Attention(nn.Module):
    """Its heads are of a size that its code names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden, self.head = nn.Linear(28, 8), nn.Linear(8, 6), nn.Linear(6, 10)

    def forward(self, image: Tensor) -> Tensor:
        heads = self.embed(image[:, 0]).view(len(image), 28, 4, 2).sum(1).flatten(1)
        found: Tensor = self.head(self.hidden(heads).relu())
        return found


def lenet_candidates(round_to: int = 1) -> tuple[Candidates, dict[str, Tensor]]:
    model = lenet()
    found = layers(model, IMAGE)
    scores = {layer.name: torch.arange(layer.units).float() / layer.units for layer in found}
    return candidates(model, IMAGE, found, scores, round_to), scores


def sum_of_scales(model: nn.Module) -> float:
    return sum(float(one.weight.detach().abs().sum()) for one in model.modules() if isinstance(one, nn.BatchNorm2d))


def test_what_is_cut_is_as_if_nobody_read_it() -> None:
    """A module without channels gives what it gave with those channels' readers zeroed, past a flattening too."""
    model = lenet()
    narrow = cut(model, IMAGE, {"conv1": [1, 4], "conv2": [0, 15], "fc1": [7]})
    assert widths(narrow) == LENET_WIDTHS | {"conv1": 4, "conv2": 14, "fc1": 119}
    with torch.no_grad():
        model.conv2.weight[:, [1, 4]] = 0
        model.fc1.weight.view(120, 16, 25)[:, [0, 15]] = 0
        model.fc2.weight[:, 7] = 0
        images = torch.rand(3, 1, 28, 28)
        torch.testing.assert_close(narrow(images), model(images))


def test_coupled_layers_lose_the_same_channels() -> None:
    """Of a MobileNet the expansion, its depthwise convolution and their norms agree, and so do the branches of a residual addition."""
    model = MobileNet().eval()
    found = layers(model, IMAGE)
    narrow = cut(model, IMAGE, {layer.name: layer.channels([0, 2]) for layer in found})
    assert narrow(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    for block, now in zip(model.blocks, narrow.blocks, strict=True):
        assert now.body[0].out_channels == now.body[3].groups == now.body[4].num_features == block.body[0].out_channels - 2
    assert narrow.blocks[0].body[6].out_channels == narrow.blocks[1].body[6].out_channels == 14
    assert "head" not in {layer.name for layer in found}


def test_groups_lose_the_same_share() -> None:
    """Grouped convolutions and normalisations stay whole: every group loses a channel; a concatenation keeps its order."""
    model = Branches().eval()
    found = {layer.name: layer for layer in layers(model, IMAGE)}
    assert {name: layer.blocks for name, layer in found.items()} == {"first": 2, "grouped": 2, "left": 1, "right": 1, "joined": 3}
    narrow = cut(model, IMAGE, {name: layer.channels([0]) for name, layer in found.items()})
    assert widths(narrow) == {"grouped": 6, "left": 2, "right": 4, "joined": 9, "first": 2, "head": 10}
    assert narrow(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    torch.testing.assert_close(narrow.joined.weight[:, 2:], model.joined.weight[[1, 2, 3, 5, 6, 7, 9, 10, 11]][:, 4:])


def test_what_cannot_lose_a_channel_is_left_alone() -> None:
    """A layer whose width the code of the module names is found by trial and left as it is."""
    assert [layer.name for layer in layers(Attention(), IMAGE)] == ["hidden"]


def test_recurrent_layers_and_transformers_run_on() -> None:
    """What reads a GRU, which nothing can follow, stays; of a transformer the hidden neurons of its feed-forward layers go."""
    recurrent = Recurrent().eval()
    assert layers(recurrent, IMAGE) == ()
    with pytest.raises(FaultError, match="no layer that can lose channels"):
        prune(recurrent, PruneParams(), session(recurrent))
    encoder = nn.TransformerEncoderLayer(8, 2, 32, batch_first=True)
    transformer = nn.Sequential(nn.Linear(28, 8), nn.Flatten(1, 2), encoder, nn.Linear(8, 10)).eval()
    found = layers(transformer, IMAGE)
    assert [layer.name for layer in found] == ["2.linear1"]
    assert widths(cut(transformer, IMAGE, {"2.linear1": [0, 5]}))["2.linear1"] == 30


def test_a_price_is_of_the_convex_curve() -> None:
    """Loss by size on the lower hull: a plateau before a cheap point costs what the way there costs."""
    points = [(0, 0.0, 0.0), (1, 10.0, 1.0), (2, 20.0, 1.0), (4, 40.0, 9.0)]
    assert slopes(points, [1, 2, 3, 4]) == [0.05, 0.05, 0.4, 0.4]


def test_the_target_is_reached_by_the_fewest_cheapest_steps() -> None:
    """The module is small enough, and would not be with one step less; no layer is left without a channel."""
    found, scores = lenet_candidates()
    prices = by_score(found, scores)

    def at_most(limit: int) -> nn.Module:
        return cheapest(found, prices, lambda one: parameters(one) <= limit)

    narrow = at_most(20_000)
    assert parameters(at_most(parameters(narrow))) == parameters(narrow) <= 20_000
    assert parameters(at_most(parameters(narrow) + 1)) <= parameters(narrow) + 1
    assert min(widths(at_most(700)).values()) >= 1
    with pytest.raises(FaultError, match="cannot make it that small"):
        at_most(30)


def test_uniform_takes_the_same_share_of_each_layer() -> None:
    """At half the channels every layer has about half of its own, and the output its width."""
    found, _ = lenet_candidates()
    narrow = cheapest(found, uniform(found), lambda one: sum(widths(one).values()) - 10 <= 113)
    assert widths(narrow) == {"conv1": 3, "conv2": 8, "fc1": 60, "fc2": 42, "fc3": 10}


def test_widths_are_rounded_to_the_hardware() -> None:
    """What stays of a layer is a multiple of round_to, or all of it where it cannot be."""
    found, scores = lenet_candidates(round_to=8)
    narrow = cheapest(found, by_score(found, scores), lambda one: parameters(one) <= 20_000)
    assert [width % 8 for width in widths(narrow).values()] == [6, 0, 0, 0, 2]
    assert widths(narrow)["conv1"] == 6


def test_units_are_channels_of_every_block() -> None:
    """A unit of a layer with two blocks of three channels is one channel of each block."""
    assert Layer("conv", 6, 2).channels([0, 2]) == [0, 2, 3, 5]


@pytest.mark.parametrize(
    ("target", "kind", "most"),
    [
        ({"ratio": 0.6}, "parameters", 24_682),
        ({"parameters": 24_000}, "parameters", 24_000),
        ({"macs": 200_000}, "macs", 200_000),
        ({"of": "channels", "ratio": 0.4}, "channels", 135),
    ],
)
def test_every_kind_of_target(target: dict[str, object], kind: str, most: int) -> None:
    """Parameters, multiply-accumulates and channels end at or just below what was asked for; told as they are."""
    model = lenet()
    here = session(model)
    narrow = prune(model, find("prune", TORCH).check({**target, "epochs": 0, "samples": 128}), here)
    told: Any = here.told["step"]
    got = {"parameters": told["parameters"][1], "macs": told["macs"][1], "channels": sum(widths(narrow).values()) - 10}
    assert 0.9 * most < got[kind] <= most
    assert told["widths"] == {name: [width, widths(narrow)[name]] for name, width in LENET_WIDTHS.items()}


def test_more_ratio_is_never_wider() -> None:
    """Without training the size falls with the ratio, so that a budget can bisect it, and the weights are the same each time."""
    params = [PruneParams(ratio=ratio, epochs=0, samples=128) for ratio in (0.3, 0.7, 0.7)]
    made = [prune(model, one, session(model)) for one in params for model in [lenet()]]
    sizes = [parameters(one) for one in made]
    assert sizes == sorted(sizes, reverse=True)
    assert all(torch.equal(left, right) for left, right in zip(made[1].parameters(), made[2].parameters(), strict=True))


def test_sensitivity_keeps_more_than_uniform() -> None:
    """At a quarter of the parameters, before any training, caps by sensitivity score far above an equal share for every layer."""
    scores: dict[str, Any] = {}
    for scope in ("sensitivity", "uniform"):
        model = lenet()
        here = session(model)
        prune(model, find("prune", TORCH).check({"ratio": 0.75, "scope": scope, "epochs": 0, "samples": 256}), here)
        scores[scope] = here.told["step"]["held_out_pruned"]
    assert scores["sensitivity"] > scores["uniform"] + 0.1


def test_iterations_and_training_from_scratch() -> None:
    """Cut twice with training between, the last cut reaches the target; the score of the same shape from random weights is told too."""
    model = lenet()
    here = session(model)
    params = PruneParams(ratio=0.75, iterations=2, epochs=1, samples=128, scope="global", criterion="lamp", from_scratch=True)
    narrow = prune(model, params, here)
    told: Any = here.told["step"]
    assert parameters(narrow) <= 61_706 / 4
    assert 0 <= told["held_out_from_scratch"] < told["held_out"] == here.score(narrow)


def test_network_slimming_makes_scales_small_and_cuts_by_them() -> None:
    """The penalty shrinks BatchNorm's scales, and those layers lose channels that have one; without BatchNorm it is refused."""
    torch.manual_seed(0)
    model = MobileNet()
    before = sum_of_scales(model)
    here = session(model)
    params = PruneParams(
        ratio=0.3, criterion="batchnorm-scale", scope="global", epochs=0, sparsity_epochs=1, sparsity_penalty=0.1, learning_rate=0.02
    )
    narrow = prune(model, params, here)
    assert sum_of_scales(model) < 0.97 * before
    assert narrow(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(FaultError, match="wants BatchNorm"):
        prune(lenet(), params, session(lenet()))


def test_recalibration_recovers_what_wrong_statistics_cost() -> None:
    """A pruned MobileNet scores higher with BatchNorm statistics taken anew, without labels and without training."""
    torch.manual_seed(0)
    model = MobileNet()
    here = session(model)
    fit(model, here, 2, 5e-3)
    narrow = prune(model, PruneParams(ratio=0.3, scope="uniform", epochs=0, recalibrate=False), here)
    before = here.score(narrow)
    recalibrate(narrow, here.calibration)
    assert here.score(narrow) > before + 0.05
    assert not narrow.training


def test_recalibrated_statistics_are_those_of_the_samples() -> None:
    """Also of one sample more than fits a batch; the momentum stays; a single sample changes nothing."""
    model = nn.Sequential(nn.BatchNorm1d(1))
    values = torch.cat([torch.zeros(65, 1), torch.ones(64, 1)])
    recalibrate(model, Split((values,), None))
    assert (model[0].running_mean.item(), model[0].running_var.item(), model[0].momentum) == (0.5, 0.0, 0.1)
    recalibrate(model, Split((values[:1],), None))
    assert model[0].running_mean.item() == 0.5


@pytest.mark.parametrize("params", [{"ratio": 0.5, "macs": 1000}, {"parameters": 10, "macs": 10}, {"ratio": 1.0}, {"criterion": "l3"}])
def test_wrong_parameters_are_refused(params: dict[str, object]) -> None:
    """Two targets at once, everything gone, and a criterion that there is none of."""
    with pytest.raises(ValueError, match="prune: "):
        find("prune", TORCH).check(params)


def test_pruned_then_sparse_then_quantised(tmp_path: Path) -> None:
    """LeNet without half of its parameters, 2 of 4 weights zero, in int8, is a sixth of the float file or less; the manifest tells how."""
    torch_source = lenet_source(tmp_path)
    source = Source("lenet", training.exported(torch_source, fashion(), tmp_path), None, torch_source)
    steps = Step("prune", {"ratio": 0.5, "epochs": 0, "samples": 256}), Step("sparsify", {"granularity": "n:m", "epochs": 1})
    made = build(source, Recipe("small", (*steps, Step("int8-static"))), "onnx", fashion(), context(tmp_path))
    pruned, sparse = made.manifest["steps"]["prune"], made.manifest["steps"]["sparsify"]
    assert made.manifest["size_bytes"] < made.manifest["float_size_bytes"] / 6
    assert pruned["parameters"][1] <= pruned["parameters"][0] / 2
    assert sparse["zeros"][0] > 0.45 * sparse["zeros"][1]
    assert sparse["held_out"] > 0.85
    assert made.manifest["accuracy"] > 0.85
