"""The parameters of int8: granularity, symmetry, calibration and wide activations, in every format that has them."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from compress_models import context, images, random_data, run_model, write_onnx, write_tflite
from onnx import TensorProto, numpy_helper

from agent.schema import FaultError
from compress import edgetpu, pipeline, recipes, tflite_model
from compress.build import Source, build
from compress.recipes import Recipe, Step
from compress.records import Samples

FORMATS = ("onnx", "tflite", "openvino")


@pytest.fixture
def source(tmp_path):
    """The small model in both files."""
    return Source("small", write_onnx(tmp_path / "m.onnx"), write_tflite(tmp_path / "m.tflite"))


def made(source, kind, tmp_path, data=None, technique="int8-static", **params):
    recipe = Recipe("int8", (Step(technique, params),))
    return build(source, recipe, kind, data or random_data(), context(tmp_path))


def constants(variant):
    graph = onnx.load(variant.folder / "model.onnx").graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def int8_tensors(variant):
    model = tflite_model.read(variant.folder / "model.tflite")
    return {tensor.name: tensor for tensor in model.subgraphs[0].tensors if tflite_model.type_name(tensor) in ("INT8", "INT16")}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "params",
    [{"granularity": "tensor"}, {"activations": "symmetric"}, {"granularity": "tensor", "activations": "symmetric"}],
    ids=str,
)
def test_every_format_has_them_and_gives_the_same_outputs(source, kind, params, tmp_path):
    """At most 30 dB of noise, and a file that is smaller."""
    manifest = made(source, kind, tmp_path, **params).manifest
    assert manifest["drift"]["sqnr_db"] > 30
    assert manifest["size_bytes"] < 0.37 * manifest["float_size_bytes"]


def test_per_tensor_weights_have_one_scale_in_onnx(source, tmp_path):
    """Per channel they have as many as outputs."""
    for granularity, sizes in (("channel", {8, 10, 64}), ("tensor", {1})):
        found = constants(made(source, "onnx", tmp_path, granularity=granularity))
        scales = [values.size for name, values in found.items() if name.endswith("w_scale")]
        assert set(scales) == sizes


def test_per_tensor_weights_have_one_scale_in_tflite(source, tmp_path):
    """Convolutions too, dense layers in either case."""
    weights = int8_tensors(made(source, "tflite", tmp_path, granularity="tensor"))
    assert {len(weights[name].quantization.scale) for name in (b"conv_w", b"fc1_w", b"fc2_w")} == {1}


def test_symmetric_activations_have_zero_in_the_middle(source, tmp_path):
    """Every zero point is 0; asymmetric ones of a ReLU lie at the lower end."""
    for activations, all_zero in (("symmetric", True), ("asymmetric", False)):
        zero_points = [
            values for name, values in constants(made(source, "onnx", tmp_path, activations=activations)).items() if "zero_point" in name
        ]
        assert all(not values.any() for values in zero_points) is all_zero
        tensors = int8_tensors(made(source, "tflite", tmp_path, activations=activations)).values()
        assert all(not np.any(tensor.quantization.zeroPoint) for tensor in tensors) is all_zero


def with_an_outlier(count, value):
    """Calibration samples of which one value is far larger than any other."""
    calibration = images(count, seed=2)
    calibration[7, 0, 3, 3] = value
    return replace(random_data(), calib_feeds={"image": calibration})


@pytest.mark.parametrize("calibration", ["average", "percentile"])
def test_other_calibrations_of_onnx_clip_an_outlier(source, calibration, tmp_path):
    """`minmax` gives it all of the input's range, the others at most half of that."""
    data = with_an_outlier(800, 80)  # so that 99.999 % of the values are all but one
    scales = [constants(made(source, "onnx", tmp_path, data, calibration=name))["image_scale"] for name in ("minmax", calibration)]
    assert scales[1] < 0.5 * scales[0]


@pytest.mark.parametrize(("kind", "calibration"), [("tflite", "average"), ("openvino", "average"), ("openvino", "percentile")])
def test_other_calibrations_clip_an_outlier(source, kind, calibration, tmp_path):
    """So that all other values are told apart better."""
    noise = [made(source, kind, tmp_path, with_an_outlier(40, 250), calibration=name).manifest["drift"] for name in ("minmax", calibration)]
    assert noise[1]["sqnr_db"] > noise[0]["sqnr_db"] + 1


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_sixteen_bit_activations_lose_less_than_eight(source, kind, tmp_path):
    """With int8 weights in both, and bytes as few."""
    wide, narrow = (made(source, kind, tmp_path, activation_bits=bits, granularity="channel").manifest for bits in (16, 8))
    assert wide["drift"]["sqnr_db"] > narrow["drift"]["sqnr_db"]
    assert wide["size_bytes"] < 1.1 * narrow["size_bytes"]


