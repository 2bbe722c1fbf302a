"""Quantisation-aware training: what comes out of it, with BatchNorm, other layers, and bits one after another."""

import copy

import pytest
import torch
from torch import nn
from torch_models import fashion, lenet, session

from agent.schema import FaultError
from compress.records import Data, Samples
from compress.techniques.qat import Qat, QatParams
from compress.training import quantisation
from compress.training.quantisation_layers import executed, fold_batch_norm
from compress.training.session import outputs


class Small(nn.Module):
    """Conv, BatchNorm and ReLU twice, one of the convolutions without a bias; a Linear with BatchNorm; a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.dense, self.norm, self.head = nn.Linear(8 * 36, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.dense(self.body(image).flatten(1)))))


def small() -> nn.Module:
    """With BatchNorm statistics that are not trivial."""
    torch.manual_seed(0)
    model = Small()
    model.train()(torch.as_tensor(fashion().calib_feeds["image"]))
    return model.eval()


def test_batch_norm_is_merged() -> None:
    """The module without BatchNorm gives the same outputs; where a convolution is read elsewhere too, all stays as it was."""
    model, images = small(), torch.as_tensor(fashion().calib_feeds["image"][:5])
    before = model(images)
    assert len(fold_batch_norm(model, [images])) == 3
    assert not any(isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d) for one in model.modules())
    torch.testing.assert_close(model(images), before, rtol=1e-4, atol=1e-4)

    class Twice(Small):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            first = self.dense(self.body(image).flatten(1))
            return self.head(first + self.norm(first))

    torch.manual_seed(0)
    other = Twice().eval()
    other.norm.running_var.fill_(0.3)
    state = {name: value.clone() for name, value in other.state_dict().items()}
    assert fold_batch_norm(other, [images]) == []
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("when", ["before", "after"])
def test_grids_hold_with_batch_norm(when: str) -> None:
    """Merged before training or after it, the weights of the whole are on grids of their channels: what is exported is what was trained."""
    params = QatParams(weight_bits=4, activation_bits=32, granularity="channel", fold_batch_norm=when, epochs=1)
    model = quantisation.train(small(), params, session(small()))
    assert not any(isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d) for one in model.modules())
    for layer in (model.body[0], model.body[3], model.dense, model.head):
        assert max(len(channel.unique()) for channel in layer.weight) <= 16


def test_first_and_last_layer_keep_eight_bits() -> None:
    """Below 4 bits the layers at the ends keep 8 unless it is said otherwise; the order is that of running."""
    layers = executed(lenet(), [torch.zeros(1, 1, 28, 28)])
    assert [layer.name for layer in layers] == ["conv1", "conv2", "fc1", "fc2", "fc3"]

    def bits(**params: int) -> list[int]:
        return [one.weight_bits for one in quantisation.choices(layers, QatParams.model_validate(params))]

    assert bits(weight_bits=2) == [8, 2, 2, 2, 8]
    assert bits(weight_bits=4) == [4, 4, 4, 4, 4]
    assert bits(weight_bits=4, activation_bits=2) == [8, 4, 4, 4, 8]
    assert bits(weight_bits=1, first_last_bits=4) == [4, 1, 1, 1, 4]


@pytest.mark.parametrize(
    ("params", "least"),
    [
        ({}, 0.9),
        ({"weight_bits": 4, "activation_bits": 4}, 0.85),
        ({"weight_bits": 2, "activation_bits": 6, "weight_method": "ternary", "activation_method": "pact"}, 0.8),
        ({"weight_bits": 1, "activation_bits": 32, "weight_method": "loss-aware"}, 0.75),
        ({"weight_bits": 1, "activation_bits": 8, "activation_method": "percentile"}, 0.75),
        ({"weight_bits": 4, "activation_bits": 6, "alpha": 0.5}, 0.9),
    ],
)
def test_lenet_trains(params: dict[str, object], least: float) -> None:
    """After an epoch plain layers with weights on their grids score well above chance (0.1), as `tell` says."""
    model = lenet()
    here = session(model)
    technique = Qat("qat", params=QatParams)
    model = technique.train(model, technique.check({**params, "epochs": 1}), here)
    told = here.told["step"]
    exact = 0 if "activation_bits" in params and params["activation_bits"] != 8 else 0.01  # 8 bits are left to int8-static
    assert here.score(model) == pytest.approx(told["held_out"][-1], abs=exact)
    assert here.score(model) > least
    for name, layer in told["layers"].items():
        weight = model.get_submodule(name).weight
        parts = weight if layer["granularity"] == "channel" else [weight]
        assert max(len(part.unique()) for part in parts) <= 2 ** layer["weight_bits"]
    copied = copy.deepcopy(model)
    torch.testing.assert_close(outputs(copied, here.held_out), outputs(model, here.held_out))
    assert {type(layer) for layer in model.children()} <= {nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.Flatten}


class Speech(nn.Module):
    """A GRU, attention, a one-dimensional and a transposed convolution over [n, 1, 28, 28] read as 28 steps of 28 values."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.attention = nn.GRU(28, 16, batch_first=True), nn.MultiheadAttention(16, 2, batch_first=True)
        self.conv, self.up, self.head = nn.Conv1d(16, 8, 3), nn.ConvTranspose1d(8, 6, 2), nn.Linear(6, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        steps, _ = self.gru(image.squeeze(1))
        mixed, _ = self.attention(steps, steps, steps)
        return self.head(self.up(torch.relu(self.conv(mixed.transpose(1, 2)))).mean(2))


def test_other_layers() -> None:
    """Recurrent and attention layers train with weights on their grids too, and are plain layers with these weights in the end."""
    torch.manual_seed(0)
    model = Speech()
    here = session(model)
    untrained = here.score(model)
    before = model.gru.weight_hh_l0.clone()
    quantisation.train(
        model, QatParams(weight_bits=3, activation_bits=32, granularity="channel", first_last_bits=4, epochs=2, learning_rate=1e-2), here
    )
    assert here.score(model) == max(here.told["step"]["held_out"])
    assert here.score(model) > untrained + 0.1
    parts = [model.gru.weight_hh_l0, model.attention.in_proj_weight, model.attention.out_proj.weight, model.conv.weight]
    assert not torch.equal(model.gru.weight_hh_l0, before)
    assert max(len(channel.unique()) for weight in [*parts, model.up.weight.transpose(0, 1)] for channel in weight) <= 16
    assert max(len(channel.unique()) for channel in model.attention.in_proj_weight) <= 8
    assert model.gru._flat_weights[1] is model.gru.weight_hh_l0


def test_bits_one_after_another() -> None:
    """One training may follow another with more or fewer bits; the last one decides. The same training gives the same weights."""
    models = [lenet(), lenet()]
    for model in models:
        here = session(model)
        quantisation.train(model, QatParams(weight_bits=4, activation_bits=4, epochs=0), here)
        quantisation.train(model, QatParams(weight_bits=3, activation_bits=8, epochs=1, first_last_bits=4), here)
        assert type(model.get_submodule("fc1")) is nn.Linear
        assert not hasattr(model.fc1, quantisation.INPUT)
        assert len(model.fc1.weight.unique()) <= 8
        assert here.score(model) > 0.8
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True))
    again = session(models[0])
    quantisation.train(models[0], QatParams(weight_bits=3, activation_bits=4, epochs=0), again)
    quantisation.train(models[0], QatParams(weight_bits=3, activation_bits=4, epochs=0), again)
    assert len(models[0].fc1._forward_pre_hooks) == 1


