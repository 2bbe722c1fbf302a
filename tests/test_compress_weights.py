"""Weight-only quantisation: what is stored, what it loses, and who runs it."""

import numpy as np
import onnx
import pytest
from compress_models import context, example, images, random_data, run_model, save_graph, write_onnx, write_tflite
from onnx import TensorProto, helper, numpy_helper

from agent.schema import FaultError
from compress import onnx_model
from compress.build import Data, Source, build
from compress.recipes import Recipe, Step
from compress.techniques import find
from compress.techniques.onnx_weights import quantised


def made(source, kind, tmp_path, data=None, **params):
    recipe = Recipe("weights", (Step("weight-only", params),))
    return build(source, recipe, kind, data or random_data(), context(tmp_path))


def small(tmp_path):
    return Source("small", write_onnx(tmp_path / "m.onnx"), None)


def test_rows_are_rounded_to_their_own_scale():
    """The largest of a row becomes the largest whole number; a row of zeros stays one; nothing is off by more than half a step."""
    rows = np.array([[1.0, -0.6, 0.1], [0, 0, 0], [-70, 20, 3.9]], np.float32)
    values, scales = quantised(rows, 7)
    np.testing.assert_array_equal(values, [[7, -4, 1], [0, 0, 0], [-7, 2, 0]])
    assert (np.abs(values * scales - rows) <= scales / 2 + 1e-6).all()


@pytest.mark.parametrize(("dtype", "share", "least_db"), [("int8", 0.28, 40), ("int4", 0.2, 15)])
def test_onnx_weights_are_whole_numbers_and_arithmetic_is_float(tmp_path, dtype, share, least_db):
    """Every weight of Conv and Gemm large enough is of that type behind one DequantizeLinear; nothing else is quantised."""
    variant = made(small(tmp_path), "onnx", tmp_path, dtype=dtype)
    model = onnx.load(variant.folder / "model.onnx")
    kind = {"int8": TensorProto.INT8, "int4": TensorProto.INT4}[dtype]
    assert [tensor.name for tensor in model.graph.initializer if tensor.data_type == kind] == [f"fc1_w_{dtype}", f"fc2_w_{dtype}"]
    assert [node.op_type for node in model.graph.node].count("DequantizeLinear") == 2
    assert "QuantizeLinear" not in {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model, full_check=True)
    assert variant.manifest["size_bytes"] < share * variant.manifest["float_size_bytes"]
    assert variant.manifest["drift"]["sqnr_db"] > least_db


def test_smaller_blocks_lose_less(tmp_path):
    """And cost more bytes: 16, 64, 256 weights for each scale; those of a block are rounded to it."""
    variants = [made(small(tmp_path), "onnx", tmp_path, dtype="int4", block=block) for block in (16, 64, 256)]
    noise = [-variant.manifest["drift"]["sqnr_db"] for variant in variants]
    sizes = [variant.manifest["size_bytes"] for variant in variants]
    assert noise == sorted(noise)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_blocks_go_along_the_inputs_whatever_the_layout(tmp_path, operator):
    """Weights as inputs x outputs, and inputs that blocks of 16 do not divide: less than 3 % off, and far less than one scale for all."""
    matrix = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    matrix[:16] *= 100
    weights = [numpy_helper.from_array(matrix, "w")]
    path = save_graph(tmp_path / "m.onnx", [helper.make_node(operator, ["image", "w"], ["logits"])], [1, 40], [1, 6], weights)
    samples = {"image": np.random.default_rng(1).standard_normal((20, 40)).astype(np.float32)}
    samples["image"][:, :16] = 0
    variant = made(Source("small", path, None), "onnx", tmp_path, Data(samples, {}, None, {}), dtype="int4", block=16)
    assert variant.manifest["drift"]["sqnr_db"] > 15


