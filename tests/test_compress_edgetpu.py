"""Edge TPU artifacts: int8 by its rules, compiled here or on another host, checked, predicted and kept."""

import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import compress_models
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from compress_models import SIDE, Flatbuffer, example, random_data, write_batch_matmul, write_onnx, write_tflite
from sshd import Sshd, require_sshd

import backends
from agent.schema import Fault, FaultError, Workload
from compress import edgetpu_log, edgetpu_mapping, recipes, tflite_model
from compress.build import Context, Data, Source, build
from compress.edgetpu_mapping import predict
from compress.recipes import Recipe, Step
from compress.records import NO_COMPILER, Runtime
from compress.techniques import Workspace, find
from compress.techniques.edgetpu_int8 import VERSIONS, lower_versions
from controller import compile_host, targets, variants
from controller.inventory import Device
from controller.plan import PlannedCell
from controller.suite import Model

FAKE = Path(__file__).with_name("fake_edgetpu_compiler")
FULL_INT8 = Recipe("int8", (Step("int8-edgetpu"),))
FULLY_CONNECTED = schema.BuiltinOptions.FullyConnectedOptions


def run_model(path, kind, feeds):
    """The outputs of every sample, a .tflite's by our backend, which quantises and dequantises int8 inputs and outputs."""
    if kind != "tflite":
        return compress_models.run_model(path, kind, feeds)
    session = backends.get("tflite").load(str(path), {})
    results = []
    for at in range(len(next(iter(feeds.values())))):
        session.bind({name: array[at : at + 1] for name, array in feeds.items()})
        session.infer()
        results.append(session.outputs())
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


def context(folder, compiler=NO_COMPILER):
    return Context(folder / "cache", run_model, compiler)


def make(path, folder, compiler=NO_COMPILER, recipe="int8", data=None):
    return build(Source("small", None, path), recipes.get(recipe), "edgetpu", data or random_data(), context(folder, compiler))


def int8_of(path, folder, data=None):
    """The model before it is compiled."""
    return build(Source("small", None, path), FULL_INT8, "tflite", data or random_data(), context(folder)).folder / "model.tflite"


def write_partial(path, middle="HARD_SWISH"):
    """A convolution, a HARD_SWISH, which no Edge TPU computes (or a PRELU, which stays float), a RESHAPE and a dense layer."""
    rng = np.random.default_rng(0)
    builder = Flatbuffer()
    image, swished = builder.tensor("image", [1, SIDE, SIDE, 1]), builder.tensor("swished", [1, SIDE, SIDE, 4])
    conv, flat = builder.tensor("conv", [1, SIDE, SIDE, 4]), builder.tensor("flat", [1, SIDE * SIDE * 4])
    logits = builder.tensor("logits", [1, 10])
    kernel = builder.tensor("kernel", [4, 3, 3, 1], rng.standard_normal((4, 3, 3, 1)).astype(np.float32))
    options = schema.Conv2DOptionsT(padding=0, strideW=1, strideH=1, dilationHFactor=1, dilationWFactor=1)
    builder.operator("CONV_2D", [image, kernel, builder.tensor("bias", [4], np.zeros(4, np.float32))], [conv], options, 1)
    slopes = [builder.tensor("slopes", [1, 1, 4], np.full((1, 1, 4), 0.1, np.float32))] if middle == "PRELU" else []
    builder.operator(middle, [conv, *slopes], [swished])
    shape = builder.tensor("shape", [2], np.array([1, SIDE * SIDE * 4], np.int32))
    builder.operator("RESHAPE", [swished, shape], [flat])
    dense = builder.tensor("dense", [10, SIDE * SIDE * 4], (rng.standard_normal((10, SIDE * SIDE * 4)) / 24).astype(np.float32))
    inputs = [flat, dense, builder.tensor("dense_bias", [10], np.zeros(10, np.float32))]
    builder.operator("FULLY_CONNECTED", inputs, [logits], schema.FullyConnectedOptionsT(), FULLY_CONNECTED)
    return builder.save(path, [image], [logits])


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a fake compiler that does what it is told on the PATH; gives its folder."""

    def put(what="map"):
        script = tmp_path / "bin" / "edgetpu_compiler"
        script.parent.mkdir(exist_ok=True)
        words = f"exec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))}"
        script.write_text(f'#!/bin/sh\nFAKE_EDGETPU={shlex.quote(what)} {words} "$@"\n')
        script.chmod(0o755)
        return script.parent

    def install(what="map"):
        monkeypatch.setenv("PATH", str(put(what)), prepend=":")
        return compile_host.find([])

    install.put = put
    return install


def fault_of(path, folder, compiler):
    with pytest.raises(FaultError) as caught:
        make(path, folder, compiler)
    assert not list((folder / "cache" / "variants").glob("*.partial"))
    return caught.value.fault


def test_the_example_is_int8_throughout_and_as_accurate(tmp_path):
    """Every tensor int8 or an int32 bias or shape, int8 ends, accuracy within half a point of the usual int8 model's on 1,000 images."""
    source, data = example(eval_count=1000, calib_count=200)
    full = build(source, FULL_INT8, "tflite", data, context(tmp_path))
    usual = build(source, recipes.get("int8"), "tflite", data, context(tmp_path))
    model = tflite_model.read(full.folder / "model.tflite")
    graph = model.subgraphs[0]
    types = {tensor.type for tensor in graph.tensors}
    assert types <= {schema.TensorType.INT8, schema.TensorType.INT32}
    assert {graph.tensors[at].type for at in (*graph.inputs, *graph.outputs)} == {schema.TensorType.INT8}
    assert all(tflite_model.constant(model, tensor) is not None for tensor in graph.tensors if tensor.type == schema.TensorType.INT32)
    assert all(tensor.shapeSignature is None for tensor in graph.tensors)
    assert abs(full.manifest["accuracy"] - usual.manifest["accuracy"]) <= 0.005
    assert abs(full.manifest["accuracy"] - full.manifest["reference_accuracy"]) <= 0.01
    assert str(predict(model)) == f"predicted: all {len(graph.operators)} operations map"


