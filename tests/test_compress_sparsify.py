"""Magnitude pruning in the ONNX graph: which weights become zero."""

import numpy as np
import onnx
import pytest
from compress_models import context, example, images, random_data, run_model, write_onnx
from onnx import helper, numpy_helper

from agent.schema import FaultError
from compress.build import Source, build
from compress.onnx_graph import Layer
from compress.recipes import Recipe, Step
from compress.techniques import Workspace, find
from compress.techniques.onnx_sparsify import lamp, n_of_m

SPARSIFY = find("sparsify", "onnx")
RNG = np.random.default_rng(0)


def sparse(path, tmp_path, **params):
    (folder := tmp_path / "made").mkdir()
    applied = SPARSIFY.apply(path, SPARSIFY.check(params), Workspace(folder, {}))
    return applied, {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(applied.path).graph.initializer}


def original(tmp_path):
    path = write_onnx(tmp_path / "m.onnx")
    return path, {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_the_smallest_weights_of_each_layer_go(tmp_path):
    """A share of 0.7 in each; what stays is as it was and larger than what went; biases are left alone."""
    path, before = original(tmp_path)
    applied, after = sparse(path, tmp_path, sparsity=0.7, scope="layer")
    for name in ("conv_w", "fc1_w", "fc2_w"):
        stays = after[name] != 0
        assert np.mean(~stays) == pytest.approx(0.7, abs=0.01)
        np.testing.assert_array_equal(after[name][stays], before[name][stays])
        assert np.abs(before[name][~stays]).max() <= np.abs(before[name][stays]).min()
        assert applied.told["sparsity"][name] == pytest.approx(np.mean(~stays))
    np.testing.assert_array_equal(after["fc1_b"], before["fc1_b"])


def test_over_the_network_thin_layers_keep_more(tmp_path):
    """The share is that of all weights together; the 72 of the convolution keep most of theirs."""
    path, _ = original(tmp_path)
    applied, after = sparse(path, tmp_path, sparsity=0.9)
    weights = np.concatenate([after[name].ravel() for name in ("conv_w", "fc1_w", "fc2_w")])
    assert np.mean(weights == 0) == pytest.approx(0.9, abs=1e-3)
    assert applied.told["sparsity"]["conv_w"] < 0.3


def test_lamp_scores():
    """Squares 1, 9, 4 and 16: each over the sum of those that are not smaller."""
    scores = lamp(np.array([[1.0, 9.0], [4.0, 16.0]]), np.ones((2, 2), np.int64))
    np.testing.assert_allclose(scores, [[1 / 30, 9 / 25], [4 / 29, 1.0]])


def test_blocks_go_whole(tmp_path):
    """Each block of 4 outputs x 8 inputs is zero or untouched; half of them are."""
    path, before = original(tmp_path)
    _, after = sparse(path, tmp_path, sparsity=0.5, granularity="block", block=[4, 8], scope="layer")
    blocks = (after["fc1_w"] != 0).reshape(16, 4, 144, 8).swapaxes(1, 2).reshape(16 * 144, 32)
    assert set(blocks.sum(axis=1)) == {0, 32}
    assert np.mean(blocks[:, 0]) == pytest.approx(0.5, abs=0.01)
    means = np.square(before["fc1_w"]).reshape(16, 4, 144, 8).mean(axis=(1, 3)).ravel()
    assert means[blocks[:, 0]].min() >= means[~blocks[:, 0]].max()


def test_blocks_at_the_edge_are_smaller(tmp_path):
    """A block larger than a layer is the layer: nine tenths of a network of three blocks are no whole one."""
    path, _ = original(tmp_path)
    _, after = sparse(path, tmp_path, sparsity=0.5, granularity="block", block=[7, 1000], scope="layer")
    assert 0.3 < np.mean(after["fc1_w"] == 0) <= 0.5


def test_two_of_four_stay(tmp_path):
    """Of each four along the inputs the two largest; a convolution with one channel has no fours and stays whole."""
    path, before = original(tmp_path)
    applied, after = sparse(path, tmp_path, granularity="n:m")
    groups = (after["fc1_w"] != 0).reshape(-1, 4)
    assert set(groups.sum(axis=1)) == {2}
    values = np.abs(before["fc1_w"]).reshape(-1, 4)
    assert (np.where(groups, values, np.inf).min(axis=1) >= np.where(groups, 0, values).max(axis=1)).all()
    assert applied.told["sparsity"] == {"conv_w": 0.0, "fc1_w": 0.5, "fc2_w": 0.5}


def test_n_of_m_goes_along_a_convolutions_channels():
    """Not along its rows or columns."""
    weights = RNG.standard_normal((3, 8, 3, 3)).astype(np.float32)
    mask = n_of_m(Layer(helper.make_node("Conv", ["x", "w"], ["y"]), weights), 1, 4).reshape(weights.shape)
    assert (mask.reshape(3, 2, 4, 3, 3).sum(axis=2) == 1).all()


def test_a_pruned_model_keeps_its_accuracy_and_may_be_quantised(tmp_path):
    """Half of the example's weights go for under a point; the int8 file has as many zeros."""
    source, data = example(1000, 200)
    recipe = Recipe("pruned", (Step("sparsify", {"sparsity": 0.5}), Step("int8-static")))
    variant = build(source, recipe, "onnx", data, context(tmp_path))
    assert variant.manifest["reference_accuracy"] - variant.manifest["accuracy"] < 0.01
    weights = [numpy_helper.to_array(tensor) for tensor in onnx.load(variant.folder / "model.onnx").graph.initializer]
    large = np.concatenate([values.ravel() for values in weights if values.dtype == np.int8 and values.size > 100])
    assert np.mean(large == 0) > 0.49


def test_zeros_alone_do_not_shrink_a_file_and_the_manifest_says_so(tmp_path):
    """The outputs change, the bytes do not: the artifact is refused unless it is asked for."""
    path, _ = original(tmp_path)
    recipe = Recipe("pruned", (Step("sparsify", {"sparsity": 0.1}),))
    variant = build(Source("small", path, None), recipe, "onnx", random_data(), context(tmp_path))
    feeds = {"image": images(2)}
    assert np.abs(run_model(variant.folder / "model.onnx", "onnx", feeds)["logits"] - run_model(path, "onnx", feeds)["logits"]).max() > 0
    assert variant.manifest["shrank"] is False
    assert "did not make it smaller" in variant.refusal.message


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"granularity": "n:m", "n": 4}, "n must be less than m"),
        ({"granularity": "n:m", "sparsity": 0.9}, "leave `sparsity` out"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"block": [0, 1]}, "block"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params, said):
    """Before any work."""
    with pytest.raises(ValueError, match=said):
        SPARSIFY.check(params)


def test_blocks_too_large_for_the_share_are_unsupported(tmp_path):
    """No layer can lose a thirtieth of itself in one block."""
    path, _ = original(tmp_path)
    with pytest.raises(FaultError, match="no weight to set to zero") as caught:
        sparse(path, tmp_path, sparsity=0.03, granularity="block", block=[1000, 1024], scope="layer")
    assert caught.value.fault.code == "unsupported_op"
