"""Permute, quantise, fine-tune: permutations that no output shows, codebooks with known answers, and a training."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch_models import lenet, session

from agent.schema import FaultError
from compress.techniques.permute_quantise import PermuteQuantise, PermuteQuantiseParams
from compress.training.quantisation_permutation import links, search, spread
from compress.training.quantisation_products import k_means, permute, subvector, train


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


class Separable(nn.Module):
    """Convolution, BatchNorm, a depthwise convolution, a pointwise one with a shortcut around it, pooling, two Linears."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.depth = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8)
        self.point, self.more, self.dense, self.head = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 1), nn.Linear(16 * 16, 12), nn.Linear(12, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = functional.relu(self.point(torch.relu(self.depth(self.norm(self.conv(image))))))
        return self.head(self.dense(functional.max_pool2d(found + self.more(found), 6).flatten(1)).relu())


def separable() -> nn.Module:
    torch.manual_seed(0)
    model = Separable()
    model.train()(random(16, 1, 28, 28) * 3 + 1)
    return model.eval()


@pytest.mark.parametrize(("make", "count"), [(lenet, 4), (separable, 2)])
def test_a_permutation_changes_no_output(make: Any, count: int) -> None:
    """Each link permuted at random gives the same outputs to 1e-5, with BatchNorm, depthwise convolutions and Flatten between, and other
    weights; what a shortcut reads too is no link."""
    model, images = make(), random(4, 1, 28, 28)
    before = model(images)
    found = links(model)
    assert len(found) == count
    for link in found:
        old = link.consumer.weight.clone()
        link.permute(torch.randperm(link.channels, generator=torch.Generator().manual_seed(1)))
        assert not torch.equal(link.consumer.weight, old)
        torch.testing.assert_close(model(images), before, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_traced_has_no_links() -> None:
    """A module that branches on its values is left as it is."""

    class Branching(nn.Linear):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return super().forward(values) if values.sum() > 0 else values

    assert links(nn.Sequential(nn.Linear(4, 4), Branching(4, 4))) == []


def test_the_search_finds_channels_that_go_together() -> None:
    """Channels that are copies of each other, put apart, come into one subvector, where the covariance has determinant 0."""
    base = random(200, 4)
    weight = torch.cat([base, base + 0.01 * random(200, 4).flip(0)], 1)  # copies are four apart
    order = search(weight, 8, 2, 400, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(8))
    assert spread(weight[:, order].reshape(-1, 2)) < spread(weight.reshape(-1, 2)) - 3
    assert all(abs(first - second) == 4 for first, second in order.reshape(-1, 2).tolist())


def test_k_means_with_a_known_answer() -> None:
    """Three clouds are found with their means; with as many codewords as vectors nothing is lost."""
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    vectors = (centres[:, None] + 0.1 * random(3, 50, 2)).reshape(-1, 2)
    codebook, codes = k_means(vectors, 3)
    for at in range(3):
        cloud = vectors[50 * at : 50 * at + 50]
        assert len(codes[50 * at : 50 * at + 50].unique()) == 1
        torch.testing.assert_close(codebook[codes[50 * at]], cloud.mean(0))
    few = random(6, 3)
    codebook, codes = k_means(few, 6)
    torch.testing.assert_close(codebook[codes], few)
    codebook, codes = k_means(torch.ones(8, 2), 3)
    torch.testing.assert_close(codebook[codes], torch.ones(8, 2))


def test_subvectors_are_whole_kernels() -> None:
    """Their length divides a row of the weights."""
    assert subvector(nn.Linear(400, 120), 8) == 8
    assert subvector(nn.Linear(84, 10), 8) == 4
    assert subvector(nn.Conv2d(6, 16, 5), 8) == 25
    assert subvector(nn.Conv2d(6, 16, 3), 18) == 18
    assert subvector(nn.Conv2d(6, 16, 1), 8) == 2


def test_lenet_in_codebooks() -> None:
    """Fine-tuning wins back what coding lost; the layers are plain ones again and have no more subvectors than the codebook."""
    model, params = lenet(), PermuteQuantiseParams(subvector=4, codewords=128, swaps=50, epochs=1)
    here = session(model)
    train(model, params, here)
    told: Any = here.told["step"]
    assert told["permuted"] >= 2
    assert told["coded_only"] < told["held_out"][0] == here.score(model)
    assert here.score(model) > 0.8
    assert not {"conv1", "conv2"} & {*told["layers"]}  # 6 and 96 kernels
    assert {*told["layers"]} >= {"fc1", "fc2"}
    assert type(model.fc1) is nn.Linear
    for name in ("fc1", "fc2"):
        assert len(model.get_submodule(name).weight.reshape(-1, 4).unique(dim=0)) <= 128
    assert told["coded_bytes"] < told["weights"] * 4 / 10


def test_permuting_makes_the_code_better() -> None:
    """With channels put in order, k-means loses no more of fc2 than before, and the order found is kept for the whole network."""
    model = lenet()
    plain = copy.deepcopy(model)
    params = PermuteQuantiseParams(subvector=4, swaps=200)
    here = session(model)
    assert permute(model, params, here) >= 2

    def spread_of(net: nn.Module) -> float:
        return spread(net.get_submodule("fc2").weight.detach().reshape(-1, 4))

    assert spread_of(model) < spread_of(plain)
    assert here.score(model) == here.score(plain)


def test_too_small_for_codebooks() -> None:
    """A module of which no layer has as many subvectors as codewords is refused."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    technique = PermuteQuantise("permute-quantise-finetune", params=PermuteQuantiseParams)
    with pytest.raises(FaultError, match="codebook is smaller"):
        technique.train(model, PermuteQuantiseParams(codewords=4096), session(model))