def test_dense_weights_are_per_tensor(tmp_path):
    """The Edge TPU takes one scale for them, and one a channel for convolutions."""
    graph = tflite_model.read(int8_of(write_tflite(tmp_path / "m.tflite"), tmp_path)).subgraphs[0]
    scales = {tensor.name: len(tensor.quantization.scale) for tensor in graph.tensors if tensor.name in (b"fc1_w", b"conv_w")}
    assert scales == {b"fc1_w": 1, b"conv_w": 8}


def test_operator_versions_are_as_low_as_the_options_allow(tmp_path):
    """A file that declares newer ones than compiler 16.0 takes is lowered; a dense layer without bias needs 6."""
    model = tflite_model.read(int8_of(write_tflite(tmp_path / "m.tflite"), tmp_path))
    for code in model.operatorCodes:
        code.version = 12
    graph = model.subgraphs[0]
    bare = next(operator for operator in graph.operators if tflite_model.operator_name(model, operator) == "FULLY_CONNECTED")
    lower_versions(model)
    versions = {
        tflite_model.operator_name(model, operator): model.operatorCodes[operator.opcodeIndex].version for operator in graph.operators
    }
    assert versions == {"CONV_2D": 3, "RESHAPE": 1, "FULLY_CONNECTED": 4}
    bare.inputs = bare.inputs[:2]
    lower_versions(model)
    assert model.operatorCodes[bare.opcodeIndex].version == 6


