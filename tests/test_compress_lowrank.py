"""Low rank in the ONNX graph, without training: the mathematics, the ranks, and what becomes of the layers."""

import numpy as np
import onnx
import pytest
from compress_models import context, example, run_model, save_graph
from onnx import helper, numpy_helper

from agent.schema import FaultError
from compress import onnx_graph, onnx_model, recipes
from compress.build import build
from compress.recipes import Recipe, Step
from compress.techniques import Workspace, find

LOWRANK = find("lowrank", "onnx")
RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((16, 24)).astype(np.float32)
"""Outputs x inputs of the layer under test."""


def factored(path, tmp_path, samples=None, **params):
    folder = tmp_path / "made"
    folder.mkdir()
    feeds = {"image": RNG.standard_normal((200, *input_shape(path))).astype(np.float32)} if samples is None else {"image": samples}
    return LOWRANK.apply(path, LOWRANK.check(params), Workspace(folder, feeds))


def input_shape(path):
    return [dim.dim_value for dim in onnx.load(path).graph.input[0].type.tensor_type.shape.dim][1:]


def low_rank_matrix(rank):
    return (RNG.standard_normal((16, rank)) @ RNG.standard_normal((rank, 24))).astype(np.float32)


def gemm(path, matrix=MATRIX, bias=None, trans=1):
    constants = {"w": matrix if trans else matrix.T.copy()} | ({} if bias is None else {"b": bias})
    nodes = [helper.make_node("Gemm", ["image", *constants], ["logits"], transB=trans)]
    return save_graph(path, nodes, [1, 24], [1, 16], [numpy_helper.from_array(value, name) for name, value in constants.items()])


def matmul(path, matrix):
    nodes = [helper.make_node("MatMul", ["image", "w"], ["logits"])]
    return save_graph(path, nodes, [1, 5, 24], [1, 5, 16], [numpy_helper.from_array(matrix.T.copy(), "w")])


def convolution(path, matrix, kernel=1, group=1, **attributes):
    weights = matrix.reshape(16, -1, kernel, kernel)
    nodes = [helper.make_node("Conv", ["image", "w", "b"], ["logits"], group=group, **attributes)]
    bias = numpy_helper.from_array(np.arange(16, dtype=np.float32), "b")
    shape = [1, weights.shape[1] * group, 8, 8]
    return save_graph(path, nodes, shape, [1, 16, None, None], [numpy_helper.from_array(weights, "w"), bias])


def outputs_of(path, samples):
    return run_model(path, "onnx", {"image": samples})["logits"]


@pytest.mark.parametrize("weighting", ["activations", "none"])
@pytest.mark.parametrize(
    "write",
    [
        lambda path, matrix: gemm(path, matrix, np.ones(16, np.float32)),
        lambda path, matrix: gemm(path, matrix, trans=0),
        matmul,
        convolution,
        lambda path, matrix: convolution(path, matrix[:, :18].copy(), 3, strides=[2, 2], pads=[1, 1, 1, 1]),
    ],
)
def test_a_layer_of_low_rank_is_factored_without_loss(tmp_path, write, weighting):
    """Weights of rank 3 become two layers of rank 3 that give the same, whatever kind of layer it is."""
    path = write(tmp_path / "m.onnx", low_rank_matrix(3))
    applied = factored(path, tmp_path, rank=3, weighting=weighting)
    samples = RNG.standard_normal((4, *input_shape(path))).astype(np.float32)
    expected = outputs_of(path, samples)
    np.testing.assert_allclose(outputs_of(applied.path, samples), expected, atol=1e-4 * np.abs(expected).max())
    assert applied.told["ranks"] == {"w": 3}
    assert applied.told["energy"]["w"] == pytest.approx(1)
    assert onnx_model.parameters(applied.path) < onnx_model.parameters(path)


def test_without_samples_the_truncation_is_that_of_the_singular_values(tmp_path):
    """The best approximation of rank 4 there is (Eckart and Young)."""
    applied = factored(gemm(tmp_path / "m.onnx"), tmp_path, rank=4, weighting="none")
    u, s, v = np.linalg.svd(MATRIX)
    samples = RNG.standard_normal((4, 24)).astype(np.float32)
    np.testing.assert_allclose(outputs_of(applied.path, samples), samples @ (u[:, :4] * s[:4] @ v[:4]).T, atol=1e-4)
    assert applied.told["energy"]["w"] == pytest.approx((s[:4] ** 2).sum() / (s**2).sum(), rel=1e-5)


