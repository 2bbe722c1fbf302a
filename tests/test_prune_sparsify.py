"""Unstructured, block and N:M pruning with training: which weights go, that they stay away, and that the count is exact."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_models import lenet, session
from torch_sources.recurrent import Recurrent

from agent.schema import FaultError
from compress.records import Data, Samples
from compress.techniques import TORCH, find
from compress.techniques.sparsify import TrainedSparsifyParams
from compress.training.pruning_masks import by_scores, lamp, n_of_m
from compress.training.pruning_weights import sparsify, weights

WEIGHTS = 61_470  # of LeNet-5, without its 236 biases


def zeros(model: nn.Module) -> dict[str, int]:
    return {name: int((one == 0).sum()) for name, one in weights(model).items()}


def sparse(model: nn.Module, **params: object) -> tuple[nn.Module, dict[str, Any]]:
    here = session(model)
    return sparsify(model, find("sparsify", TORCH).check(params), here), here.told["step"]


def test_the_smallest_single_weights_go() -> None:
    """Half of each layer, and exactly half; or half of all, wherever they are."""
    scores = {"a": torch.tensor([[1.0, 4.0], [3.0, 2.0]]), "b": torch.tensor([[9.0, 8.0]])}
    each = by_scores(scores, 0.5, (1, 1), one_for_all=False)
    assert [one.tolist() for one in each.values()] == [[[False, True], [True, False]], [[True, False]]]
    all_together = by_scores(scores, 0.5, (1, 1), one_for_all=True)
    assert [one.tolist() for one in all_together.values()] == [[[False, True], [False, False]], [[True, True]]]


def test_blocks_go_as_a_whole() -> None:
    """The 2 x 2 blocks of the lowest mean go, and those at the edge are smaller."""
    score = torch.tensor([[1.0, 1, 9], [1, 1, 9], [5, 5, 0]])
    mask = by_scores({"a": score}, 5 / 9, (2, 2), one_for_all=False)["a"]
    assert mask.tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_n_of_each_m_stay() -> None:
    """Two of four along the inputs, the larger ones; two inputs that are left over stay; a convolution's inputs are its channels."""
    score = torch.tensor([[1.0, 2, 3, 4, 0, 0], [4, 1, 3, 2, 5, 5]])
    assert n_of_m({"a": score}, 2, 4)["a"].int().tolist() == [[0, 0, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1]]
    mask = n_of_m({"a": torch.rand(5, 8, 3, 3)}, 1, 4)["a"]
    assert mask.unflatten(1, (2, 4)).sum(2).eq(1).all()
    assert n_of_m({"a": torch.rand(5, 3)}, 1, 4)["a"].all()


def test_lamp_compares_layers() -> None:
    """A square over those that are not smaller: the largest of every layer gets 1, whatever its size."""
    assert lamp(torch.tensor([[1.0, 3.0], [4.0, 0.0]])).tolist() == [[1 / 8, 3 / 7], [1.0, 0.0]]
    assert lamp(torch.tensor([[1e-6, 3e-6]]))[0, 1] == 1


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"sparsity": 0.9}, int(0.9 * WEIGHTS)),
        ({"sparsity": 0.9, "scope": "layer"}, 135 + 2160 + 43_200 + 9072 + 756),
        ({"sparsity": 0.8, "criterion": "random"}, int(0.8 * WEIGHTS)),
        ({"sparsity": 0.8, "criterion": "obd"}, int(0.8 * WEIGHTS)),
        ({"granularity": "n:m"}, 16 * 2 * 25 + (48_000 + 10_080 + 840) // 2),
        ({"granularity": "n:m", "n": 1}, 16 * 3 * 25 + (48_000 + 10_080 + 840) // 4 * 3),
    ],
)
def test_the_number_of_zeros_is_exact(params: dict[str, object], expected: int) -> None:
    """As many weights as asked for are zero, after training too, and what is told is what there is."""
    model, told = sparse(lenet(), epochs=1 if "obd" in params.values() else 0, samples=32, **params)
    found = zeros(model)
    assert abs(sum(found.values()) - expected) <= 1
    assert told["zeros"] == [sum(found.values()), WEIGHTS]
    assert told["sparsity"] == {name: count / weights(model)[name].numel() for name, count in found.items()}


def test_masks_hold_through_all_steps() -> None:
    """A cubic schedule in three steps ends at the sparsity that was asked for, and what was zero once is zero at the end."""
    early, _ = sparse(lenet(), sparsity=0.9 * (1 - (2 / 3) ** 3), epochs=0, criterion="random")
    model, told = sparse(lenet(), sparsity=0.9, iterations=3, epochs=1, criterion="random")
    assert told["zeros"][0] == int(0.9 * WEIGHTS)
    assert all(bool((model.get_parameter(name)[one == 0] == 0).all()) for name, one in weights(early).items())
    assert told["held_out"] >= told["held_out_pruned"]


def test_blocks_of_lenet_are_whole() -> None:
    """Every 4 x 4 block of a linear layer is all zero or not at all."""
    model, _ = sparse(lenet(), sparsity=0.7, granularity="block", scope="layer", epochs=0)
    counts = (weights(model)["fc1.weight"] == 0).view(30, 4, 100, 4).sum((1, 3))
    assert set(counts.unique().tolist()) == {0, 16}
    assert int((counts == 16).sum()) == 2100


def test_recurrent_weights_become_sparse() -> None:
    """Of a GRU both weight matrices, of a one-dimensional convolution its kernel, and no bias."""
    torch.manual_seed(0)
    model, told = sparse(Recurrent().eval(), sparsity=0.75, scope="layer", epochs=1)
    assert set(told["sparsity"]) == {"conv.weight", "gru.weight_ih_l0", "gru.weight_hh_l0", "head.weight"}
    assert all(share == pytest.approx(0.75, abs=0.01) for share in told["sparsity"].values())
    assert not any((one == 0).any() for name, one in model.named_parameters() if "bias" in name)


def test_obd_keeps_small_weights_that_matter() -> None:
    """A weight that reads a large input outweighs a larger one that reads nothing."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 1.0], [-0.1, 1.0]]))
    feeds = {"input": np.array([[10, 0.01]] * 4, np.float32)}
    both = Samples(feeds, np.array([0, 1, 0, 1]))
    here = session(model, Data(feeds, feeds, None, {}, both, both, "classification"))
    sparsify(model, TrainedSparsifyParams(sparsity=0.5, criterion="obd", epochs=0), here)
    assert model[0].weight[:, 0].all()
    assert not model[0].weight[:, 1].any()


def test_nothing_to_set_to_zero_is_refused() -> None:
    """Three inputs have no group of four."""
    model = nn.Sequential(nn.Linear(3, 2))
    feeds = {"input": np.zeros((4, 3), np.float32)}
    samples = Samples(feeds, np.zeros(4, np.int64))
    with pytest.raises(FaultError, match="no weight to set to zero"):
        sparsify(model, TrainedSparsifyParams(granularity="n:m"), session(model, Data(feeds, feeds, None, {}, samples, samples)))


@pytest.mark.parametrize("params", [{"granularity": "n:m", "n": 4}, {"granularity": "n:m", "sparsity": 0.6}, {"sparsity": 1.0}])
def test_wrong_parameters_are_refused(params: dict[str, object]) -> None:
    """All of m, another share than n of m is, and all weights."""
    with pytest.raises(ValueError, match="sparsify: "):
        find("sparsify", TORCH).check(params)