@pytest.mark.parametrize("activation", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_a_fused_activation_goes_where_the_output_range_clips_alike(tmp_path, activation):
    """TRANSPOSE_CONV 4 is more than the compiler takes: without its ReLU it is 3, and gives bit for bit the same; others stay."""
    path = write_transposed(tmp_path / "m.tflite", getattr(schema.ActivationFunctionType, activation))
    data = Data({"image": small_images(20, 1)}, {"image": small_images(40, 2)}, None, {"image": (0, 2, 3, 1)})
    model = tflite_model.read(int8_of(path, tmp_path, data))
    operator = model.subgraphs[0].operators[0]
    dropped = activation != "RELU_N1_TO_1"
    assert operator.builtinOptions.fusedActivationFunction == (0 if dropped else schema.ActivationFunctionType.RELU_N1_TO_1)
    assert model.operatorCodes[operator.opcodeIndex].version == (3 if dropped else 4)
    assert predict(model).mapped == dropped
    without, fused = tmp_path / "without.tflite", tmp_path / "fused.tflite"
    tflite_model.write(model, without)
    operator.builtinOptions.fusedActivationFunction = getattr(schema.ActivationFunctionType, activation)
    model.operatorCodes[operator.opcodeIndex].version = 4
    tflite_model.write(model, fused)
    feeds = {"image": small_images(20, 3).transpose(0, 2, 3, 1)}
    ours, theirs = run_model(without, "tflite", feeds), run_model(fused, "tflite", feeds)
    assert np.array_equal(ours["logits"], theirs["logits"])


def small_images(count, seed):
    return np.random.default_rng(seed).standard_normal((count, 1, 4, 4)).astype(np.float32) * 3


def write_transposed(path, activation):
    """A transposed convolution with bias and a fused activation."""
    builder = Flatbuffer()
    image, logits = builder.tensor("image", [1, 4, 4, 1]), builder.tensor("logits", [1, 8, 8, 2])
    shape = builder.tensor("shape", [4], np.array([1, 8, 8, 2], np.int32))
    kernel = builder.tensor("kernel", [2, 2, 2, 1], np.random.default_rng(0).standard_normal((2, 2, 2, 1)).astype(np.float32))
    bias = builder.tensor("bias", [2], np.array([0.5, -0.5], np.float32))
    options = schema.TransposeConvOptionsT(padding=0, strideW=2, strideH=2, fusedActivationFunction=activation)
    builder.operator("TRANSPOSE_CONV", [shape, kernel, image, bias], [logits], options, schema.BuiltinOptions.TransposeConvOptions)
    builder.model.operatorCodes[-1].version = 4
    return builder.save(path, [image], [logits])


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8-dynamic"])
def test_other_recipes_are_refused_before_any_work(tmp_path, recipe):
    """The Edge TPU has integer arithmetic only; nothing is run and nothing kept."""
    with pytest.raises(FaultError, match="int8 only") as caught:
        make(write_tflite(tmp_path / "m.tflite"), tmp_path, recipe=recipe)
    assert (caught.value.fault.code, caught.value.fault.next) == ("unsupported_op", "use int8")
    assert not (tmp_path / "cache").exists()


def test_a_larger_batch_is_refused(tmp_path):
    """With what to do."""
    path = write_tflite(tmp_path / "m.tflite")
    model = tflite_model.read(path)
    model.subgraphs[0].tensors[0].shape = [4, SIDE, SIDE, 1]
    tflite_model.write(model, path)
    with pytest.raises(FaultError, match="takes 4 samples at once") as caught:
        find("int8-edgetpu", "tflite").apply(path, {}, Workspace(tmp_path, {}))
    assert (caught.value.fault.code, caught.value.fault.next) == ("unsupported_op", "export the .tflite with batch 1")


def test_without_a_compiler_the_fault_tells_how_to_get_one_and_what_would_map(tmp_path):
    """The prediction stops at the first operation that the Edge TPU does not compute."""
    fault = fault_of(write_partial(tmp_path / "m.tflite"), tmp_path, compile_host.find([]))
    assert fault.code == "compile_fail"
    assert "predicted: the first 1 of 4 operations map; HARD_SWISH (operation 2) does not because" in fault.message
    assert "compile_host: true" in fault.next
    assert "PATH" in fault.next


def test_a_compiled_model_is_kept_with_what_the_compiler_told(tmp_path, install):
    """The manifest has counts, memory, subgraphs, version and the prediction, which is right here."""
    variant = make(write_tflite(tmp_path / "m.tflite"), tmp_path, install())
    assert [file.name for file in variant.artifact.files] == ["model_edgetpu.tflite"]
    assert variant.artifact.format == "edgetpu"
    told = variant.manifest["edgetpu"]
    assert (told["operations"], told["operations_on_edgetpu"], told["operations_on_cpu"], told["subgraphs"]) == (4, 4, 0, 1)
    assert (told["on_chip_used_bytes"], told["on_chip_remaining_bytes"], told["off_chip_bytes"]) == (7224689, 1024, 0)
    assert (told["version"], told["compiled_on"]) == ("16.0.384591198", "this machine")
    assert told["predicted"]["mapped"] == 4
    assert {"name": "CONV_2D", "count": 1, "status": "Mapped to Edge TPU"} in told["operators"]
    assert variant.manifest["recipe"]["name"] == "int8"
    assert variant.manifest["drift"]["sqnr_db"] > 20
    assert not [note for note in variant.manifest["notes"] if "predicted" in note]


def test_a_partly_mapped_model_is_kept_and_says_what_stays_on_the_cpu(tmp_path, install):
    """Placement as the compiler told it, in the manifest and in a note."""
    variant = make(write_partial(tmp_path / "m.tflite"), tmp_path, install("map 1"))
    told = variant.manifest["edgetpu"]
    assert (told["operations_on_edgetpu"], told["operations_on_cpu"], told["predicted"]["mapped"]) == (1, 3, 1)
    assert [note for note in variant.manifest["notes"] if note.startswith("3 of 4 operations run on the CPU: 1 HARD_SWISH (Operation not")]


def test_a_prediction_that_was_wrong_is_noted(tmp_path, install):
    """Both are in the manifest."""
    variant = make(write_tflite(tmp_path / "m.tflite"), tmp_path, install("map 2"))
    assert any(note == "edgetpu_compiler maps 2 of 4 operations; predicted: all 4 operations map" for note in variant.manifest["notes"])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("internal", "Internal compiler error. Aborting!"),
        ("dynamic", "static-sized tensors"),
        ("version", "Didn't find op for builtin opcode 'QUANTIZE' version '3'"),
        ("timeout", "Compilation timeout"),
        ("silent", "gave up without a reason"),
        ("crash", "SIGSEGV ended it"),
        ("map 0", "maps no operation"),
        ("cut", "not a whole TFLite file"),
        ("foreign", "the inputs of the file that it wrote"),
        ("missing", "there is none"),
    ],
)
def test_each_way_to_fail_is_told_and_leaves_nothing(tmp_path, install, monkeypatch, what, message):
    """`compile_fail` with the reason, what to do, and what was predicted."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fault = fault_of(write_tflite(tmp_path / "m.tflite"), tmp_path, install(what))
    assert fault.code == "compile_fail"
    assert message in fault.message
    assert "predicted: all 4 operations map" in fault.message
    assert fault.next
    assert not list(tmp_path.glob("compile-*"))


def test_a_compiler_that_never_ends_is_killed(tmp_path, install, monkeypatch):
    """Past our own limit it is a fault like the others."""
    compiler = install("hang")
    monkeypatch.setattr(compile_host, "COMPILE_S", 1.0)
    fault = fault_of(write_tflite(tmp_path / "m.tflite"), tmp_path, compiler)
    assert fault.code == "compile_fail"
    assert "within" in fault.message


def test_a_compiled_model_is_reused_until_model_or_compiler_changes(tmp_path, install):
    """Neither run nor compiled again; another compiler's version compiles, but does not quantise and verify again."""
    path, compiler, runs = write_tflite(tmp_path / "m.tflite"), install(), []

    def counted(model):
        runs.append(model)
        return compiler.run(model)

    counting = replace(compiler, run=counted)
    first = make(path, tmp_path, counting)
    assert make(path, tmp_path, counting) == first
    assert len(runs) == 1
    newer = make(path, tmp_path, replace(counting, version="17.0.1"))
    assert len(runs) == 2
    assert (first.manifest["edgetpu"]["version"], newer.manifest["edgetpu"]["version"]) == ("16.0.384591198", "17.0.1")
    assert newer.artifact == first.artifact


