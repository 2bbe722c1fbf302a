"""The criteria of structured pruning, each on a layer whose least important channel is known."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_models import session

from agent.schema import FaultError
from compress.records import Data, Samples
from compress.training.pruning_activations import gram, grams, greedy_order
from compress.training.pruning_criteria import CRITERIA, scores
from compress.training.pruning_layers import graph, groups, layers
from compress.training.session import Session

LEAST = 3


class Small(nn.Module):
    """Two convolutions and a linear layer on 2 x 5 x 5; the first one's six channels are what the tests look at."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3)
        self.norm1 = nn.BatchNorm2d(6)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(6, 4, 2)
        self.fc = nn.Linear(16, 3)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.fc(self.conv2(self.relu1(self.norm1(self.conv1(values)))).relu().flatten(1))
        return found


def small() -> Small:
    torch.manual_seed(1)
    return Small().eval()


def data(samples: int = 64, labels: bool = True) -> Data:
    rng = np.random.default_rng(0)
    feeds = {"values": rng.standard_normal((samples, 2, 5, 5)).astype(np.float32)}
    labelled = Samples(feeds, rng.integers(0, 3, samples) if labels else None)
    return Data(feeds, feeds, None, {}, labelled, labelled, "classification")


def of_first(model: nn.Module, criterion: str, here: Session) -> Tensor:
    inputs = tuple(here.example().values())
    return scores(criterion, model, layers(model, inputs), inputs, here, 64)["conv1"]


def has_small_weights(model: Small) -> None:
    model.conv1.weight.data[LEAST] *= 0.01
    model.norm1.weight.data[LEAST] *= 0.01
    model.conv2.weight.data[:, LEAST] *= 0.01


def is_the_mean_of_the_others(model: Small) -> None:
    model.conv1.weight.data[LEAST] = model.conv1.weight.data[[0, 1, 2, 4, 5]].mean(0)


def is_not_read(model: Small) -> None:
    model.conv2.weight.data[:, LEAST] = 0


def has_a_small_scale(model: Small) -> None:
    model.norm1.weight.data[LEAST] = -0.01


def never_fires(model: Small) -> None:
    model.norm1.bias.data[LEAST] = -100


CASES = {
    "l1": has_small_weights,
    "l2": has_small_weights,
    "lamp": has_small_weights,
    "fpgm": is_the_mean_of_the_others,
    "taylor": is_not_read,
    "hessian": is_not_read,
    "batchnorm-scale": has_a_small_scale,
    "activation": never_fires,
    "apoz": never_fires,
    "next-activation": is_not_read,
    "reconstruction": is_not_read,
}


def test_every_criterion_has_a_case() -> None:
    """No criterion goes untested; random has its own test."""
    assert {*CASES, "random"} == set(CRITERIA)


@pytest.mark.parametrize("criterion", CASES)
def test_the_channel_that_does_not_matter_goes_first(criterion: str) -> None:
    """The criterion puts channel 3 last of all once that is what it looks for, and not before."""
    model = small()
    assert of_first(model, criterion, session(model, data())).argmin() != LEAST
    CASES[criterion](model)
    assert of_first(model, criterion, session(model, data())).argmin() == LEAST


def test_random_is_the_same_each_time() -> None:
    """It is seeded, for a recipe gives the same bytes each time."""
    model = small()
    here = session(model, data())
    assert of_first(model, "random", here).tolist() == of_first(model, "random", here).tolist()


@pytest.mark.parametrize("criterion", ["taylor", "hessian"])
def test_a_model_that_imitates_itself_has_no_gradient(criterion: str) -> None:
    """Without labels the loss of the float model is zero, and so are its gradients: the criterion says so."""
    model = small()
    with pytest.raises(FaultError, match=f"{criterion} is zero everywhere"):
        of_first(model, criterion, session(model, data(labels=False)))


def test_fisher_is_of_single_samples() -> None:
    """Two samples whose gradients cancel are important to hessian, which is not a function of the mean gradient."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.ones(2, 1))
        model[1].weight.copy_(torch.tensor([[1.0, 0.1], [-1.0, 0.1]]))
    feeds = {"input": np.zeros((2, 1), np.float32) + np.array([[1], [-1]], np.float32)}
    both = Samples(feeds, np.array([0, 0]))
    here = session(model, Data(feeds, feeds, None, {}, both, both, "classification"))
    inputs = tuple(here.example().values())
    found = scores("hessian", model, layers(model, inputs), inputs, here, 2)["0"]
    assert found[0] > found[1] > 0


def test_greedy_takes_channels_together() -> None:
    """ThiNet's greedy order: after the weakest channel, the one that cancels its loss, however strong alone."""
    contributions = torch.tensor([[1.0, -1.1, 0.9]])
    assert greedy_order(contributions.T @ contributions).tolist() == [2, 1, 0]


@pytest.mark.parametrize("groups_of", [1, 2])
@pytest.mark.parametrize("removed", [[0], [1, 3], [0, 1, 2, 3]])
def test_the_gram_matrix_is_the_reconstruction_error(groups_of: int, removed: list[int]) -> None:
    """1' G 1 over channels is the squared change of the next layer's output without them, grouped convolutions included."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=groups_of), nn.Flatten(), nn.Linear(54, 2)
    )
    here = session(model.eval(), data(8))
    (group,) = (group for name, group in groups(graph(model, tuple(here.example().values()))) if name == "0")
    found = gram(group, grams(model, [group], here.calibration))[removed][:, removed].sum()
    with torch.no_grad():
        hidden = model[1](model[0](here.calibration.inputs[0]))
        without = hidden.clone()
        without[:, removed] = 0
        torch.testing.assert_close(found, ((model[2](hidden) - model[2](without)) ** 2).sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("before", "reader", "shape"),
    [
        (partial(nn.Conv1d, 1, 4, 1), partial(nn.Conv1d, 4, 2, 2), (1, 3)),
        (partial(nn.Conv3d, 1, 4, 1), partial(nn.Conv3d, 4, 2, 2), (1, 3, 3, 3)),
        (partial(nn.Conv2d, 1, 4, 1), partial(nn.ConvTranspose2d, 4, 2, 1), (1, 3, 3)),
        (partial(nn.Linear, 3, 4), partial(nn.Linear, 4, 2), (3,)),
    ],
)
def test_every_kind_of_layer_is_read(before: Callable[[], nn.Module], reader: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """A channel that the next layer ignores goes first for one-, two- and three-dimensional, transposed and linear layers."""
    torch.manual_seed(0)
    model = nn.Sequential(before(), reader()).eval()
    with torch.no_grad():
        model[1].weight[LEAST if isinstance(model[1], nn.ConvTranspose2d) else (slice(None), LEAST)] = 0
    feeds = {"input": np.random.default_rng(0).standard_normal((16, *shape)).astype(np.float32)}
    here = session(model, Data(feeds, feeds, None, {}, Samples(feeds, None), Samples(feeds, None)))
    inputs = tuple(here.example().values())
    for criterion in ("next-activation", "reconstruction"):
        assert scores(criterion, model, layers(model, inputs), inputs, here, 16)["0"].argmin() == LEAST
