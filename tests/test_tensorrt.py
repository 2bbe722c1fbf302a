"""The TensorRT backend against a fake of NVIDIA's bindings in five releases and a fake libcudart; the models are executed for real.

*Unverified on hardware*: docs/HARDWARE_STATUS.md says what would verify it.
"""
# The bindings have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import ctypes
import errno
import gc
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compress_models import context, example, save_graph
from onnx import helper, numpy_helper
from tiny_models import FASHION, load, onnx_model, run

from agent import operations
from agent.schema import FaultError, TensorSpec
from backends import Operation, cuda, engine_cache
from backends.tensorrt import TensorRtBackend, TensorRtSession
from compress import recipes
from compress.build import build
from controller.limits import MAX_DETAILS_CHARACTERS

FAKE = Path(__file__).parent / "fake_tensorrt"
RELEASES = ("8.2.1.8", "8.5.2.2", "8.6.2.3", "10.3.0.30", "11.0.0.1")
EVERY = pytest.mark.parametrize("release", RELEASES)
Simulate = Callable[..., TensorRtBackend]


@pytest.fixture(scope="session")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake libcudart, compiled."""
    library = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, FAKE / "fake_cudart.c"], check=True)
    return library


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The example model in format tensorrt by recipe."""
    source, data = example()
    folder = context(tmp_path_factory.mktemp("artifacts"))
    made = {name: build(source, recipes.get(name), "tensorrt", data, folder) for name in ("fp32", "fp16", "int8")}
    return {name: variant.folder / "model.onnx" for name, variant in made.items()}


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, cudart: Path) -> Simulate:
    """A function that makes `import tensorrt` give the fake of a release, with a GPU, and returns a new backend."""

    def begin(release: str = "10.3.0.30", sm: str = "53", **environ: str) -> TensorRtBackend:
        settings = {"FAKE_TENSORRT_VERSION": release, "FAKE_CUDART": str(cudart), "FAKE_CUDA_SM": sm, **environ}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        spec = importlib.util.spec_from_file_location("tensorrt", FAKE / "tensorrt.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr(cuda, "NAMES", (str(cudart),))
        return TensorRtBackend()

    return begin


def opened(backend: TensorRtBackend, model: Path, folder: Path, **options: Any) -> TensorRtSession:
    session = backend.load(backend.prepare(str(model), str(folder), options), options)
    assert isinstance(session, TensorRtSession)
    return session


def fault(work: Callable[[], Any]) -> Any:
    with pytest.raises(FaultError) as caught:
        work()
    assert "\n" not in caught.value.fault.message
    return caught.value.fault


def engines() -> int:
    """How many engines of the fake there are."""
    gc.collect()
    return sum(type(one).__name__ == "ICudaEngine" for one in gc.get_objects())


def images(count: int = 3) -> np.ndarray[Any, Any]:
    with np.load(FASHION / "data.npz") as data:
        return ((data["eval_image"][:count].astype(np.float32) / 255 - 0.2860) / 0.3530).astype(np.float32)


@EVERY
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8"])
def test_every_release_runs_every_precision(
    release: str, recipe: str, simulate: Simulate, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    """The outputs are the model's own, sample by sample; the flags are those that the file needs; the workspace is bounded."""
    session = opened(simulate(release), artifacts[recipe], tmp_path)
    assert session.inputs() == [TensorSpec("image", [1, 1, 28, 28], "float32")]
    expected = load(artifacts[recipe])
    for image in images():
        assert (run(session, image=image[None])["logits"] == run(expected, image=image[None])["logits"]).all()
    details = session.details()
    assert details["precisions"] == {"fp32": ["fp32"], "fp16": ["fp16", "fp32"], "int8": ["int8", "fp32"]}[recipe]
    assert (details["version"], details["sm"], details["built"]) == (release, "5.3", True)
    assert details["strongly_typed"] == (release == "11.0.0.1")
    header = next(tmp_path.glob("*.engine")).read_bytes().partition(b"\n")[0]
    told = json.loads(header[header.index(b"{") :])
    assert told["workspace"] == details["workspace_mb"] << 20 == 247 << 20
    flags = {"fp32": ["TF32"], "fp16": ["FP16", "TF32"], "int8": ["INT8", "TF32"]}[recipe]
    assert told["flags"] == (["TF32"] if details["strongly_typed"] else flags)
    session.close()


@EVERY
def test_a_query_is_copy_in_execute_copy_out_synchronise(
    release: str, simulate: Simulate, artifacts: dict[str, Path], tmp_path: Path, cudart: Path
) -> None:
    """METHOD.md's definition of TensorRT's latency: that and nothing more is done, with events around the execution alone."""
    session = opened(simulate(release), artifacts["fp32"], tmp_path)
    library = ctypes.CDLL(str(cudart))
    library.fake_trace.restype = ctypes.c_char_p
    session.bind({"image": images(1)})
    library.fake_trace()
    session.infer()
    assert library.fake_trace() == b"iexeos"
    session.close()


def test_gpu_time_lies_inside_ours(simulate: Simulate, artifacts: dict[str, Path], tmp_path: Path) -> None:
    """The events' time of the last query, in nanoseconds, is above nothing and below the time that we take around the call."""
    session = opened(simulate(), artifacts["fp32"], tmp_path)
    run(session, image=images(1))
    begin = time.perf_counter_ns()
    session.infer()
    taken = time.perf_counter_ns() - begin
    assert session.runtime_ns is not None
    assert 0 < session.runtime_ns() < taken
    session.close()


def test_inputs_are_copied_in_and_outputs_copied_out(simulate: Simulate, tmp_path: Path) -> None:
    """A feed may change after bind, an output stays as it was after the next inference; a view is bound in its own order."""
    session = opened(simulate(), onnx_model(tmp_path / "m.onnx"), tmp_path)
    feed = np.array([[1, 2, 3, 4]], np.float32)
    session.bind({"image": feed})
    feed[:] = 100
    session.infer()
    first = session.outputs()["y"]
    view = np.arange(8, dtype=np.float32).reshape(4, 2).transpose()[1:]
    assert run(session, image=view)["y"].tolist() == view.tolist()
    assert first.tolist() == [[1, 2, 3, 4]]
    assert fault(lambda: session.bind({"image": np.zeros((2, 4), np.float32)})).code == "bad_data"
    session.close()


def test_closing_gives_all_memory_back(simulate: Simulate, tmp_path: Path, cudart: Path) -> None:
    """Device memory, pinned memory, stream and events: nothing is left."""
    before = ctypes.CDLL(str(cudart)).fake_live()
    session = opened(simulate(), onnx_model(tmp_path / "m.onnx"), tmp_path)
    assert ctypes.CDLL(str(cudart)).fake_live() == before + 7
    session.close()
    assert ctypes.CDLL(str(cudart)).fake_live() == before


@pytest.mark.parametrize("room", [0, 1, 17, 33, 50])
def test_a_model_that_does_not_fit_takes_no_memory(room: int, simulate: Simulate, tmp_path: Path, cudart: Path) -> None:
    """Wherever memory runs out while a session is made, what it had taken is given back."""
    library, free, total = ctypes.CDLL(str(cudart)), ctypes.c_size_t(), ctypes.c_size_t()
    library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    before, used = library.fake_live(), total.value - free.value
    backend, model = simulate(FAKE_CUDA_ROOM=str(used + room)), onnx_model(tmp_path / "m.onnx")
    assert fault(lambda: opened(backend, model, tmp_path)).code == "oom"
    assert library.fake_live() == before


def test_an_engine_is_read_where_loading_is_timed(simulate: Simulate, tmp_path: Path) -> None:
    """Preparing keeps no engine: its deserialising is in the load's time and memory, of a kept engine as of a new one."""
    model = onnx_model(tmp_path / "m.onnx")
    for _ in range(2):
        backend = simulate()
        path = backend.prepare(str(model), str(tmp_path), {})
        assert engines() == 0
        session = backend.load(path, {})
        assert engines() == 1
        session.close()


def test_an_engine_is_built_once(simulate: Simulate, tmp_path: Path) -> None:
    """The second time it comes from the folder, in another process too; its record says how long it took to build."""
    model = onnx_model(tmp_path / "m.onnx")
    first = opened(simulate(), model, tmp_path).details()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = opened(simulate(), model, tmp_path).details()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert (first["built"], again["built"]) == (True, False)
    assert again["build_s"] == first["build_s"]


@pytest.mark.parametrize(
    "other",
    [
        {"release": "10.3.0.26"},
        {"sm": "87"},
        {"precision": "fp16"},
        {"workspace_mb": 300},
    ],
)
def test_another_release_gpu_or_option_has_an_engine_of_its_own(other: dict[str, Any], simulate: Simulate, tmp_path: Path) -> None:
    """Engines are not portable: (model, TensorRT's version, compute capability, flags) tell them apart."""
    model = onnx_model(tmp_path / "m.onnx")
    opened(simulate(), model, tmp_path)
    options = {key: other[key] for key in other.keys() & {"precision", "workspace_mb"}}
    release = {key: other[key] for key in other.keys() & {"release", "sm"}}
    assert opened(simulate(**release), model, tmp_path, **options).details()["built"]
    assert len(list(tmp_path.glob("*.engine"))) == 2
    assert not opened(simulate(), model, tmp_path).details()["built"]


def test_an_unusable_engine_is_built_again(simulate: Simulate, tmp_path: Path) -> None:
    """Cut anywhere, another one's content, no record, a cut record, or refused by TensorRT: rebuilt, and then kept."""
    model = onnx_model(tmp_path / "m.onnx")
    opened(simulate(), model, tmp_path)
    path = next(tmp_path.glob("*.engine"))
    record, content = Path(f"{path}.json"), path.read_bytes()
    for share in (0.0, 0.3, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        assert opened(simulate(), model, tmp_path).details()["built"]
    engine_cache.write(str(path), content.replace(b"10.3.0.30", b"10.3.0.31"), {})
    assert opened(simulate(), model, tmp_path).details()["built"]
    for damage in (record.unlink, lambda: record.write_bytes(b'{"engine_sha2'), lambda: record.write_bytes(b"[]"), path.unlink):
        damage()
        assert opened(simulate(), model, tmp_path).details()["built"]
    assert not opened(simulate(), model, tmp_path).details()["built"]


def test_what_a_killed_build_left_goes_with_the_next(simulate: Simulate, tmp_path: Path) -> None:
    """Half an engine under its temporary name does not stay; another model's does, which is none of this build's."""
    model = onnx_model(tmp_path / "m.onnx")
    opened(simulate(), model, tmp_path)
    path = next(tmp_path.glob("*.engine"))
    left, other = Path(f"{path}.17.tmp"), tmp_path / "tensorrt-0123456789abcdef.engine.17.tmp"
    for file in (left, other):
        file.write_bytes(b"half")
    path.unlink()
    assert opened(simulate(), model, tmp_path).details()["built"]
    assert (left.exists(), other.exists()) == (False, True)


def test_an_engine_that_tensorrt_refuses_even_when_new_is_a_fault(simulate: Simulate, tmp_path: Path) -> None:
    """No endless rebuilding: the fault has TensorRT's own words."""
    backend, model = simulate(FAKE_TENSORRT_REFUSES="1"), onnx_model(tmp_path / "m.onnx")
    found = fault(lambda: opened(backend, model, tmp_path))
    assert found.code == "compile_fail"
    assert "Version tag does not match" in found.message


@pytest.mark.parametrize("damage", [b"", b"garbage", b"timing of 8.2.1.8;x"])
def test_kernel_timings_are_kept_for_the_next_build(damage: bytes, simulate: Simulate, tmp_path: Path) -> None:
    """A build adds to the timing cache of its release and GPU; one that is damaged or another release's is begun anew."""
    model = onnx_model(tmp_path / "m.onnx")
    opened(simulate(), model, tmp_path)
    timing = tmp_path / "tensorrt-10.3.0.30-sm5.3.timing"
    assert timing.read_bytes() == b"timing of 10.3.0.30;x"
    opened(simulate(), model, tmp_path, precision="fp16")
    assert timing.read_bytes() == b"timing of 10.3.0.30;xx"
    timing.write_bytes(damage)
    opened(simulate(), model, tmp_path, workspace_mb=99)
    assert timing.read_bytes() == b"timing of 10.3.0.30;x"


def test_a_builder_without_a_timing_cache_builds_all_the_same(simulate: Simulate, tmp_path: Path) -> None:
    """It has nothing to keep."""
    opened(simulate(FAKE_TENSORRT_NO_TIMING="1"), onnx_model(tmp_path / "m.onnx"), tmp_path)
    assert next(tmp_path.glob("*.timing")).read_bytes() == b""


def test_operators_that_are_plug_ins_are_there(simulate: Simulate, tmp_path: Path) -> None:
    """TensorRT's plug-ins are registered before anything is parsed: InstanceNormalization is one in 8.2."""
    ones = [numpy_helper.from_array(np.ones(1, np.float32), name) for name in ("scale", "bias")]
    node = helper.make_node("InstanceNormalization", ["image", "scale", "bias"], ["logits"])
    model = save_graph(tmp_path / "m.onnx", [node], [1, 1, 4], [1, 1, 4], ones)
    session = opened(simulate("8.2.1.8"), model, tmp_path)
    assert run(session, image=np.full((1, 1, 4), 3, np.float32))["logits"].tolist() == [[[1, 1, 1, 1]]]


def test_a_full_disk_leaves_nothing(simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that cannot be written is an OSError, and no half of it stays."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    backend, model = simulate(), onnx_model(tmp_path / "m.onnx")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        opened(backend, model, tmp_path)
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize(
    ("words", "code", "remedy"),
    [
        ("Could not find any implementation for node Conv_0.", "unsupported_op", "raise option workspace_mb (it is 247)"),
        ("OutOfMemory (no further information)", "oom", "lower option workspace_mb (it is 247)"),
        ("Cuda Runtime (out of memory)", "oom", "swap"),
        ("Requested amount of memory (150994944 bytes) could not be allocated.", "oom", "swap"),
        ("Assertion asCopyingLeafNode() failed.", "compile_fail", "see the log"),
    ],
)
def test_what_the_builder_says_becomes_the_fault(words: str, code: str, remedy: str, simulate: Simulate, tmp_path: Path) -> None:
    """The message has the error that says most, not TensorRT's closing one."""
    backend, model = simulate(FAKE_TENSORRT_ERROR=words), onnx_model(tmp_path / "m.onnx")
    found = fault(lambda: opened(backend, model, tmp_path))
    assert (found.code, found.message) == (code, f"m.onnx: 10: {words}")
    assert remedy in found.next
    assert list(tmp_path.iterdir()) == [model]


@EVERY
def test_an_operator_that_tensorrt_lacks_is_named(release: str, simulate: Simulate, tmp_path: Path) -> None:
    """Releases before 10 tell the node's number, later ones its operator too, and call it INVALID_NODE."""
    backend, model = simulate(release), onnx_model(tmp_path / "m.onnx", "Frobnicate", domain="acme.example")
    found = fault(lambda: opened(backend, model, tmp_path))
    assert found.code == "unsupported_op"
    assert "m.onnx: node 0" in found.message
    assert "Plugin not found" in found.message
    assert ("Frobnicate" in found.message) == (not release.startswith("8."))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_that_is_no_model_is_a_bad_model(share: float, simulate: Simulate, tmp_path: Path) -> None:
    """A cut file is one line that names it."""
    model, content = tmp_path / "m.onnx", (FASHION / "model.onnx").read_bytes()
    model.write_bytes(content[: int(len(content) * share)])
    backend = simulate()
    found = fault(lambda: opened(backend, model, tmp_path))
    assert found.code == "bad_model"
    assert found.message.startswith("m.onnx: ")
    assert fault(lambda: backend.prepare(str(tmp_path / "none.onnx"), str(tmp_path), {})).code == "bad_model"


@pytest.mark.parametrize(
    ("release", "options", "code", "words"),
    [
        ("10.3.0.30", {"precision": "half"}, "bad_data", "no precision 'half'"),
        ("10.3.0.30", {"workspace_mb": 0}, "bad_data", "workspace_mb cannot be 0"),
        ("10.3.0.30", {"threads": 1}, "bad_data", "no option 'threads'"),
        ("10.3.0.30", {"runtime": "tensorrt==8.2.1.8"}, "env_missing", "tensorrt==8.2.1.8 is wanted, tensorrt 10.3.0.30 was imported"),
        ("10.3.0.30", {"precision": "int8"}, "unsupported_op", "no Q/DQ layers"),
        ("11.0.0.1", {"precision": "fp16"}, "unsupported_op", "takes the precision from the model"),
    ],
)
def test_an_option_that_cannot_be_met_is_a_fault(
    release: str, options: dict[str, Any], code: str, words: str, simulate: Simulate, tmp_path: Path
) -> None:
    """Unknown options, other runtimes, and precisions that the model or the release does not have."""
    backend, model = simulate(release), onnx_model(tmp_path / "m.onnx")
    found = fault(lambda: opened(backend, model, tmp_path, **options))
    assert found.code == code
    assert words in found.message
    assert found.next


def test_open_dimensions_are_refused(simulate: Simulate, tmp_path: Path) -> None:
    """An engine is built for one shape; compress sets open dimensions to 1."""
    backend, model = simulate(), onnx_model(tmp_path / "m.onnx", rows="batch")
    found = fault(lambda: opened(backend, model, tmp_path))
    assert (found.code, "input image has open dimensions [-1, 4]" in found.message) == ("unsupported_op", True)


def test_int8_on_a_gpu_without_int8_hardware_is_noted(simulate: Simulate, artifacts: dict[str, Path], tmp_path: Path) -> None:
    """On a Jetson Nano (sm 5.3) details say that int8 is no speed-up, on an Orin (8.7) they do not."""
    nano = opened(simulate("8.2.1.8"), artifacts["int8"], tmp_path).details()
    orin = opened(simulate("8.2.1.8", sm="87"), artifacts["int8"], tmp_path).details()
    assert (nano["notes"], orin["notes"]) == (["this GPU has no INT8 hardware: int8 is no speed-up here"], [])


@pytest.mark.parametrize(("sm", "precision", "tf32"), [("53", "auto", False), ("87", "auto", True), ("87", "fp32", False)])
def test_tf32_is_told_and_off_where_fp32_is_asked_for(sm: str, precision: str, tf32: bool, simulate: Simulate, tmp_path: Path) -> None:
    """TensorRT computes float32 in TF32 where the GPU can, unless told otherwise."""
    details = opened(simulate(sm=sm), onnx_model(tmp_path / "m.onnx"), tmp_path, precision=precision).details()
    assert details["tf32"] is tf32


def test_details_tell_engine_memory_and_layers(simulate: Simulate, tmp_path: Path) -> None:
    """Sizes in bytes, CUDA's versions, layer names cut to a bearable length; all of it JSON."""
    details = opened(simulate(), onnx_model(tmp_path / "m.onnx"), tmp_path).details()
    assert details["engine_bytes"] == next(tmp_path.glob("*.engine")).stat().st_size
    assert (details["device_memory_bytes"], details["layers"]) == (4096, 2)
    assert details["gpu_memory_bytes"] == 3956 << 20 > details["gpu_memory_free_bytes"] > 0
    assert (details["cuda_runtime"], details["cuda_driver"]) == ("10.2", "12.6")
    assert [len(name) for name in details["layer_names"]] == [len("conv + relu"), 120]
    assert json.loads(json.dumps(details)) == details


def test_a_deep_models_details_are_read(simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of a thousand fused layers with long names tells what a controller reads: it refuses a launch with larger details."""
    session = opened(simulate(), onnx_model(tmp_path / "m.onnx"), tmp_path)
    layers = json.dumps({"Layers": [f"PWN({at}) \u00d7 " + "x" * 500 for at in range(1000)]})
    monkeypatch.setattr(sys.modules["tensorrt"].EngineInspector, "get_engine_information", lambda *_: layers)
    details = session.details()
    assert len(details["layer_names"]) > 10
    assert len(json.dumps(details)) < MAX_DETAILS_CHARACTERS


def test_a_profile_gives_each_layers_time(simulate: Simulate, tmp_path: Path) -> None:
    """Of the last query alone, in seconds; without option `profile` there is none, and the engine is the same."""
    model = onnx_model(tmp_path / "m.onnx")
    session = opened(simulate(), model, tmp_path, profile=True)
    for _ in range(2):
        run(session, image=np.zeros((1, 4), np.float32))
    assert session.operations() == [Operation("conv + relu", "", "TensorRT", 0.25e-3, "accelerator")]
    told = operations.profile(session, 3, lambda: True)
    assert told.operations == [operations.Profiled("conv + relu", "", "TensorRT", "accelerator")]
    assert list(told.operation_ns) == [250_000] * 3
    plain = opened(simulate(), model, tmp_path)
    run(plain, image=np.zeros((1, 4), np.float32))
    assert plain.operations() == []
    assert not plain.details()["built"]


@pytest.mark.parametrize(
    ("environ", "code", "words"),
    [
        ({"FAKE_CUDA_ERROR": "100"}, "no_device", "finds no GPU: no CUDA-capable device is detected"),
        ({"FAKE_TENSORRT_NO_BUILDER": "1"}, "no_device", "CUDA initialization failure with error: 35."),
        ({"FAKE_TENSORRT_NO_CONTEXT": "1"}, "oom", "no execution context"),
        ({"FAKE_CUDA_ROOM": "20"}, "oom", "out of GPU memory"),
        ({"FAKE_TENSORRT_NO_EXECUTION": "1"}, "crash", "TensorRT does not execute"),
        ({"FAKE_CUDA_SYNC_ERROR": "700"}, "crash", "inference: CUDA error 700"),
    ],
)
def test_a_gpu_that_fails_is_a_fault(environ: dict[str, str], code: str, words: str, simulate: Simulate, tmp_path: Path) -> None:
    """No GPU, no memory, no context, an execution that is refused or breaks: each its own words."""
    backend, model = simulate(**environ), onnx_model(tmp_path / "m.onnx")
    found = fault(lambda: run(opened(backend, model, tmp_path), image=np.zeros((1, 4), np.float32)))
    assert found.code == code
    assert words in found.message
    assert found.next


def test_without_libcudart_the_environment_is_missing(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault says where the library may come from; a probe says the same and does not raise."""
    backend = simulate()
    monkeypatch.setattr(cuda, "_candidates", lambda: ["/no/libcudart.so"])
    found = fault(cuda.Cuda)
    assert (found.code, "LD_LIBRARY_PATH" in found.next) == ("env_missing", True)
    probed = backend.probe()
    assert (probed.ok, probed.reason) == (False, found.message)


def test_a_probe_tells_release_and_gpu(simulate: Simulate) -> None:
    """Version and compute capability are what the device has."""
    probed = simulate("8.2.1.8").probe()
    assert (probed.ok, probed.version, probed.devices) == (True, "8.2.1.8", ["cuda:0 sm 5.3"])


@pytest.mark.parametrize("module", [None, "empty"])
def test_without_nvidias_bindings_the_mend_is_told(module: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module, or one that is something else such as bare type stubs: python3-libnvinfer and the system's own Python are named."""
    monkeypatch.setitem(sys.modules, "tensorrt", module and type(sys)("tensorrt"))  # type: ignore[arg-type]
    found = fault(lambda: TensorRtBackend().start({}))
    assert found.code == "env_missing"
    assert "python3-libnvinfer" in found.next
    assert "/usr/bin/python3" in found.next


def test_only_a_prepared_engine_is_loaded(simulate: Simulate, tmp_path: Path) -> None:
    """An ONNX file itself, or an engine that somebody else built, is refused."""
    backend, model = simulate(), onnx_model(tmp_path / "m.onnx")
    assert fault(lambda: backend.load(str(model), {})).code == "bad_model"