def test_what_was_compiled_before_is_good_while_there_is_no_compiler(tmp_path, install):
    """A compile host that is off keeps no run from being resumed."""
    path = write_tflite(tmp_path / "m.tflite")
    first = make(path, tmp_path, install())
    assert make(path, tmp_path, NO_COMPILER) == first
    installed = replace(context(tmp_path), further=lambda _: (Runtime("tflite-runtime", "2.14.0", run_model),))
    assert build(Source("small", None, path), recipes.get("int8"), "edgetpu", random_data(), installed) == first


def test_the_floor_holds_for_the_model_to_compile(tmp_path, install):
    """What loses more than its recipe allows before it is compiled is not shipped compiled, and the manifest says why."""
    path = write_tflite(tmp_path / "m.tflite")
    feeds = random_data().eval_feeds
    labels = run_model(path, "tflite", {"image": feeds["image"].transpose(0, 2, 3, 1)})["logits"].argmax(axis=1)

    def worse(path, kind, feeds):
        outputs = run_model(path, kind, feeds)
        if path.parent.name != "original":
            outputs = {name: np.concatenate([np.roll(one[:3], 1, axis=1), one[3:]]) for name, one in outputs.items()}
        return outputs

    recipe = replace(recipes.get("int8"), floor_pp=5.0)
    given = replace(context(tmp_path, install()), run_model=worse)
    made = build(Source("small", None, path), recipe, "edgetpu", replace(random_data(), labels=labels), given)
    assert made.refusal.code == "accuracy_floor"
    assert made.manifest["recipe"]["floor_pp"] == 5.0
    assert made.manifest["edgetpu"]["operations_on_edgetpu"] > 0