def test_sixteen_bit_activations_are_int16_in_the_file(source, tmp_path):
    """QuantizeLinear to int16 in ONNX of operator set 21; in TFLite operators of the versions that say so."""
    variant = made(source, "onnx", tmp_path, activation_bits=16)
    graph = onnx.load(variant.folder / "model.onnx").graph
    assert {tensor.data_type for tensor in graph.initializer if "image_zero_point" in tensor.name} == {TensorProto.INT16}
    model = tflite_model.read(made(source, "tflite", tmp_path, activation_bits=16).folder / "model.tflite")
    versions = {
        tflite_model.operator_name(model, one): model.operatorCodes[one.opcodeIndex].version for one in model.subgraphs[0].operators
    }
    assert versions.items() >= {"CONV_2D": 4, "FULLY_CONNECTED": 7}.items()


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        ("openvino", {"activation_bits": 16}, "no parameter 'activation_bits'"),
        ("tflite", {"calibration": "percentile"}, "calibration"),
        ("tensorrt", {"granularity": "tensor"}, "no parameter 'granularity'"),
    ],
)
def test_what_a_format_does_not_have_is_refused_before_any_work(kind, params, said):
    """With the recipe, the format and the parameter."""
    with pytest.raises(FaultError, match=rf"x: for {kind}, int8-static: .*{said}") as caught:
        pipeline.plan(Recipe("x", (recipes.step({"int8-static": params}),)), ["onnx", "tflite"], kind)
    assert caught.value.fault.code == "unsupported_op"


def held_out_data(source):
    held_out = images(60, seed=5)
    labels = run_model(source.onnx, "onnx", {"image": held_out})["logits"].argmax(axis=1)
    return replace(random_data(), held_out=Samples({"image": held_out}, labels))


def test_accuracy_control_turns_back_what_costs_too_much(source, tmp_path):
    """With the right ranges all stays int8; with ranges far too wide, operation after operation goes back until none is left."""
    data = held_out_data(source)
    fine = made(source, "openvino", tmp_path, data, "int8-accuracy-control", max_drop_pp=3.0)
    assert fine.manifest["steps"]["int8-accuracy-control"]["quantisers"] == 3
    wide = replace(data, calib_feeds={"image": 20 * images(40, seed=2)})
    with pytest.raises(FaultError, match="leaves nothing in int8 that costs at most 3 points") as caught:
        made(source, "openvino", tmp_path, wide, "int8-accuracy-control", max_drop_pp=3.0)
    assert caught.value.fault.code == "unsupported_op"


def test_accuracy_control_wants_labels(source, tmp_path):
    """Of held-out samples, and says how to give them."""
    with pytest.raises(FaultError, match="no held-out samples with labels") as caught:
        made(source, "openvino", tmp_path, None, "int8-accuracy-control")
    assert caught.value.fault.code == "bad_data"
    assert "held_labels" in caught.value.fault.next


def test_accelerators_have_recipes_of_their_own_name(source, tmp_path):
    """`edgetpu` is what `int8` becomes for that format; `tensorrt-int8` is what `int8` is for that one."""
    ours, plain = (edgetpu.uncompiled(recipes.get(name)).steps for name in ("edgetpu", "int8"))
    assert ours == plain
    named, usual = (build(source, recipes.get(name), "tensorrt", random_data(), context(tmp_path)) for name in ("tensorrt-int8", "int8"))
    assert named.artifact == usual.artifact


def test_sixteen_bit_activations_say_which_onnxruntime_they_need(source, tmp_path):
    """Devices may have an older one."""
    assert any("onnxruntime 1.18" in note for note in made(source, "onnx", tmp_path, activation_bits=16).manifest["notes"])


def test_onnxruntimes_entropy_looks_at_one_range_alone():
    """The widest one, by its defaults of as many bins as steps: why `calibration` does not offer it."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    values = np.concatenate([np.random.default_rng(0).standard_normal(10_000), [80.0]]).astype(np.float32)
    found = []
    for bins in (128, 2048):
        collector = HistogramCollector("entropy", True, bins, 128, 99.999, "same")
        collector.collect({"x": [values]})
        low, high, *_ = next(iter(collector.compute_collection_result().values()))
        found.append(float(max(abs(low), abs(high))))
    assert found[0] > 79
    assert found[1] < 40
