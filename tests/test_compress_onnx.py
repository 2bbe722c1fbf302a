"""ONNX: reading what may be hostile, and the traps of onnxruntime's quantiser."""

import numpy as np
import onnx
import pytest
from compress_models import (
    CHANNELS,
    SIDE,
    context,
    images,
    random_data,
    run_model,
    save_graph,
    write_onnx,
)
from onnx import helper, numpy_helper

from agent.schema import FaultError, TensorSpec
from compress import onnx_model, recipes
from compress.build import Source, build
from compress.inspect import inputs, parameters


def make(path, recipe, tmp_path, kind="onnx", data=None):
    return build(Source("small", path, None), recipes.get(recipe), kind, data or random_data(), context(tmp_path))


def test_inputs_and_parameters_are_read_from_the_file(tmp_path):
    """Weights are no inputs, a dynamic batch is -1, every weight and bias counts."""
    path = write_onnx(tmp_path / "m.onnx", batch="n")
    assert inputs(path, "onnx") == [TensorSpec("image", [-1, 1, SIDE, SIDE], "float32")]
    assert parameters(path, "onnx") == 8 * 9 + 8 + 64 * 8 * 144 + 64 + 10 * 64 + 10


def test_a_file_cut_anywhere_is_a_bad_model(tmp_path):
    """Every shorter prefix raises `bad_model` and nothing else."""
    content = write_onnx(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for length in [*range(200), *range(200, len(content), 4999), *range(len(content) - 200, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(FaultError, match=r"cut\.onnx") as caught:
            inputs(path, "onnx")
        assert caught.value.fault.code == "bad_model", length


def with_external_weights(path, location):
    model = onnx.load(str(write_onnx(path)))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "fc1_w")
    (path.parent / "weights.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return path


def test_external_weights_in_the_folder_travel_inside_the_artifact(tmp_path):
    """The fp32 artifact of a model in two files is one file that gives the same outputs as the model in one."""
    whole = write_onnx(tmp_path / "whole.onnx")
    split = with_external_weights(tmp_path / "split.onnx", "weights.bin")
    variant = make(split, "fp32", tmp_path)
    assert [file.name for file in variant.artifact.files] == ["model.onnx"]
    feeds = {"image": images(3)}
    expected, got = run_model(whole, "onnx", feeds), run_model(variant.folder / "model.onnx", "onnx", feeds)
    np.testing.assert_array_equal(expected["logits"], got["logits"])


@pytest.mark.parametrize("how", ["parent", "absolute", "link", "missing"])
def test_external_weights_elsewhere_are_never_read(tmp_path, how):
    """A location outside the model's folder, a link that leads there, or no file: `bad_model`."""
    folder = tmp_path / "models"
    folder.mkdir()
    location = {"parent": "../weights.bin", "absolute": str(tmp_path / "weights.bin"), "link": "link.bin", "missing": "none.bin"}[how]
    path = with_external_weights(folder / "m.onnx", location)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(FaultError, match="external weights") as caught:
        make(path, "fp32", tmp_path)
    assert caught.value.fault.code == "bad_model"


def test_per_channel_below_opset_13_converts_the_model_first(tmp_path):
    """Opset 11 becomes 13 in the artifact, whose DequantizeLinear has an axis, and the manifest says so."""
    variant = make(write_onnx(tmp_path / "m.onnx", opset=11), "int8", tmp_path)
    model = onnx.load(str(variant.folder / "model.onnx"))
    axes = [attribute for node in model.graph.node if node.op_type == "DequantizeLinear" for attribute in node.attribute]
    assert onnx_model.opset(model) == 13
    assert axes
    assert variant.manifest["notes"] == ["operator set 11 converted to 13"]
    assert variant.manifest["drift"]["sqnr_db"] > 30


def test_dynamic_int8_touches_dense_layers_only(tmp_path):
    """The convolution stays a Conv, both Gemm become integer."""
    variant = make(write_onnx(tmp_path / "m.onnx"), "int8-dynamic", tmp_path)
    operators = [node.op_type for node in onnx.load(str(variant.folder / "model.onnx")).graph.node]
    assert operators.count("MatMulInteger") == 2
    assert operators.count("Conv") == 1
    assert "ConvInteger" not in operators


def conv_only(path, bias=(0.0,) * CHANNELS):
    kernel = np.random.default_rng(0).standard_normal((CHANNELS, 1, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["image", "w", "b"], ["logits"], pads=[1, 1, 1, 1])]
    initializers = [numpy_helper.from_array(kernel, "w"), numpy_helper.from_array(np.array(bias, np.float32), "b")]
    return save_graph(path, nodes, [1, 1, SIDE, SIDE], [1, CHANNELS, SIDE, SIDE], initializers)


def test_dynamic_int8_without_dense_layers_is_unsupported(tmp_path):
    """onnxruntime would hand the float model back and say nothing."""
    with pytest.raises(FaultError, match="no MatMul or Gemm") as caught:
        make(conv_only(tmp_path / "m.onnx"), "int8-dynamic", tmp_path)
    assert caught.value.fault.code == "unsupported_op"


@pytest.mark.parametrize(("kind", "recipe"), [("onnx", "fp16"), ("onnx", "int8"), ("openvino", "fp16"), ("openvino", "int8-dynamic")])
def test_a_model_without_weights_is_unsupported(tmp_path, kind, recipe):
    """Nothing to act on is said, not shipped as a success."""
    nodes = [helper.make_node("Flatten", ["image"], ["logits"])]
    path = save_graph(tmp_path / "m.onnx", nodes, [1, 1, SIDE, SIDE], [1, SIDE * SIDE], [])
    with pytest.raises(FaultError) as caught:
        make(path, recipe, tmp_path, kind)
    assert caught.value.fault.code == "unsupported_op"


def test_openvino_weight_compression_that_does_not_shrink_is_unsupported(tmp_path):
    """Seventy-two int8 weights cost more in the graph than they save."""
    with pytest.raises(FaultError, match="do not shrink") as caught:
        make(conv_only(tmp_path / "m.onnx"), "int8-dynamic", tmp_path, "openvino")
    assert caught.value.fault.code == "unsupported_op"


def batch_norm_beyond_float16(path):
    """Conv whose outputs are 1e4 times larger, divided again by a BatchNorm with a variance of 1e8."""
    kernel = 1e4 * np.random.default_rng(0).standard_normal((CHANNELS, 1, 3, 3)).astype(np.float32)
    norm = {"scale": 1.0, "shift": 0.5, "mean": 0.0, "variance": 1e8}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", *norm], ["logits"]),
    ]
    initializers = [numpy_helper.from_array(np.full(CHANNELS, value, np.float32), name) for name, value in norm.items()]
    return save_graph(path, nodes, [1, 1, SIDE, SIDE], [1, CHANNELS, SIDE, SIDE], [numpy_helper.from_array(kernel, "w"), *initializers])


def test_fp16_merges_a_batch_norm_that_does_not_fit(tmp_path):
    """A variance beyond 65504 would be clipped; merged into the convolution the model keeps more than 50 dB."""
    variant = make(batch_norm_beyond_float16(tmp_path / "m.onnx"), "fp16", tmp_path)
    assert variant.manifest["drift"]["sqnr_db"] > 50


def test_fp16_artifacts_are_valid_onnx(tmp_path):
    """Each node stands after those that it needs, as ONNX's own checker demands, those whose outputs only a subgraph reads included."""
    variant = make(write_onnx(tmp_path / "m.onnx"), "fp16", tmp_path)
    onnx.checker.check_model(onnx.load(str(variant.folder / "model.onnx")))
    branch = helper.make_graph([helper.make_node("Relu", ["outer"], ["z"])], "branch", [], [helper.make_empty_tensor_value_info("z")])
    nodes = [
        helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Neg", ["x"], ["outer"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "unsorted", [], []))
    onnx_model.sort(model)
    assert [node.op_type for node in model.graph.node] == ["Neg", "If"]


def test_initializers_listed_as_inputs_are_not_left_to_be_fed(tmp_path):
    """A file of IR version 3 lists its weights as inputs; after folding the artifact still takes the image alone."""
    path = write_onnx(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    path.write_bytes(model.SerializeToString())
    for recipe in ("fp16", "int8"):
        variant = make(path, recipe, tmp_path)
        assert inputs(variant.folder / "model.onnx", "onnx") == [TensorSpec("image", [1, 1, SIDE, SIDE], "float32")]
        assert [value.name for value in onnx.load(str(variant.folder / "model.onnx")).graph.input] == ["image"]


@pytest.mark.parametrize("batch", [4, "n"])
def test_models_of_another_batch_size_are_calibrated(tmp_path, batch):
    """A fixed batch of four is calibrated four samples at a time, a dynamic one sample by sample."""
    variant = make(write_onnx(tmp_path / "m.onnx", batch=batch), "int8", tmp_path)
    assert variant.manifest["drift"]["sqnr_db"] > 30