def test_onnxruntimes_own_four_bits_leave_a_gemm_as_it_is(tmp_path):
    """MatMulNBits does nothing on Gemm and says nothing; `weight-only` quantises both of the same file."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    source = small(tmp_path)
    theirs = MatMulNBitsQuantizer(onnx.load(source.onnx), block_size=32, is_symmetric=True)
    theirs.process()
    operators = [node.op_type for node in theirs.model.model.graph.node]
    assert "MatMulNBits" not in operators
    assert operators.count("Gemm") == 2
    path = tmp_path / "theirs.onnx"
    onnx_model.save(theirs.model.model, path)
    assert path.stat().st_size > 0.99 * source.onnx.stat().st_size
    assert made(source, "onnx", tmp_path, dtype="int4").manifest["size_bytes"] < 0.2 * source.onnx.stat().st_size


def test_four_bits_say_which_onnxruntime_they_need(tmp_path):
    """Devices may have an older one."""
    notes = made(small(tmp_path), "onnx", tmp_path, dtype="int4").manifest["notes"]
    assert any("onnxruntime 1.19" in note for note in notes)


def test_the_example_in_four_bits(tmp_path):
    """A sixth of its bytes, at most 1.5 points lost."""
    source, data = example(1000, 10)
    manifest = made(source, "onnx", tmp_path, data, dtype="int4").manifest
    assert manifest["size_bytes"] < 0.18 * manifest["float_size_bytes"]
    assert manifest["reference_accuracy"] - manifest["accuracy"] < 0.015


def test_layers_too_small_to_gain_are_unsupported(tmp_path):
    """Nine weights cost more quantised than they save."""
    kernel = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    path = save_graph(tmp_path / "m.onnx", [helper.make_node("Conv", ["image", "w"], ["logits"])], [1, 1, 12, 12], [1, 1, 10, 10], [kernel])
    with pytest.raises(FaultError, match="no weights large enough") as caught:
        made(Source("small", path, None), "onnx", tmp_path)
    assert caught.value.fault.code == "unsupported_op"


def test_equal_builds_are_equal_bytes(tmp_path):
    """Nothing is drawn."""
    one, other = (made(small(tmp_path), "onnx", tmp_path / name, dtype="int4") for name in ("one", "other"))
    assert one.artifact == other.artifact
    assert np.isfinite(run_model(one.folder / "model.onnx", "onnx", {"image": images(1)})["logits"]).all()


@pytest.mark.parametrize(
    ("kind", "params", "share", "least_db"),
    [
        ("tflite", {}, 0.3, 40),
        ("tflite", {"dtype": "int4"}, 0.17, 15),
        ("openvino", {}, 0.4, 35),
        ("openvino", {"dtype": "int4"}, 0.3, 15),
        ("openvino", {"dtype": "int4", "block": 16}, 0.3, 15),
        ("openvino", {"dtype": "nf4"}, 0.3, 15),
    ],
    ids=str,
)
def test_other_formats_have_weight_only_too(tmp_path, kind, params, share, least_db):
    """Smaller, and close to the float model."""
    source = Source("small", write_onnx(tmp_path / "m.onnx"), write_tflite(tmp_path / "m.tflite"))
    manifest = made(source, kind, tmp_path, **params).manifest
    assert manifest["size_bytes"] < share * manifest["float_size_bytes"]
    assert manifest["drift"]["sqnr_db"] > least_db


def test_blocks_that_do_not_divide_a_layer_are_unsupported(tmp_path):
    """nncf would leave that layer in int8, if told to adjust, and say nothing."""
    with pytest.raises(FaultError, match="blocks of 7 do not divide") as caught:
        made(small(tmp_path), "openvino", tmp_path, dtype="int4", block=7)
    assert caught.value.fault.code == "unsupported_op"


def test_nf4_has_no_asymmetric_form():
    """Said before any work."""
    with pytest.raises(ValueError, match="nf4 is symmetric"):
        find("weight-only", "openvino").check({"dtype": "nf4", "weights": "asymmetric"})
