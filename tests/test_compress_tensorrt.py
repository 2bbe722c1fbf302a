"""ONNX for TensorRT: the one style of Q/DQ that all releases parse, fixed shapes, an old operator set."""

import numpy as np
import onnx
import pytest
from compress_models import CHANNELS, SIDE, context, example, images, random_data, run_model, save_graph, write_onnx
from onnx import TensorProto, helper, numpy_helper

from agent.schema import FaultError
from compress import onnx_model, recipes
from compress.build import Source, build
from controller import reference


def make(path, recipe, tmp_path):
    return build(Source("small", path, None), recipes.get(recipe), "tensorrt", random_data(), context(tmp_path))


def read(variant):
    return onnx.load(str(variant.folder / "model.onnx"))


def test_int8_is_symmetric_with_float_weights_and_biases(tmp_path):
    """Every zero point is an int8 0, weights are quantised per channel in the graph, and no other constant is an integer."""
    graph = read(make(write_onnx(tmp_path / "m.onnx"), "int8", tmp_path)).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zero_points = [numpy_helper.to_array(constants[node.input[2]]) for node in pairs]
    assert all(point.dtype == np.int8 and not point.any() for point in zero_points)
    integers = {name for name, tensor in constants.items() if tensor.data_type in (TensorProto.INT8, TensorProto.INT32)}
    assert integers == {node.input[2] for node in pairs}
    weights = [node for node in pairs if node.op_type == "QuantizeLinear" and node.input[0] in constants]
    assert sorted(numpy_helper.to_array(constants[node.input[1]]).size for node in weights) == [8, 10, 64]


def test_a_pair_has_one_reader_and_only_weighted_layers_read(tmp_path):
    """Q/DQ stand before Conv, Gemm and MatMul alone, each for itself, so that TensorRT can fuse what follows."""
    graph = read(make(write_onnx(tmp_path / "m.onnx"), "int8", tmp_path)).graph
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            readers = [reader.op_type for reader in graph.node if node.output[0] in reader.input]
            assert readers in (["Conv"], ["Gemm"], ["MatMul"])


def test_the_example_keeps_its_accuracy(tmp_path):
    """On 1,000 images int8 loses at most a point, fp16 half a point."""
    source, data = example(1000, 200)
    for recipe, drop in (("int8", 0.01), ("fp16", 0.005)):
        manifest = build(source, recipes.get(recipe), "tensorrt", data, context(tmp_path)).manifest
        assert manifest["reference_accuracy"] - manifest["accuracy"] <= drop
        assert manifest["drift"]["sqnr_db"] > 25


def test_int8_says_that_the_engine_gets_small_not_the_file(tmp_path):
    """Weights stay float32 in the file, and the manifest's notes say so."""
    notes = make(write_onnx(tmp_path / "m.onnx"), "int8", tmp_path).manifest["notes"]
    assert any("float32 in the file and int8 in the engine" in note for note in notes)


def test_the_controller_runs_artifacts_with_onnxruntime(tmp_path):
    """It has no GPU to verify them on: the same file on the same samples gives the same outputs."""
    path, feeds = write_onnx(tmp_path / "model.onnx"), {"image": images(3)}
    np.testing.assert_array_equal(reference.run_model(path, "tensorrt", feeds)["logits"], run_model(path, "tensorrt", feeds)["logits"])


def test_dynamic_int8_is_unsupported(tmp_path):
    """TensorRT has none."""
    with pytest.raises(FaultError, match="TensorRT has no dynamic quantisation") as caught:
        make(write_onnx(tmp_path / "m.onnx"), "int8-dynamic", tmp_path)
    assert caught.value.fault.code == "unsupported_op"


def test_a_model_that_fits_is_shipped_as_it_is(tmp_path):
    """The fp32 artifact of a model with fixed shapes and operator set 13 is the file itself."""
    path = write_onnx(tmp_path / "m.onnx", opset=13)
    assert (make(path, "fp32", tmp_path).folder / "model.onnx").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("recipe", ["fp32", "int8"])
def test_open_dimensions_become_one(recipe, tmp_path):
    """Of inputs, and of outputs where they have the same name; a note names them."""
    variant = make(write_onnx(tmp_path / "m.onnx", batch="n"), recipe, tmp_path)
    graph = read(variant).graph
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (*graph.input, *graph.output)]
    assert shapes == [[1, 1, SIDE, SIDE], [1, 10]]
    assert "open dimensions n set to 1" in variant.manifest["notes"]


def test_a_newer_operator_set_becomes_13(tmp_path):
    """Which is what the parser of TensorRT 8.2 knows; outputs stay the same."""
    variant = make(write_onnx(tmp_path / "m.onnx", opset=17), "fp32", tmp_path)
    assert onnx_model.opset(read(variant)) == 13
    assert variant.manifest["notes"] == ["operator set 17 became 13"]
    assert variant.manifest["drift"]["sqnr_db"] > 100


def test_an_operator_set_that_cannot_be_lowered_is_kept_and_noted(tmp_path):
    """LayerNormalization has no form below 17: newer releases of TensorRT take it."""
    scale = numpy_helper.from_array(np.ones(SIDE, np.float32), "scale")
    nodes = [helper.make_node("LayerNormalization", ["image", "scale"], ["logits"])]
    path = save_graph(tmp_path / "m.onnx", nodes, [1, 1, SIDE, SIDE], [1, 1, SIDE, SIDE], [scale], opset=17)
    variant = make(path, "fp32", tmp_path)
    assert onnx_model.opset(read(variant)) == 17
    assert variant.manifest["notes"] == ["operator set 17 is newer than 13, TensorRT 8.2's"]


def test_a_model_without_weighted_layers_is_unsupported(tmp_path):
    """Nothing to quantise is said, not shipped as int8."""
    path = save_graph(tmp_path / "m.onnx", [helper.make_node("Relu", ["image"], ["logits"])], [1, CHANNELS], [1, CHANNELS], [])
    with pytest.raises(FaultError) as caught:
        make(path, "int8", tmp_path)
    assert caught.value.fault.code in ("unsupported_op", "bad_data")