@pytest.fixture
def builder(tmp_path, install):
    """A compile host by SSH, whose commands find the fake compiler on their PATH."""
    require_sshd()
    server = Sshd("PermitUserEnvironment yes\n")
    keys = server.folder / "authorized_keys"
    keys.write_text(f'environment="PATH={install.put()}:/usr/bin:/bin" {keys.read_text()}')
    ssh = {"host": "127.0.0.1", "port": server.port, "user": server.user, "host_key": server.host_key, "config": str(server.config)}
    device = {"name": "builder", "kind": "generic", "ssh": ssh, "compile_host": True, "agent": {"cache_dir": str(tmp_path / "remote")}}
    try:
        server.start()
        yield Device.model_validate(device)
    finally:
        server.stop()


def test_a_compile_host_compiles_over_ssh_and_keeps_nothing(tmp_path, builder):
    """In a folder below its agent's cache folder, which is empty afterwards."""
    compiler = compile_host.find([builder])
    variant = make(write_tflite(tmp_path / "m.tflite"), tmp_path, compiler)
    assert variant.manifest["edgetpu"]["compiled_on"] == "builder"
    assert variant.manifest["edgetpu"]["operations_on_edgetpu"] == 4
    assert list((tmp_path / "remote").iterdir()) == []


def test_a_failure_on_a_compile_host_leaves_nothing_there(tmp_path, builder, install):
    """Its folder goes, whatever the compiler did."""
    compiler = compile_host.find([builder])
    install.put("crash")
    assert "SIGSEGV" in fault_of(write_tflite(tmp_path / "m.tflite"), tmp_path, compiler).message
    assert list((tmp_path / "remote").iterdir()) == []


def test_a_compile_host_without_the_compiler_or_out_of_reach_says_so(tmp_path, builder, install):
    """The reason of each host is in the fault."""
    (install.put() / "edgetpu_compiler").unlink()
    away = builder.model_copy(update={"name": "away", "ssh": builder.ssh.model_copy(update={"port": 1})})
    found = compile_host.find([builder, away])
    assert isinstance(found, Fault)
    assert "builder: no edgetpu_compiler on the PATH" in found.message
    assert "away: " in found.message


def first_refused(model):
    """The prediction's reason, and the status that the compiler would give."""
    found = predict(model)
    return found.why, next(row.status for row in found.operators if row.status not in (edgetpu_log.MAPPED, edgetpu_log.ONE_SUBGRAPH))


def change_version(model):
    model.operatorCodes[-1].version = 12


def change_shape(model):
    model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].shapeSignature = [-1, 10]


def change_type(model):
    model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].type = schema.TensorType.FLOAT32


def change_rank(model):
    model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shape = [2, SIDE, SIDE, 1]


def change_parameter(model):
    graph = model.subgraphs[0]
    graph.tensors[graph.operators[-1].inputs[1]].buffer = 0


