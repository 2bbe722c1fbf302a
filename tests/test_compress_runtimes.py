"""Every artifact is run in every runtime of this machine that it is meant for, and what one of them refuses is not shipped to it."""

from dataclasses import replace
from importlib import metadata, util

import numpy as np
import onnx
import pytest
from compress_models import context, images, random_data, write_onnx, write_tflite
from onnx import TensorProto, helper, numpy_helper

from agent.schema import Fault, FaultError
from compress import recipes
from compress.build import Data, Source, build
from compress.records import Runtime
from controller import environments, runtimes
from controller.provision import Choice

WIDTH = 64


@pytest.fixture(autouse=True, scope="module")
def laptop(tmp_path_factory):
    """Where unpacked runtimes are kept, once for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETMARK_CACHE", str(tmp_path_factory.mktemp("laptop")))
        yield


def made(source, data, folder, recipe="fp32", kind="onnx", further=runtimes.further):
    variant = build(source, recipes.get(recipe), kind, data, replace(context(folder), further=further))
    return variant, {one["runtime"]: one for one in variant.manifest["runtimes"]}


def saturating(path):
    """uint8 times int8, whose products of neighbours overflow 16 bits: one half of a column's weights is large, the other far below 0."""
    rng = np.random.default_rng(0)
    weights = np.concatenate([rng.integers(90, 128, (WIDTH // 2, 10)), rng.integers(-128, -79, (WIDTH // 2, 10))]).astype(np.int8)
    constants = {"s": np.float32(1 / 255), "z": np.uint8(0), "w": weights, "ws": np.float32(0.01), "wz": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("MatMul", ["d", "wd"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info(*end) for end in (("image", TensorProto.FLOAT, [1, WIDTH]), ("logits", TensorProto.FLOAT, [1, 10]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(value, name) for name, value in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return Source("saturating", path, None), Data({"image": rng.uniform(0.8, 1, (20, WIDTH)).astype(np.float32)}, {}, None, {})


def test_the_manifest_tells_of_each_runtime_with_its_version(tmp_path):
    """An .onnx runs in onnxruntime and in OpenVINO, each compared with the float model."""
    _, told = made(Source("small", write_onnx(tmp_path / "m.onnx"), None), random_data(), tmp_path, "int8")
    assert {name: one["version"] for name, one in told.items()} == {name: metadata.version(name) for name in ("onnxruntime", "openvino")}
    for one in told.values():
        assert 20 < one["drift"]["sqnr_db"] < 100
        assert (one["fault"], one["not_run"]) == (None, "")


def test_int8_that_saturates_in_one_runtime_is_caught_and_not_shipped_to_it(tmp_path, monkeypatch):
    """oneDNN held to AVX2 adds products of uint8 and int8 in 16 bits, as processors without VNNI do: OpenVINO gives something else."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    _, told = made(*saturating(tmp_path / "m.onnx"), tmp_path)
    assert told["onnxruntime"]["fault"] is None
    assert told["openvino"]["fault"]["code"] == "verification"
    assert told["openvino"]["fault"]["message"].startswith(f"openvino {metadata.version('openvino')}: its outputs are not those")
    listed = list(told.values())
    with pytest.raises(FaultError, match="not those of the float model"):
        runtimes.check(listed, "openvino", environment("openvino", "2021.4.2"))
    runtimes.check(listed, "onnxruntime", environment("onnxruntime", "1.31.1"))


def test_the_same_model_passes_where_int8_does_not_saturate(tmp_path):
    """The processor's own instructions, VNNI at least: what was caught is the saturation and nothing else about the model."""
    with open("/proc/cpuinfo", encoding="utf-8") as told_by_kernel:
        if "vnni" not in told_by_kernel.read():
            pytest.skip("this processor has no VNNI")
    _, told = made(*saturating(tmp_path / "m.onnx"), tmp_path)
    assert told["openvino"]["fault"] is None


@pytest.fixture(scope="module")
def old_tflite():
    (runtime,) = runtimes.further("tflite")
    if isinstance(runtime.run, Fault):
        pytest.skip("uv has not fetched tflite-runtime 2.14 before")
    assert (runtime.name, runtime.version) == ("tflite-runtime", "2.14.0")


@pytest.mark.usefixtures("old_tflite")
def test_what_the_old_tflite_runtime_refuses_is_shipped_to_the_new_one_only(tmp_path):
    """int4 weights: ai-edge-litert takes them, tflite-runtime 2.14 does not load the file, float weights it does."""
    source = Source("small", None, write_tflite(tmp_path / "m.tflite"))
    _, floats = made(source, random_data(), tmp_path, kind="tflite")
    assert floats["tflite-runtime"]["drift"]["sqnr_db"] > 100
    _, told = made(source, random_data(), tmp_path, "int4-weights", "tflite")
    assert (told["ai-edge-litert"]["fault"], told["tflite-runtime"]["fault"]["code"]) == (None, "bad_model")
    with pytest.raises(FaultError, match=r"tflite-runtime 2\.14\.0"):
        runtimes.check(list(told.values()), "tflite", environment("tflite-runtime", "2.13.0"))
    runtimes.check(list(told.values()), "tflite", environment("ai-edge-litert", "2.1.0"))


def test_a_runtime_that_is_not_here_is_told_with_the_reason(tmp_path, monkeypatch):
    """Nothing is downloaded: an empty cache of uv's leaves tflite-runtime untried, and the artifact is built again once it can be tried."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("FLEETMARK_CACHE", str(tmp_path / "laptop"))
    source = Source("small", None, write_tflite(tmp_path / "m.tflite"))
    before, told = made(source, random_data(), tmp_path, kind="tflite")
    assert told["tflite-runtime"]["drift"] is None
    assert "cannot be fetched" in told["tflite-runtime"]["not_run"]
    assert told["tflite-runtime"]["not_run"].endswith("devices compare outputs when they measure")
    after, told = made(
        source,
        random_data(),
        tmp_path,
        kind="tflite",
        further=lambda _: (Runtime("tflite-runtime", "2.14.0", context(tmp_path).run_model),),
    )
    assert before.folder != after.folder
    assert told["tflite-runtime"]["drift"]["sqnr_db"] > 100


@pytest.mark.usefixtures("old_tflite")
def test_a_broken_archive_leaves_the_runtime_untried(tmp_path, monkeypatch):
    """An environment that was cut off in the cache is told with its name, and nothing else fails of it."""
    whole = runtimes.cache_folder() / "environments"
    (archive,) = whole.glob("*.tar.gz")
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / archive.name).write_bytes(archive.read_bytes()[:100_000])
    monkeypatch.setenv("FLEETMARK_CACHE", str(tmp_path))
    (runtime,) = runtimes.further("tflite")
    assert isinstance(runtime.run, Fault)
    assert f"{archive.name} is broken" in runtime.run.message
    assert [path.suffix for path in (tmp_path / "unpacked").iterdir()] == [".lock"]


def test_without_openvino_the_manifest_says_how_to_get_it(monkeypatch):
    """And TensorRT, which no test machine has, is told of in the same way."""
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    (openvino,), (tensorrt,) = runtimes.further("onnx"), runtimes.further("tensorrt")
    assert isinstance(openvino.run, Fault)
    assert isinstance(tensorrt.run, Fault)
    assert (openvino.run.code, tensorrt.run.code) == ("env_missing", "env_missing")
    assert "fleetmark[openvino]" in openvino.run.next


def test_a_runtime_that_dies_takes_the_artifact_with_it_for_itself_alone(tmp_path):
    """A crash there is a fault of that runtime; the artifact stays, verified in the first one."""

    def dies(*_):
        raise FaultError("crash", "the runtime died with status -11", "", "verify")

    source = Source("small", write_onnx(tmp_path / "m.onnx"), None)
    variant, told = made(source, random_data(), tmp_path, further=lambda _: (Runtime("other", "1.0", dies),))
    assert variant.refusal is None
    assert told["other"]["fault"]["message"] == "other 1.0: the runtime died with status -11"


def test_the_floor_of_a_recipe_holds_in_each_runtime(tmp_path):
    """Outputs near enough, labels that show a loss of more than the recipe allows: that runtime's fault is `accuracy_floor`."""
    run = context(tmp_path).run_model

    def worse(path, kind, feeds):
        outputs = run(path, kind, feeds)
        outputs["logits"][:3] = np.roll(outputs["logits"][:3], 1, axis=1)
        return outputs

    path = write_onnx(tmp_path / "m.onnx")
    labels = run(path, "onnx", {"image": images(20, 1)})["logits"].argmax(axis=1)
    data, recipe = replace(random_data(), labels=labels), replace(recipes.get("fp32"), floor_pp=1.0)
    given = replace(context(tmp_path), further=lambda _: (Runtime("other", "1.0", worse),))
    variant = build(Source("small", path, None), recipe, "onnx", data, given)
    first, other = variant.manifest["runtimes"]
    assert (first["accuracy"], first["fault"], variant.refusal) == (1.0, None, None)
    assert (other["accuracy"], other["fault"]["code"]) == (0.85, "accuracy_floor")


def environment(name, version):
    wheel = environments.Wheel(name, version, "0" * 64)
    return Choice("", environments.Environment(name, "", (wheel,), "3.11", "x86_64", "2.17"))


def test_an_older_release_is_not_trusted_with_what_a_newer_one_refused():
    """The same or an older release, and TensorRT of whatever release a device has; a newer one may do better, and no other is concerned."""
    fault = {"code": "verification", "phase": "verify", "message": "garbage", "next": ""}
    told = [{"runtime": name, "version": "2.14.0", "fault": fault} for name in ("tflite-runtime", "tensorrt")]
    for backend, choice in (("tflite", environment("tflite-runtime", "2.5.0")), ("tensorrt", environment("numpy", "1.24.4"))):
        with pytest.raises(FaultError, match="garbage"):
            runtimes.check(told, backend, choice)
    for choice in (environment("tflite-runtime", "2.15.0"), environment("ai-edge-litert", "2.1.0"), Choice("", None)):
        runtimes.check(told, "tflite", choice)


def test_the_runtime_of_this_machine_is_not_sent_what_it_refused():
    """A local device without an environment has the very runtime that refused it; so may one whose version nobody knows."""
    told = [{"runtime": "openvino", "version": "", "fault": {"code": "crash", "phase": "verify", "message": "it died", "next": ""}}]
    for choice in (Choice("", None), environment("openvino", "2021.4.2")):
        with pytest.raises(FaultError, match="it died"):
            runtimes.check(told, "openvino", choice)


def test_who_asks_for_all_gets_what_loses_too_much_in_one_runtime():
    """--keep-all sends it there in spite of the floor, but never what is not the model any more."""
    faults = [{"code": code, "phase": "verify", "message": code, "next": ""} for code in ("accuracy_floor", "verification")]
    told = [{"runtime": "openvino", "version": str(at), "fault": fault} for at, fault in enumerate(faults)]
    assert list(runtimes.refusals(runtimes.binding(told, keep_all=False))) == ["openvino 0", "openvino 1"]
    assert list(runtimes.refusals(runtimes.binding(told, keep_all=True))) == ["openvino 1"]


def test_a_full_disk_is_no_runtimes_fault(tmp_path):
    """Nothing is kept of it, so that the artifact is verified there once there is room."""

    def full(*_):
        raise FaultError("disk_full", "no space left", "free some space", "verify")

    source = Source("small", write_onnx(tmp_path / "m.onnx"), None)
    with pytest.raises(FaultError, match="no space left"):
        made(source, random_data(), tmp_path, further=lambda _: (Runtime("other", "1.0", full),))
    assert [path.suffix for path in (tmp_path / "cache" / "variants").iterdir()] == [".lock"]
