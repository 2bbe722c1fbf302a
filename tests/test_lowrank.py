"""Layers as products of smaller ones: exact where the weights are of that rank, counted to the parameter, and run as ONNX and TFLite."""

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from compress_models import EXAMPLE, context
from torch import Tensor, nn
from torch_models import fashion, lenet, lenet_source, session

from agent.schema import FaultError
from compress.build import Source, build
from compress.recipes import Recipe, Step
from compress.records import Data
from compress.techniques.lowrank import TECHNIQUES, LowRankParams
from compress.training import cost
from compress.training.export import to_onnx
from compress.training.factors import Candidate, Cp, Decomposition, Moments, Spatial, Svd, Tucker
from compress.training.lowrank import decomposition, factorised, moments, reaching
from compress.training.recurrent import InputSvd, LoopSvd, Stacked
from compress.training.surgery import exchanged, own_layers


def factors(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def with_weight(layer: nn.Module, weight: Tensor) -> nn.Module:
    layer.load_state_dict({**layer.state_dict(), "weight": weight})
    return layer


def rank_two_linear() -> nn.Module:
    return with_weight(nn.Linear(9, 7), factors(7, 2) @ factors(2, 9))


def rank_two_conv1x1() -> nn.Module:
    layer = nn.Conv2d(9, 7, 1, stride=2, padding=1)
    return with_weight(layer, (factors(7, 2) @ factors(2, 9)).reshape(7, 9, 1, 1))


def channel_conv() -> nn.Module:
    return with_weight(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False), torch.einsum("or,rihw->oihw", factors(8, 2), factors(2, 4, 3, 3))
    )


def separable_conv() -> nn.Module:
    weight = torch.einsum("rih,row->oihw", factors(3, 4, 5), factors(3, 6, 3))
    return with_weight(nn.Conv2d(4, 6, (5, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2)), weight)


def tucker_conv() -> nn.Module:
    weight = torch.einsum("abhw,oa,ib->oihw", factors(3, 2, 3, 3), factors(8, 3), factors(6, 2))
    return with_weight(nn.Conv2d(6, 8, 3, stride=2, padding="valid", bias=False), weight)


def tucker_conv1d() -> nn.Module:
    weight = torch.einsum("abh,oa,ib->oih", factors(3, 2, 5), factors(8, 3), factors(6, 2))
    return with_weight(nn.Conv1d(6, 8, 5, padding=2), weight)


def cp_conv() -> nn.Module:
    weight = torch.einsum("or,ir,hr,wr->oihw", factors(8, 2), factors(6, 2), factors(3, 2), factors(4, 2))
    return with_weight(nn.Conv2d(6, 8, (3, 4), stride=2, padding=1), weight)


def cp_conv3d() -> nn.Module:
    weight = torch.einsum("or,ir,ar,br,cr->oiabc", factors(8, 2), factors(6, 2), factors(3, 2), factors(2, 2), factors(4, 2))
    return with_weight(nn.Conv3d(6, 8, (3, 2, 4), padding=(1, 0, 2)), weight)


EXACT = [
    (rank_two_linear(), Svd, (2,), (5, 9)),
    (rank_two_conv1x1(), Svd, (2,), (2, 9, 6, 6)),
    (channel_conv(), Svd, (2,), (2, 4, 9, 8)),
    (separable_conv(), Spatial, (3,), (2, 4, 11, 9)),
    (tucker_conv(), Tucker, (3, 2), (2, 6, 9, 9)),
    (tucker_conv1d(), Tucker, (3, 2), (2, 6, 9)),
    (cp_conv(), Cp, (2,), (2, 6, 9, 9)),
    (cp_conv3d(), Cp, (2,), (2, 6, 5, 6, 7)),
]