def test_nothing_to_quantise() -> None:
    """A module without such layers is refused."""
    model = nn.Sequential(nn.Flatten(), nn.Softmax(1))
    with pytest.raises(FaultError, match="no Linear, convolution"):
        quantisation.train(model, QatParams(), session(model))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"weight_bits": 5}, "weight_bits"),
        ({"weight_bits": 2, "weight_method": "binary"}, "binary is for weight_bits 1, not 2"),
        ({"weight_bits": 1, "weight_method": "lsq"}, "lsq is for weight_bits 2, 3, 4, 6, 8, not 1"),
        ({"fold_batch_norm": "after"}, "granularity channel"),
        ({"weight_bits": 2, "weight_method": "loss-aware", "granularity": "block"}, "no scales per block"),
    ],
)
def test_grids_that_there_are_not(params: dict[str, object], message: str) -> None:
    """Combinations without a meaning are refused before any work."""
    with pytest.raises(ValueError, match=message):
        Qat("qat", params=QatParams).check(params)


def test_imitation_without_labels() -> None:
    """Without labels it learns to give what the float module gives, and is chosen by that."""
    data = fashion()
    assert data.train is not None
    assert data.held_out is not None
    unlabelled = Data(
        data.eval_feeds, data.calib_feeds, None, data.transpose, Samples(data.train.feeds, None), Samples(data.held_out.feeds, None)
    )
    model = lenet()
    here = session(model, unlabelled)
    quantisation.train(model, QatParams(weight_bits=4, activation_bits=32, epochs=1), here)
    assert here.score(model) > 10  # dB