def test_samples_tell_which_directions_matter_and_what_is_lost_on_average(tmp_path):
    """Inputs along few directions around a mean far from zero: rank 4 loses less than a tenth of what it does without them."""
    spread, mean = RNG.standard_normal((3, 24)), 5 * RNG.standard_normal(24)
    samples = (RNG.standard_normal((300, 3)) @ spread + mean + 0.01 * RNG.standard_normal((300, 24))).astype(np.float32)
    path = gemm(tmp_path / "m.onnx", bias=np.ones(16, np.float32))
    errors = []
    for weighting in ("activations", "none"):
        (folder := tmp_path / weighting).mkdir()
        applied = factored(path, folder, samples[:200], rank=4, weighting=weighting)
        errors.append(np.square(outputs_of(applied.path, samples[200:]) - outputs_of(path, samples[200:])).sum())
    assert errors[0] < 0.1 * errors[1]


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_energy_is_kept(tmp_path, share):
    """The smallest rank that keeps the share; one less would not."""
    applied = factored(gemm(tmp_path / "m.onnx", (MATRIX * 0.5 ** np.arange(16)[:, None]).astype(np.float32)), tmp_path, energy=share)
    assert applied.told["energy"]["w"] >= share


@pytest.mark.parametrize("allocation", ["network", "layer"])
def test_a_ratio_of_the_parameters_goes(tmp_path, allocation):
    """Of all weights, or of each layer's: no more are left than asked for."""
    source, data = example(10, 50)
    applied = factored(source.onnx, tmp_path, data.calib_feeds["image"], ratio=0.6, allocation=allocation)
    before, after = onnx_model.parameters(source.onnx), onnx_model.parameters(applied.path)
    assert 0.35 * before < after < 0.41 * before
    assert (len(applied.told["ranks"]) == 5) == (allocation == "layer")


def test_ranks_are_spent_where_they_keep_most(tmp_path):
    """Half of the example's parameters go at under 1.5 points of accuracy; thin layers, whose ranks are dear, stay whole."""
    source, data = example(1000, 200)
    recipe = Recipe("lowrank", (Step("lowrank", {"ratio": 0.5}),))
    manifest = build(source, recipe, "onnx", data, context(tmp_path)).manifest
    assert set(manifest["steps"]["lowrank"]["ranks"]) == {"fc1.weight", "fc2.weight"}
    assert manifest["reference_accuracy"] - manifest["accuracy"] < 0.015
    assert manifest["size_bytes"] < 0.52 * manifest["float_size_bytes"]


def test_what_follows_may_quantise_and_convert(tmp_path):
    """Rank 20 and 12 of the dense layers, then int8 as TFLite: a tenth of the bytes, at most two points lost, no BATCH_MATMUL."""
    from compress import tflite_model

    source, data = example(1000, 200)
    recipe = Recipe("small", (Step("lowrank", {"rank": {"fc1.weight": 20, "fc2.weight": 12}}), Step("int8-static")))
    variant = build(source, recipe, "tflite", data, context(tmp_path))
    assert variant.manifest["size_bytes"] < 0.1 * variant.manifest["float_size_bytes"]
    assert variant.manifest["reference_accuracy"] - variant.manifest["accuracy"] < 0.02
    assert "BATCH_MATMUL" not in tflite_model.operator_names(tflite_model.read(variant.folder / "model.tflite"))


@pytest.mark.parametrize("write", [gemm, lambda path: matmul(path, MATRIX)])
def test_every_factor_has_a_bias(tmp_path, write):
    """A dense layer without one becomes BATCH_MATMUL, whose int8 form gives garbage on every runtime."""
    graph = onnx.load(factored(write(tmp_path / "m.onnx"), tmp_path, rank=4).path).graph
    products = [node for node in graph.node if node.op_type in ("Gemm", "MatMul")]
    sums = [node for node in graph.node if node.op_type == "Add"]
    assert len(products) == 2
    assert len(sums) + sum(len(node.input) == 3 for node in products) == 2


def test_where_nothing_gets_smaller_that_is_said(tmp_path):
    """A rank that two layers would need more parameters for, a grouped convolution, no such layer, and a name that is not there."""
    for write, params in [
        (gemm, {"rank": 16}),
        (lambda path: convolution(path, MATRIX[:, :6].copy(), group=4), {"rank": 1}),
        (gemm, {"rank": {"v": 1}}),
    ]:
        (folder := tmp_path / str(len(list(tmp_path.iterdir())))).mkdir()
        with pytest.raises(FaultError, match="lowrank") as caught:
            factored(write(folder / "m.onnx"), folder, **params)
        assert caught.value.fault.code == "unsupported_op"


def test_only_one_of_ratio_energy_and_rank():
    """Two of them would contradict each other."""
    with pytest.raises(ValueError, match="one of ratio, energy and rank"):
        recipes.step({"lowrank": {"ratio": 0.5, "rank": 3}})


def test_moments_are_those_of_the_outputs(tmp_path):
    """Mean and covariance over samples and positions, as numpy has them."""
    path = convolution(tmp_path / "m.onnx", MATRIX)
    model = onnx_model.parse(path.read_bytes(), path.name)
    samples = RNG.standard_normal((6, 24, 8, 8)).astype(np.float32)
    found = onnx_graph.layers(model, "test")
    (seen,) = onnx_graph.moments(model, found, [{"image": samples[at : at + 1]} for at in range(6)]).values()
    rows = outputs_of(path, samples).transpose(0, 2, 3, 1).reshape(-1, 16)
    np.testing.assert_allclose(seen.mean, rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(seen.covariance, np.cov(rows.T, bias=True), atol=1e-4)