@pytest.mark.parametrize(("layer", "kind", "ranks", "shape"), EXACT, ids=lambda one: getattr(one, "__name__", ""))
def test_weights_of_that_rank_are_kept(layer: nn.Module, kind: type[Decomposition], ranks: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """A layer whose weights are of a rank gives the same at that rank, with the parameters that were counted and zero biases within."""
    one = kind(layer)  # type: ignore[call-arg]
    built = one.build(ranks)
    inputs = factors(*shape)
    assert cost.parameters(built) == one.parameters(ranks) < cost.parameters(layer)
    torch.testing.assert_close(built(inputs), layer(inputs), rtol=1e-4, atol=1e-4 if kind is Cp else 1e-5)
    for within in list(built.children())[:-1]:
        assert not within.bias.any()


@pytest.mark.parametrize(("layer", "kind", "ranks", "shape"), [row for row in EXACT if row[1] is not Cp])
def test_energy_finds_the_rank(layer: nn.Module, kind: type[Decomposition], ranks: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """The smallest candidate that keeps all energy has the weights' own ranks."""
    found = next(one for one in kind(layer).candidates() if one.quality > 1 - 1e-9)  # type: ignore[call-arg]
    assert found.ranks == ranks


def test_what_a_layer_gives_counts_more_than_its_weights() -> None:
    """Weights of full rank whose inputs vary along two directions only: at rank 2 what they give is kept, and lost by the weights alone."""
    layer, inputs = nn.Linear(9, 7), factors(50, 2) @ factors(2, 9) + factors(9)
    outputs = layer(inputs).detach()
    given = Moments(outputs.double().mean(0), torch.cov(outputs.double().T, correction=0))
    weighted, plain = (Svd(layer, one).build((2,))(inputs) - outputs for one in (given, None))
    assert weighted.norm() < 1e-2 * outputs.norm() < 0.1 * plain.norm()


def test_moments_are_those_of_the_outputs() -> None:
    """Mean and covariance over samples for a linear layer, over samples and places for a convolution."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 26 * 26, 4)).eval()
    here = session(model)
    (images,) = here.train.inputs
    found = moments(model, {"0": model[0], "2": model[2]}, here)
    for name, outputs in (("0", model[0](images).movedim(1, -1).flatten(0, -2)), ("2", model(images))):
        torch.testing.assert_close(found[name].mean.clone(), outputs.detach().double().mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            found[name].covariance.clone(), torch.cov(outputs.detach().double().T, correction=0), rtol=1e-3, atol=1e-5
        )


def recurrent(kind: type[nn.RNNBase], **options: object) -> nn.RNNBase:
    torch.manual_seed(3)
    layer = kind(12, 10, **options)
    ends = ("", "_reverse") if layer.bidirectional else ("",)
    shared = factors(2, 12)
    for end in ends:
        gates = len(layer.weight_ih_l0)
        layer.load_state_dict(
            {
                **layer.state_dict(),
                f"weight_ih_l0{end}": factors(gates, 2) @ shared / 3,
                f"weight_hh_l0{end}": factors(gates, 2) @ factors(2, 10) / 9,
            }
        )
    return layer


RECURRENT = [
    (nn.LSTM, {"batch_first": True}),
    (nn.GRU, {"bidirectional": True}),
    (nn.GRU, {"batch_first": True, "bias": False}),
    (nn.RNN, {"nonlinearity": "relu"}),
    (nn.LSTM, {"bidirectional": True, "batch_first": True}),
    (nn.RNN, {}),
]


@pytest.mark.parametrize(("kind", "options"), RECURRENT)
@pytest.mark.parametrize(("way", "ranks"), [(InputSvd, (2,)), (LoopSvd, (2, 2)), (LoopSvd, (0, 2))])
def test_recurrent_layers_are_kept(
    kind: type[nn.RNNBase], options: dict[str, object], way: type[Decomposition], ranks: tuple[int, ...]
) -> None:
    """Outputs and last states are the layer's, with an initial state and without; the parameters are those that were counted."""
    layer = recurrent(kind, **options)
    one = way(layer)  # type: ignore[call-arg]
    built, inputs = one.build(ranks), factors(4, 5, 12)
    assert cost.parameters(built) == one.parameters(ranks)
    state: object = factors(2 if layer.bidirectional else 1, 4 if layer.batch_first else 5, 10)
    for start in (None, (state, state) if kind is nn.LSTM else state):
        torch.testing.assert_close(built(inputs, start), layer(inputs, start), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_deep_recurrent_layers_become_a_row_of_them(kind: type[nn.RNNBase]) -> None:
    """Three layers of two directions, one after the other, give what the one layer gives, states too."""
    layer = kind(6, 5, num_layers=3, bidirectional=True, batch_first=True)
    start: object = factors(6, 4, 5)
    start = (start, start) if kind is nn.LSTM else start
    torch.testing.assert_close(Stacked(layer)(factors(4, 7, 6), start), layer(factors(4, 7, 6), start))


class Speech(nn.Module):
    """[n, 9, 12] -> logits [n, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(12, 10, num_layers=2, batch_first=True)
        self.out = nn.Linear(10, 3)

    def forward(self, sound: Tensor) -> Tensor:
        return self.out(self.gru(sound)[0][:, -1])


@pytest.mark.parametrize("part", ["input", "all"])
def test_recurrent_layers_are_exported(part: str, tmp_path: Path) -> None:
    """Both forms run as ONNX with the module's outputs; the unrolled one has no recurrent operator and says so."""
    torch.manual_seed(0)
    model, inputs = Speech().eval(), factors(1, 9, 12)
    data = Data({}, {"sound": inputs.numpy()}, None, {}, None, None)
    here = session(model, replace_splits(data, inputs))
    thin = factorised(model, LowRankParams.model_validate({"rank": 2, "recurrent": part, "epochs": 0}), here)
    path = tmp_path / "model.onnx"
    to_onnx(thin, {"sound": inputs}, path)
    (got,) = onnxruntime.InferenceSession(str(path)).run(None, {"sound": inputs.numpy()})
    np.testing.assert_allclose(got, thin(inputs).detach().numpy(), atol=1e-5)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert ("GRU" in operators) == (part == "input")
    assert "MatMul" not in operators
    assert {one["kind"] for one in here.told["step"]["ranks"].values()} >= {"recurrent-input" if part == "input" else "recurrent"}
    assert any("unrolled" in note for note in here.notes) == (part == "all")


def replace_splits(data: Data, inputs: Tensor) -> Data:
    from dataclasses import replace

    from compress.records import Samples

    samples = Samples({"sound": inputs.numpy()}, None)
    return replace(data, train=samples, held_out=samples)


@pytest.mark.parametrize(
    ("removed", "ranks"),
    [(0, {}), (40, {"a": (3,)}), (41, {"a": (2,)}), (75, {"a": (1,)}), (91, {"a": (1,), "b": (1,)}), (1000, {"a": (1,), "b": (1,)})],
)
def test_the_ratio_is_reached_at_the_least_price(removed: int, ranks: dict[str, tuple[int, ...]]) -> None:
    """By hand: a parameter of `a` costs 0.0025, then 0.0033, then 0.015 of its quality, one of `b` 0.03: they go in this order."""
    table = {
        "a": [Candidate((1,), 10, 0.5), Candidate((2,), 30, 0.8), Candidate((3,), 60, 0.9)],
        "b": [Candidate((1,), 5, 0.85)],
    }
    assert {name: one.ranks for name, one in reaching(table, {"a": 100, "b": 10}, removed).items()} == ranks


def test_ranks_by_name_are_the_known_parameter_count() -> None:
    """LeNet-5 with fc1 at rank 20 and fc2 at rank 12 has 16,538 of its 61,706 parameters, and told what it cost before and after."""
    model = lenet()
    here = session(model)
    thin = factorised(model, LowRankParams(rank={"fc1": 20, "fc2": 12}, epochs=0), here)
    told = here.told["step"]
    assert told["before"]["parameters"] == 61_706
    assert told["after"]["parameters"] == cost.parameters(thin) == 61_706 - 48_120 - 10_164 + 10_540 + 2_544
    assert told["before"]["macs"] - told["after"]["macs"] == 48_000 + 10_080 - 20 * 520 - 12 * 204
    assert set(told["ranks"]) == {"fc1", "fc2"}


@pytest.mark.parametrize("by", ["energy", "sensitivity"])
def test_a_ratio_is_reached(by: str) -> None:
    """Half of the parameters go, and hardly more than that; what only one layer's loss tells is scored on the held-out samples."""
    model = lenet()
    thin = factorised(model, LowRankParams.model_validate({"ratio": 0.5, "by": by, "epochs": 0}), session(model))
    assert cost.parameters(thin) <= 0.5 * 61_706
    assert by == "sensitivity" or cost.parameters(thin) > 0.45 * 61_706


def test_layers_that_would_grow_are_left(tmp_path: Path) -> None:
    """All energy takes all ranks, with which every layer has more parameters: nothing is changed, and the step is refused."""
    with pytest.raises(FaultError, match="no layer has fewer parameters") as refusal:
        factorised(lenet(), LowRankParams(energy=1.0), session(lenet()))
    assert refusal.value.fault.code == "unsupported_op"


def test_a_layer_that_is_not_there(tmp_path: Path) -> None:
    """The layers that there are are named."""
    with pytest.raises(FaultError, match="no layer 'fc9'") as refusal:
        factorised(lenet(), LowRankParams(rank={"fc9": 2}), session(lenet()))
    assert "fc1" in refusal.value.fault.next


def test_shared_weights_are_left_alone() -> None:
    """A weight that two layers share, and a layer that is there twice, are not among what can be exchanged."""
    shared, twice = nn.Linear(4, 4), nn.Linear(4, 4)
    tied = nn.Linear(4, 4)
    tied.weight = shared.weight
    model = nn.Sequential(shared, tied, twice, nn.ReLU(), twice, nn.Linear(4, 4))
    assert [name for name, one in own_layers(model).items() if isinstance(one, nn.Linear)] == ["5"]


def test_grouped_convolutions_are_left_alone() -> None:
    """A depthwise convolution, and one with other than zero padding, have no decomposition here."""
    params = LowRankParams()
    assert decomposition(nn.Conv2d(4, 4, 3, groups=4), params) is None
    assert decomposition(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), params) is None
    assert isinstance(decomposition(nn.Conv2d(4, 4, 1), params), Svd)


@pytest.mark.parametrize("params", [{"ratio": 0.5, "rank": 3}, {"ratio": 1.0}, {"rank": 0}, {"conv": "qr"}])
def test_parameters_are_checked(params: dict[str, object]) -> None:
    """What contradicts itself or is out of range is refused before any work."""
    with pytest.raises(ValueError, match="lowrank"):
        TECHNIQUES[0].check(params)


@pytest.mark.parametrize("conv", ["tucker", "cp", "spatial", "channel"])
def test_factorised_and_trained(conv: str, tmp_path: Path) -> None:
    """Each kind of convolution exports to ONNX with the module's outputs, and an epoch of training scores higher than none."""
    model = lenet()
    here = session(model)
    thin = factorised(
        model, LowRankParams.model_validate({"rank": {"conv2": 8, "fc1": 10}, "conv": conv, "weighting": "none", "epochs": 1}), here
    )
    told = here.told["step"]
    assert told["held_out"][-1] > told["untrained"]
    assert told["ranks"]["conv2"]["kind"] == {"channel": "svd"}.get(conv, conv)
    path = tmp_path / "model.onnx"
    to_onnx(thin, here.example(), path)
    images = fashion().eval_feeds["image"][:1]
    (got,) = onnxruntime.InferenceSession(str(path)).run(None, {"image": images})
    np.testing.assert_allclose(got, thin(torch.tensor(images)).detach().numpy(), atol=1e-4)


def test_low_rank_then_int8_on_tflite(tmp_path: Path) -> None:
    """Needs the package index. In int8 the factors stay FULLY_CONNECTED, none is a BATCH_MATMUL: an eighth of the size, little lost."""
    from ai_edge_litert.interpreter import Interpreter

    source = Source("lenet", EXAMPLE / "model.onnx", EXAMPLE / "model.tflite", lenet_source(tmp_path))
    recipe = Recipe("lowrank-int8", (Step("lowrank", {"rank": {"fc1": 20, "fc2": 12}, "epochs": 1}), Step("int8-static")))
    made = build(source, recipe, "tflite", fashion(), context(tmp_path))
    interpreter = Interpreter(model_path=str(made.folder / "model.tflite"))
    interpreter.allocate_tensors()
    assert not {one["op_name"] for one in interpreter._get_ops_details()} & {"BATCH_MATMUL", "MATMUL"}
    assert made.manifest["size_bytes"] * 8 < made.manifest["float_size_bytes"]
    assert made.manifest["accuracy"] > made.manifest["reference_accuracy"] - 0.05


def test_the_same_again() -> None:
    """Two runs give the same weights to the bit."""
    first, second = (factorised(copy.deepcopy(one), LowRankParams(epochs=1), session(one)) for one in (lenet(), lenet()))
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_exchanged_at_the_root() -> None:
    """A module that is itself the layer becomes its replacement."""
    replacement = nn.Identity()
    assert exchanged(nn.Linear(2, 2), {"": replacement}) is replacement


def test_training_that_costs_more_than_it_gains_is_left_out() -> None:
    """With a learning rate that ruins the network the factors stay as they were, and a note says so."""
    here = session(lenet())
    factorised(lenet(), LowRankParams(rank={"fc1": 20}, epochs=1, learning_rate=1.0), here)
    told = here.told["step"]
    assert told["held_out"][0] < told["untrained"] == told["after"]["score"]
    assert any("gained nothing" in note for note in here.notes)