def change_rows(model):
    model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].shape = [2, 5]


@pytest.mark.parametrize(
    ("change", "why", "status"),
    [
        (change_version, "version 12 is above 9", edgetpu_log.VERSION),
        (change_shape, "not fixed", edgetpu_log.UNSPECIFIED),
        (change_type, "is float32, not int8", edgetpu_log.DATA_TYPE),
        (change_rank, "innermost 3", edgetpu_log.RANK),
        (change_parameter, "not constant", edgetpu_log.UNSPECIFIED),
        (change_rows, "only one dimension", edgetpu_log.UNSPECIFIED),
    ],
)
def test_each_rule_stops_the_prediction(tmp_path, change, why, status):
    """One change to a model that maps wholly breaks one rule, which is named."""
    model = tflite_model.read(int8_of(write_tflite(tmp_path / "m.tflite"), tmp_path))
    assert predict(model).mapped == 4
    change(model)
    reason, predicted = first_refused(model)
    assert why in reason
    assert predicted == status


def test_what_follows_a_refused_operation_is_predicted_for_the_cpu(tmp_path):
    """Only one subgraph is made: operations that the Edge TPU has, but after one that it has not, stay on the CPU."""
    found = predict(tflite_model.read(int8_of(write_partial(tmp_path / "m.tflite"), tmp_path)))
    assert [(row.name, row.status) for row in found.operators] == [
        ("CONV_2D", edgetpu_log.MAPPED),
        ("HARD_SWISH", edgetpu_log.UNSUPPORTED),
        ("RESHAPE", edgetpu_log.ONE_SUBGRAPH),
        ("FULLY_CONNECTED", edgetpu_log.ONE_SUBGRAPH),
    ]


def test_an_operation_that_stays_float_is_named(tmp_path):
    """Not only the DEQUANTIZE before it."""
    model = tflite_model.read(int8_of(write_partial(tmp_path / "m.tflite", "PRELU"), tmp_path))
    assert "DEQUANTIZE (operation 2) does not because PRELU after it is float" in str(predict(model))


def test_of_a_float_model_nothing_is_predicted_to_map(tmp_path):
    """Neither of operations that the Edge TPU has, nor of others."""
    assert predict(tflite_model.read(write_tflite(tmp_path / "m.tflite"))).mapped == 0
    assert predict(tflite_model.read(write_batch_matmul(tmp_path / "n.tflite"))).mapped == 0


def test_every_documented_operation_can_be_lowered_to_what_the_compiler_takes():
    """The version that int8 needs is never above the newest taken."""
    assert {name for name, newest in edgetpu_mapping.SUPPORTED.items() if VERSIONS.get(name, 1) > newest} == set()


def test_a_run_compiles_what_its_edge_tpu_cells_need(tmp_path, install, monkeypatch):
    """In processes of its own, verified by the agent's worker: the compiler and its host travel there."""
    install.put()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    models = {"small": Model.model_construct(source=write_onnx(tmp_path / "m.onnx"), tflite=write_tflite(tmp_path / "m.tflite"), data=None)}
    cell = PlannedCell("coral", "small", "int8", "edgetpu", "edgetpu", {}, Workload("single_stream", {}), None)
    said = []
    prepared = variants.prepare(
        models, {cell.recipe: recipes.get(cell.recipe)}, [(cell.model, cell.recipe, cell.format)], tmp_path / "work", said.append
    )
    assert prepared.faults == {}
    assert prepared.variants["small", "int8", "edgetpu"].manifest["edgetpu"]["operations_on_edgetpu"] == 4
    assert prepared.datasets["small"].feeds["edgetpu"] == prepared.datasets["small"].feeds["tflite"]


def test_a_plan_leaves_other_recipes_out_for_the_edge_tpu():
    """Before anything is connected or built."""
    coral = Device.model_validate({"name": "coral", "kind": "coral-usb", "ssh": {"host": "coral"}})
    assert targets.refusal(coral, "edgetpu", {}, recipes.get("int8")) is None
    refused = targets.refusal(coral, "edgetpu", {}, recipes.get("fp16"))
    assert (refused.code, refused.phase, refused.next) == ("unsupported_op", "plan", "use int8")
