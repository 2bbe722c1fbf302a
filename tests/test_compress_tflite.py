"""TFLite: reading what may be hostile, and the passes around litert-quantizer."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from compress_models import (
    EXAMPLE,
    SIDE,
    Flatbuffer,
    context,
    example,
    random_data,
    run_model,
    write_batch_matmul,
    write_onnx,
    write_tflite,
)

from agent.schema import FaultError, TensorSpec
from compress import cost, recipes, tflite_model, tflite_passes
from compress.build import Data, Source, build
from compress.inspect import inputs, parameters
from compress.techniques import Workspace, find, tflite_int8

INT8_RECIPES = ("int8", "int8-dynamic")


def make(path, recipe, tmp_path, data=None):
    return build(Source("small", None, path), recipes.get(recipe), "tflite", data or random_data(), context(tmp_path))


def made(variant):
    return tflite_model.read(variant.folder / "model.tflite")


def tensor_of(model, name):
    return next(tensor for tensor in model.subgraphs[0].tensors if tensor.name == name)


def versions(model):
    codes = {operator.opcodeIndex for operator in model.subgraphs[0].operators}
    numbers = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    return {numbers[model.operatorCodes[at].builtinCode]: model.operatorCodes[at].version for at in codes}


def test_inputs_and_parameters_are_read_from_the_file(tmp_path):
    """The channels-last input, and every weight and bias."""
    path = write_tflite(tmp_path / "m.tflite")
    assert inputs(path, "tflite") == [TensorSpec("image", [1, SIDE, SIDE, 1], "float32")]
    assert parameters(path, "tflite") == parameters(write_onnx(tmp_path / "m.onnx"), "onnx")


def test_a_file_cut_anywhere_is_a_bad_model(tmp_path):
    """Every shorter prefix raises `bad_model` and nothing else."""
    content = write_tflite(tmp_path / "m.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    for length in [*range(1200), *range(1200, len(content), 4999), *range(len(content) - 40, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(FaultError, match=r"cut\.tflite") as caught:
            inputs(path, "tflite")
        assert caught.value.fault.code == "bad_model", length


def weightless(path):
    builder = Flatbuffer()
    image, logits = builder.tensor("image", [1, SIDE, SIDE, 1]), builder.tensor("logits", [1, SIDE, SIDE, 1])
    builder.operator("RELU", [image], [logits])
    return builder.save(path, [image], [logits])


def code_of_reading(path):
    try:
        inputs(path, "tflite")
    except FaultError as error:
        return error.fault.code
    return "read"


def test_a_file_with_any_byte_turned_is_read_or_a_bad_model(tmp_path):
    """Hostile offsets, lengths and indices raise `bad_model`, never anything else."""
    content = weightless(tmp_path / "m.tflite").read_bytes()
    path = tmp_path / "turned.tflite"
    codes = []
    for at in range(len(content)):
        for mask in (0xFF, 0x80, 0x01):
            path.write_bytes(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :])
            codes.append(code_of_reading(path))
    assert set(codes) == {"read", "bad_model"}


@pytest.mark.parametrize("recipe", INT8_RECIPES)
def test_fully_connected_weights_are_per_tensor_and_convolutions_per_channel(tmp_path, recipe):
    """Dynamic and per channel, tflite-runtime 2.14 computes FULLY_CONNECTED wrongly."""
    model = made(make(write_tflite(tmp_path / "m.tflite"), recipe, tmp_path))
    assert len(tensor_of(model, b"fc1_w").quantization.scale) == 1
    assert len(tensor_of(model, b"fc2_w").quantization.scale) == 1
    assert len(tensor_of(model, b"conv_w").quantization.scale) == 8


@pytest.mark.parametrize("recipe", ["fp16", *INT8_RECIPES])
def test_every_artifact_also_runs_in_tflite_runtime(tmp_path, tflite_runtime, recipe):
    """The oldest runtime that labs have gives the accuracy of the newest within one percentage point."""
    source, data = example()
    variant = build(source, recipes.get(recipe), "tflite", data, context(tmp_path))
    outputs = tflite_runtime(variant.folder / "model.tflite", data.eval_feeds["image"].transpose(0, 2, 3, 1))
    accuracy = np.mean(outputs.reshape(len(data.labels), -1).argmax(axis=1) == data.labels)
    assert abs(accuracy - variant.manifest["accuracy"]) <= 0.01
    assert variant.manifest["accuracy"] > 0.85


def example_quantised_otherwise(tmp_path, add, bits):
    """The example with what litert-quantizer makes of it by itself, weights per channel throughout."""
    from litert_quantizer.qtyping import TFLOperationName
    from litert_quantizer.quantizer import Quantizer

    source, _ = example()
    model = tflite_model.read(source.tflite)
    tflite_passes.normalise(model)
    prepared, made_by_it = tmp_path / "prepared.tflite", tmp_path / "quantised.tflite"
    tflite_model.write(model, prepared)
    quantizer = Quantizer(prepared)
    getattr(quantizer, add)(".*", TFLOperationName.ALL_SUPPORTED, bits)
    quantizer.quantize(None, serialize_to_path=made_by_it, enable_progress_report=False, enable_progress_bar=False)
    model = tflite_model.read(made_by_it)
    tflite_passes.set_versions(model)
    tflite_model.write(model, made_by_it)
    return made_by_it


def accuracies(path, tflite_runtime):
    """In tflite-runtime 2.14, and in ai-edge-litert."""
    _, data = example()
    samples = data.eval_feeds["image"].transpose(0, 2, 3, 1)
    there, here = tflite_runtime(path, samples), next(iter(run_model(path, "tflite", {"image": samples}).values()))
    return [np.mean(outputs.reshape(len(data.labels), -1).argmax(axis=1) == data.labels) for outputs in (there, here)]


@pytest.mark.parametrize("bits", [8, 4])
def test_dynamic_weights_per_channel_are_garbage_in_tflite_runtime(tmp_path, tflite_runtime, bits):
    """Right in ai-edge-litert, a guess in tflite-runtime 2.14: why FULLY_CONNECTED is per tensor, and int4 not dynamic."""
    there, here = accuracies(example_quantised_otherwise(tmp_path, "add_dynamic_config", bits), tflite_runtime)
    assert here > 0.85
    assert there < 0.2


def test_int4_artifacts_fail_to_load_in_tflite_runtime(tmp_path, tflite_runtime):
    """In place of garbage; the manifest says which runtime takes them."""
    source, data = example()
    variant = build(source, recipes.get("int4-weights"), "tflite", data, context(tmp_path))
    with pytest.raises(subprocess.CalledProcessError):
        tflite_runtime(variant.folder / "model.tflite", data.eval_feeds["image"][:1].transpose(0, 2, 3, 1))
    assert any("tflite-runtime 2.14" in note for note in variant.manifest["notes"])


@pytest.mark.parametrize("recipe", ["int8-per-tensor", "int8-symmetric", "int16x8", "int8-weights"])
def test_further_artifacts_run_in_tflite_runtime_too(tmp_path, tflite_runtime, recipe):
    """With the accuracy that they have in ai-edge-litert."""
    source, data = example()
    variant = build(source, recipes.get(recipe), "tflite", data, context(tmp_path))
    there, here = accuracies(variant.folder / "model.tflite", tflite_runtime)
    assert here > 0.85
    assert abs(there - here) <= 0.01


@pytest.fixture(scope="module")
def tflite_runtime(tmp_path_factory):
    """Runs a model in tflite-runtime 2.14 with numpy 1, from what uv has in its cache: tests reach no network."""
    import uv

    folder = tmp_path_factory.mktemp("tflite-runtime")
    wheels = ["tflite-runtime==2.14.0", "numpy==1.26.4"]
    command = [uv.find_uv_bin(), "pip", "install", "--offline", "--no-deps", "--python", sys.executable, "--target", str(folder), *wheels]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip("uv has not fetched tflite-runtime 2.14 before")
    script = Path(__file__).with_name("tflite_runtime_run.py")

    def run(model, samples):
        np.save(folder / "samples.npy", samples)
        paths = [str(model), str(folder / "samples.npy"), str(folder / "outputs.npy")]
        subprocess.run([sys.executable, "-S", str(script), *paths], env=os.environ | {"PYTHONPATH": str(folder)}, check=True)
        return np.load(folder / "outputs.npy")

    return run


@pytest.mark.parametrize("recipe", INT8_RECIPES)
def test_int8_keeps_the_names_and_types_of_inputs_and_outputs(tmp_path, recipe):
    """What fed the float model feeds the quantised one: float32 `image` in, float32 `logits` out."""
    graph = made(make(write_tflite(tmp_path / "m.tflite"), recipe, tmp_path)).subgraphs[0]
    ends = [graph.tensors[at] for at in (*graph.inputs, *graph.outputs)]
    assert [tensor.name for tensor in ends] == [b"image", b"logits"]
    assert [tensor.type for tensor in ends] == [schema.TensorType.FLOAT32] * 2


def test_int8_operators_carry_the_version_that_says_so(tmp_path):
    """litert-quantizer leaves version 1, which promises float weights."""
    path = write_tflite(tmp_path / "m.tflite")
    assert versions(made(make(path, "int8", tmp_path))).items() >= {"CONV_2D": 3, "FULLY_CONNECTED": 4}.items()
    assert versions(made(make(path, "int8-dynamic", tmp_path))).items() >= {"CONV_2D": 5, "FULLY_CONNECTED": 3}.items()


@pytest.mark.parametrize("recipe", INT8_RECIPES)
def test_files_with_the_deprecated_operator_code_are_quantised_too(tmp_path, recipe):
    """litert-quantizer alone does nothing to them and says nothing."""
    path = write_tflite(tmp_path / "m.tflite")
    model = tflite_model.read(path)
    for code in model.operatorCodes:
        code.builtinCode = 0
    tflite_model.write(model, path)
    variant = make(path, recipe, tmp_path)
    assert variant.manifest["size_bytes"] < 0.3 * path.stat().st_size


def test_float16_files_are_unfolded_before_they_are_quantised(tmp_path):
    """An int8 model made from the fp16 file is as large as one made from the float32 file, and has no float16 left."""
    path = write_tflite(tmp_path / "m.tflite")
    half = make(path, "fp16", tmp_path).folder / "model.tflite"
    from_half, from_float = make(half, "int8", tmp_path), make(path, "int8", tmp_path)
    assert {tensor.type for tensor in made(from_half).subgraphs[0].tensors}.isdisjoint({schema.TensorType.FLOAT16})
    assert from_half.manifest["size_bytes"] == pytest.approx(from_float.manifest["size_bytes"], rel=0.01)
    assert from_half.manifest["drift"]["sqnr_db"] > 30


def test_large_weights_stay_inside_the_flatbuffer(tmp_path):
    """From 256 KiB on litert-quantizer writes offsets behind the end of the flatbuffer, which tflite-runtime 2.14 does not read."""
    variant = make(write_tflite(tmp_path / "m.tflite", hidden=300), "int8", tmp_path)
    content = (variant.folder / "model.tflite").read_bytes()
    packed = schema.Model.GetRootAs(content, 0)
    assert len(content) > 2**18
    assert {packed.Buffers(at).Offset() for at in range(packed.BuffersLength())} == {0}


def test_external_buffers_of_a_source_are_read_and_checked(tmp_path):
    """A file with weights behind the flatbuffer counts its parameters, and is a bad model when they are cut off."""
    from litert_quantizer.model_modifier import ModelModifier

    path = write_tflite(tmp_path / "m.tflite", hidden=300)
    whole = parameters(path, "tflite")
    external = tmp_path / "external.tflite"
    external.write_bytes(ModelModifier(tflite_model.read(path)).modify_model({}))
    packed = schema.Model.GetRootAs(external.read_bytes(), 0)
    assert any(packed.Buffers(at).Offset() for at in range(packed.BuffersLength()))
    assert parameters(external, "tflite") == whole
    external.write_bytes(external.read_bytes()[:-64])
    with pytest.raises(FaultError) as caught:
        parameters(external, "tflite")
    assert caught.value.fault.code == "bad_model"


BATCH_MATMUL_DATA = Data(
    {"image": np.random.default_rng(1).standard_normal((20, 1, 64)).astype(np.float32)},
    {"image": np.random.default_rng(2).standard_normal((20, 1, 64)).astype(np.float32)},
    None,
    {},
)


def test_batch_matmul_stays_float(tmp_path):
    """A model of nothing else cannot be quantised, and that is what is said."""
    with pytest.raises(FaultError, match="nothing to quantise") as caught:
        make(write_batch_matmul(tmp_path / "m.tflite"), "int8", tmp_path, BATCH_MATMUL_DATA)
    assert caught.value.fault.code == "unsupported_op"


def test_an_int8_batch_matmul_would_be_refused_by_verification(tmp_path, monkeypatch):
    """litert-quantizer's int8 BATCH_MATMUL gives garbage: the artifact is built, run, compared and refused, and nothing is kept."""
    monkeypatch.setattr(tflite_int8, "FLOAT_OPS", {})
    with pytest.raises(FaultError, match="SQNR") as caught:
        make(write_batch_matmul(tmp_path / "m.tflite"), "int8", tmp_path, BATCH_MATMUL_DATA)
    assert caught.value.fault.code == "verification"
    assert not [path for path in (tmp_path / "cache" / "variants").iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("recipe", ["fp16", *INT8_RECIPES])
def test_a_model_without_weights_is_unsupported(tmp_path, recipe):
    """Nothing to act on is said, not shipped as a success."""
    with pytest.raises(FaultError) as caught:
        make(weightless(tmp_path / "m.tflite"), recipe, tmp_path)
    assert caught.value.fault.code == "unsupported_op"


def test_halving_clips_what_float16_cannot_hold(tmp_path):
    """A weight of 1e6 becomes the largest float16, not infinity."""
    path = write_tflite(tmp_path / "m.tflite")
    model = tflite_model.read(path)
    tensor = tensor_of(model, b"fc1_w")
    values = tflite_model.constant(model, tensor).view(np.float32).copy()
    values[0] = 1e6
    model.buffers[tensor.buffer].data = values.view(np.uint8)
    tflite_passes.halve_weights(model)
    half = tensor_of(model, b"fc1_w_float16")
    assert tflite_model.constant(model, half).view(np.float16)[0] == np.finfo(np.float16).max


def test_a_tflite_that_is_fed_in_the_wrong_layout_is_refused(tmp_path):
    """Against the .onnx beside it labels show that the .tflite sees transposed images."""
    source, data = example()
    turned = Data(data.eval_feeds, data.calib_feeds, data.labels, {"image": (0, 3, 2, 1)})
    with pytest.raises(FaultError, match=r"model\.tflite has accuracy") as caught:
        build(source, recipes.get("fp32"), "tflite", turned, context(tmp_path))
    assert caught.value.fault.code == "verification"


def test_a_tflite_of_another_model_is_noted(tmp_path):
    """Without labels to tell which is right, the manifest says that the two files differ; twins get no note."""
    other = write_tflite(tmp_path / "m.tflite")
    twins = Source("small", write_onnx(tmp_path / "m.onnx"), other)
    assert build(twins, recipes.get("fp32"), "tflite", random_data(), context(tmp_path)).manifest["notes"] == []
    model = tflite_model.read(other)
    tensor = tensor_of(model, b"fc2_w")
    model.buffers[tensor.buffer].data = np.roll(tflite_model.constant(model, tensor).view(np.float32), 64).view(np.uint8)
    tflite_model.write(model, other)
    variant = build(twins, recipes.get("fp32"), "tflite", random_data(), context(tmp_path))
    assert any("gives other outputs than m.onnx" in note for note in variant.manifest["notes"])


def test_sparse_weights_are_refused_by_what_would_misread_them(tmp_path):
    """TFLite's sparse encoding kills litert-quantizer: int8 and float16 say so instead; what it costs is told without them."""
    model = tflite_model.read(EXAMPLE / "model.tflite")
    weights = max(model.subgraphs[0].tensors, key=lambda tensor: int(np.prod(tensor.shape)))
    weights.sparsity = schema.SparsityParametersT()
    path = tmp_path / "sparse.tflite"
    tflite_model.write(model, path)
    assert cost.of(path, "tflite").parameters == 61_706
    for recipe in ("int8", "fp16", "int8-weights"):
        technique = find(recipes.get(recipe).steps[0].technique, "tflite")
        with pytest.raises(FaultError, match="sparse encoding") as refusal:
            technique.apply(path, technique.check(recipes.get(recipe).steps[0].params), Workspace(tmp_path, {}))
        assert refusal.value.fault.code == "unsupported_op"
