"""OpenVINO of every generation: real runtimes in real workers, old ones under old interpreters; sticks as HARDWARE.md describes them."""
# openvino is typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import ctypes.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uv
from agents import Agent, fault
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import FASHION, load, onnx_model, openvino_model, run

from agent.schema import Artifact, FaultError, Feed, ModelFile
from backends import myriad, onnx_file
from backends.myriad import Stick
from controller import environments

OLD = {"2021.4.2": "3.9.18", "2022.3.1": "3.10.13"}
PLATFORM = "x86_64-manylinux_2_28"
PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
IMAGES = Feed("image", "eval_image", 1 / 255, [0.2860], [0.3530], [])
STICK = Stick("2-1.3", booted=False, node="/dev/bus/usb/002/005", writable=True)


@pytest.fixture(scope="session")
def old_agent(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Agent]:
    """An agent under the Python of an old OpenVINO, whose environment is installed; needs the package index."""
    agents: dict[str, Agent] = {}

    def make(version: str) -> Agent:
        python = PYENV / OLD[version] / "bin" / "python"
        if not python.exists() and not os.environ.get("CI"):
            pytest.skip(f"pyenv has no Python {OLD[version]}")
        if version not in agents:
            agents[version] = Agent(tmp_path_factory.mktemp(f"openvino-{version}"), str(python))
            chosen = environments.choose("openvino", f"openvino=={version}", OLD[version], "x86_64", "2.36", 64)
            wheels = [f"{wheel.name}=={wheel.version}" for wheel in chosen.wheels]
            target = ["--target", agents[version].cache.environment("old"), "--python-version", OLD[version]]
            command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", sys.executable, *target]
            subprocess.run([*command, "--no-deps", "--only-binary", ":all:", "--python-platform", PLATFORM, *wheels], check=True)
        return agents[version]

    return make


def launched(agent: Agent, path: Path, **changes: Any) -> list[dict[str, Any]]:
    """The events of a launch that evaluates the example's images."""
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    stored = [ModelFile(file.name, agent.put(file.read_bytes()), file.stat().st_size) for file in files]
    artifact = Artifact(stored[0].sha256, "openvino" if path.suffix == ".xml" else "onnx", stored)
    launch = {"artifact": artifact, "backend": "openvino", "environment": "old", "feeds": [IMAGES], **changes}
    return agent.run(data=(FASHION / "data.npz").read_bytes(), **launch)


def outcome(agent: Agent, events: list[dict[str, Any]]) -> tuple[float, dict[str, Any], set[str]]:
    """Accuracy on the example's images, the session's details, and which samples were told."""
    samples = {event["data"]["metric"]: event["data"] for event in events if event["type"] == "sample"}
    assert "output_0" in samples, events
    content = Path(agent.cache.launch(f"launch-{agent.launches}", "files", samples["output_0"]["sha256"])).read_bytes()
    with np.load(FASHION / "data.npz") as data:
        classes = np.frombuffer(content, "<f4").reshape(-1, 10).argmax(axis=1)
        accuracy = float(np.mean(classes == data["eval_labels"]))
    (details,) = (event["data"]["details"] for event in events if event["type"] == "phase" and event["data"]["name"] == "details")
    return accuracy, details, set(samples)


def test_2021_4_runs_the_examples_onnx(old_agent: Callable[[str], Agent]) -> None:
    """The agent's worker under Python 3.9 measures the ONNX file on the CPU and tells version, settings and the runtime's own clock."""
    agent = old_agent("2021.4.2")
    options = {"runtime": "openvino==2021.4.2", "threads": 1}
    accuracy, details, samples = outcome(agent, launched(agent, FASHION / "model.onnx", options=options))
    assert abs(accuracy - 0.925) <= 0.005
    assert {"latency_ns", "runtime_ns"} <= samples
    assert (details["version"], details["device"], details["cpu_threads_num"]) == ("2021.4.2", "CPU", "1")
    assert details["cpu_throughput_streams"] == "1"
    assert details["device_names"]["CPU"]


def test_2022_3_reads_todays_float16_ir(old_agent: Callable[[str], Agent], tmp_path: Path) -> None:
    """IR that today's OpenVINO wrote with weights in float16 is as accurate in 2022.3.1 under Python 3.10."""
    import openvino

    agent = old_agent("2022.3.1")
    openvino.save_model(openvino.Core().read_model(FASHION / "model.onnx"), tmp_path / "model.xml", compress_to_fp16=True)
    events = launched(agent, tmp_path / "model.xml", options={"runtime": "openvino==2022.3.1"})
    accuracy, details, samples = outcome(agent, events)
    assert abs(accuracy - 0.925) <= 0.005
    assert {"latency_ns", "runtime_ns"} <= samples
    assert (details["version"], details["num_streams"], details["performance_hint"]) == ("2022.3.1", 1, "LATENCY")


@pytest.mark.parametrize("libusb", [True, False])
def test_myriad_without_a_stick_says_what_to_check(libusb: bool, old_agent: Callable[[str], Agent], tmp_path: Path) -> None:
    """The real plugin of 2021.4.2, asked for a stick that is not there: no_device, and what to plug in or to install."""
    if libusb and not ctypes.util.find_library("usb-1.0") and not os.environ.get("CI"):
        pytest.skip("libusb-1.0-0 is not installed")
    (tmp_path / "libusb-1.0.so.0").write_text("not a library")
    environ = {} if libusb else {"LD_LIBRARY_PATH": str(tmp_path)}
    options = {"device": "MYRIAD", "usb_path": "2-1.3"}
    code, phase, message = fault(launched(old_agent("2021.4.2"), FASHION / "model.onnx", options=options, environ=environ))
    assert (code, phase) == ("no_device", "load")
    assert message.startswith("no Neural Compute Stick on USB port 2-1.3" if libusb else "MYRIAD needs libusb-1.0.so.0")


@pytest.mark.parametrize("version", ["2022.3.1", "today's"])
def test_wheels_without_the_plugin_name_the_last_that_has_it(version: str, old_agent: Callable[[str], Agent], tmp_path: Path) -> None:
    """MYRIAD on a release whose wheel lacks or dropped it is no_device, and the mend is the runtime to ask for."""
    if version == "today's":
        with pytest.raises(FaultError) as caught:
            load(onnx_model(tmp_path / "m.onnx"), "openvino", device="MYRIAD")
        found = caught.value.fault
        assert "openvino==2021.4.2" in found.next
        assert (found.code, "no MYRIAD plugin" in found.message) == ("no_device", True)
    else:
        code, _, message = fault(launched(old_agent(version), FASHION / "model.onnx", options={"device": "MYRIAD"}))
        assert (code, "no MYRIAD plugin" in message) == ("no_device", True)


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ({"opset": 15}, "unsupported_op", "operator set 15, OpenVINO 2021.4 knows 13"),
        ({"rows": "batch"}, "unsupported_op", "dynamic"),
        ({"operator": "Frobnicate"}, "unsupported_op", "Frobnicate"),
        (None, "bad_model", "not a whole ONNX file"),
    ],
)
def test_what_2021_4_cannot_open_is_told(
    model: dict[str, Any] | None, code: str, words: str, old_agent: Callable[[str], Agent], tmp_path: Path
) -> None:
    """A newer operator set, which it would read as 13 without a word, open shapes, an unknown operator and half a file are refused."""
    path = tmp_path / "model.onnx"
    if model is None:
        path.write_bytes((FASHION / "model.onnx").read_bytes()[:60_000])
    else:
        onnx_model(path, **model)
    found = fault(launched(old_agent("2021.4.2"), path, evaluate=False))
    assert found[:2] == (code, "load")
    assert found[2].startswith("model.onnx: ")
    assert words in found[2]


USB_IDS = {"unbooted": "2485", "booted": "f63b"}


def plug(root: Path, port: str, state: str = "unbooted", vendor: str = "03e7", node: bool = True) -> None:
    """Lays a USB device into a fake root as the kernel shows it."""
    folder = root / "sys/bus/usb/devices" / port
    folder.mkdir(parents=True)
    bus = port.partition("-")[0]
    number = str(len(list(folder.parent.iterdir())))
    for name, value in (("idVendor", vendor), ("idProduct", USB_IDS[state]), ("busnum", bus), ("devnum", number)):
        (folder / name).write_text(value + "\n")
    if node:
        path = root / "dev/bus/usb" / bus.zfill(3) / number.zfill(3)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_sticks_are_found_by_vendor_with_state_and_node(tmp_path: Path) -> None:
    """Of what is on USB, Movidius devices are sticks: with their port, whether booted, and whether their node may be written."""
    plug(tmp_path, "1-4", vendor="18d1")
    plug(tmp_path, "2-1.3")
    plug(tmp_path, "2-1.4", "booted", node=False)
    (tmp_path / "sys/bus/usb/devices/usb2").mkdir()
    ready, gone = myriad.sticks(str(tmp_path))
    assert (ready.port, ready.booted, ready.writable) == ("2-1.3", False, True)
    assert ready.node == str(tmp_path / "dev/bus/usb/002/002")
    assert (gone.port, gone.booted, gone.writable) == ("2-1.4", True, False)
    assert myriad.sticks(str(tmp_path / "nothing")) == []


@pytest.mark.parametrize(
    ("ids", "ports", "wanted", "found"),
    [
        (["3.1-ma2480"], ["3-1"], "", "MYRIAD"),
        (["3.1-ma2480"], ["3-1"], "3-1", "MYRIAD.3.1-ma2480"),
        (["1.3-ma2480", "1.4-ma2480"], ["2-1.3", "2-1.4"], "2-1.4", "MYRIAD.1.4-ma2480"),  # built without the bus
        (["2.1.3-ma2480", "2.1.4-ma2480"], ["2-1.3", "2-1.4"], "2-1.3", "MYRIAD.2.1.3-ma2480"),
        (["1.1.3-ma2480"], ["1-1.3"], "2-1.3", "MYRIAD.1.1.3-ma2480"),  # on the hub's USB 2 side until its firmware runs
        (["1.3-ma2480", "2.1.3-ma2480"], ["1-3", "2-1.3"], "2-1.3", "MYRIAD.2.1.3-ma2480"),
        (["1.1.3-ma2480", "2.1.3-ma2480"], ["1-1.3", "2-1.3"], "2-1.3", "MYRIAD.2.1.3-ma2480"),
    ],
)
def test_the_stick_in_a_port_is_chosen(ids: list[str], ports: list[str], wanted: str, found: str) -> None:
    """OpenVINO's ids have the ports, with or without the bus in front; the one in the wanted port is taken, on either side of its hub."""
    assert myriad.device(ids, wanted, [STICK._replace(port=port) for port in ports]) == found


@pytest.mark.parametrize(
    ("ids", "seen", "code", "words"),
    [
        ([], [], "no_device", "no Neural Compute Stick on USB port 2-1.3"),
        (["1.3-ma2480"], [STICK._replace(port="1-3")], "no_device", "OpenVINO offers 1.3-ma2480, USB shows 1-3"),
        (["1.1.3-ma2480", "3.1.3-ma2480"], [STICK._replace(port="1-1.3"), STICK._replace(port="3-1.3")], "no_device", "more than one"),
        (["2.1.4-ma2480"], [STICK._replace(booted=True), STICK._replace(port="2-1.4")], "busy", "port 2-1.3 runs another"),
    ],
)
def test_a_port_without_its_stick_is_told_with_what_was_seen(ids: list[str], seen: list[Stick], code: str, words: str) -> None:
    """None in the port, another one elsewhere, two that could be meant, one that is taken: never just any stick."""
    with pytest.raises(FaultError) as caught:
        myriad.device(ids, "2-1.3", seen)
    assert caught.value.fault.code == code
    assert words in caught.value.fault.message


@pytest.mark.parametrize(
    ("text", "seen", "code", "message", "remedy"),
    [
        ("Can not init Myriad device: NC_ERROR", [], "no_device", "no Neural Compute Stick on USB", "lsusb"),
        ("Can not init Myriad device: NC_ERROR", [STICK._replace(writable=False)], "no_device", "no permission to write to /dev", "udev"),
        ("Can not init Myriad device: NC_ERROR", [STICK._replace(booted=True)], "busy", "another process's firmware", "end the other"),
        ("Can not init Myriad device: NC_ERROR", [STICK], "no_device", "did not come back", "03e7:f63b"),
        ("Failed to allocate graph: MYRIAD device is not opened.", [STICK], "no_device", "did not come back", "powered hub"),
        ("Failed to find booted device after boot", [STICK], "no_device", "did not come back", "powered hub"),
        ("Cannot load library 'libopenvino_intel_myriad_plugin.so'", [STICK], "no_device", "no MYRIAD plugin", "openvino==2021.4.2"),
        ("libusb-1.0.so.0: cannot open shared object file", [STICK], "no_device", "needs libusb-1.0.so.0", "apt-get install libusb-1.0-0"),
    ],
)
def test_each_reason_for_no_stick_has_its_own_finding(text: str, seen: list[Stick], code: str, message: str, remedy: str) -> None:
    """The plugin's words, which are the same for many causes, and what is on USB tell the cause and the mend."""
    found = myriad.opening_fault(text, seen, "")
    assert found is not None
    assert found.fault.code == code
    assert message in found.fault.message
    assert text in found.fault.message
    assert remedy in found.fault.next


def test_an_error_about_the_model_is_not_one_of_the_stick() -> None:
    """An operator that MYRIAD lacks stays a refusal of the model."""
    assert myriad.opening_fault("Failed to compile layer: Unsupported operation Frobnicate", [STICK], "") is None


def test_a_lock_file_of_another_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin would end the process where it cannot open its lock file: told before, with its path."""
    monkeypatch.setattr(myriad, "MUTEX", str(tmp_path / "no folder" / "mvnc.mutex"))
    with pytest.raises(FaultError, match=r"mvnc\.mutex cannot be opened"):
        myriad.check_mutex()


class FakeInferenceEngine(ModuleType):
    """openvino.inference_engine with one stick, as its documentation and sources tell; keeps what it was asked for."""

    __version__ = "2021.4.2-3974-e2a469a3450-releases/2021/4"

    def __init__(self) -> None:
        super().__init__("openvino.inference_engine")
        self.loaded: tuple[str, dict[str, str]] | None = None
        blob = SimpleNamespace(buffer=np.zeros((1, 4), np.float32), tensor_desc=SimpleNamespace(dims=[1, 4], precision="FP32"))
        self.request = SimpleNamespace(infer=lambda: None, latency=1.5, input_blobs={"image": blob}, output_blobs={"y": blob})

    def IECore(self) -> Any:  # noqa: N802 - its name
        metrics = {"AVAILABLE_DEVICES": ["2.1.3-ma2480"], "FULL_DEVICE_NAME": "Intel Movidius Myriad X VPU"}
        network = SimpleNamespace(get_ov_name_for_tensor=str)
        return SimpleNamespace(
            get_metric=lambda _, name: metrics[name], read_network=lambda _: network, load_network=self.load, available_devices=[]
        )

    def load(self, _: Any, device: str, config: dict[str, str], **requests: int) -> Any:
        assert requests == {"num_requests": 1}
        self.loaded = (device, config)
        metrics = {"DEVICE_THERMAL": 41.5, "OPTIMAL_NUMBER_OF_INFER_REQUESTS": 2}
        image = SimpleNamespace(tensor_desc=self.request.input_blobs["image"].tensor_desc)
        return SimpleNamespace(
            requests=[self.request], input_info={"image": image}, get_metric=metrics.__getitem__, get_config=self.not_told
        )

    def not_told(self, _: str) -> str:
        raise RuntimeError("[ NOT_IMPLEMENTED ]")


def test_a_stick_is_loaded_by_its_id_with_one_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake 2021.4 and a stick in the port: one stream is asked for, its hardware acceleration left alone, its temperature told."""
    fake = FakeInferenceEngine()
    package = ModuleType("openvino")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "openvino", package)
    monkeypatch.setitem(sys.modules, "openvino.inference_engine", fake)
    monkeypatch.setattr("backends.checks.installed", lambda _, module: ("openvino", module.__version__))
    monkeypatch.setattr(myriad, "sticks", lambda: [STICK])
    monkeypatch.setattr(myriad, "MUTEX", str(tmp_path / "mvnc.mutex"))
    options = {"device": "MYRIAD", "usb_path": "2-1.3", "runtime": "openvino==2021.4.2"}
    session = load(onnx_model(tmp_path / "m.onnx"), "openvino", **options)
    assert fake.loaded == ("MYRIAD.2.1.3-ma2480", {"MYRIAD_THROUGHPUT_STREAMS": "1"})
    assert run(session, image=np.ones((1, 4), np.float32))["y"].tolist() == [[1, 1, 1, 1]]
    assert session.runtime_ns is not None
    assert session.runtime_ns() == 1_500_000
    details = session.details()
    assert details["temp_c"] == 41.5
    assert (details["version"], details["myriad_throughput_streams"], details["infer_requests"]) == ("2021.4.2", "1", 2)
    assert details["device_names"] == {"MYRIAD.2.1.3-ma2480": "Intel Movidius Myriad X VPU"}
    assert json.loads(json.dumps(details)) == details


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"usb_path": "2-1.3"}, "bad_data", "usb_path is of MYRIAD"),
        ({"device": "GPU.0"}, "no_device", "GPU.0"),
        ({"device": "NPU", "threads": 2}, "bad_data", "threads is of the CPU"),
    ],
)
def test_an_option_of_another_device_is_refused(options: dict[str, Any], code: str, words: str, tmp_path: Path) -> None:
    """What a device does not have is told before OpenVINO is asked for it."""
    with pytest.raises(FaultError) as caught:
        load(onnx_model(tmp_path / "m.onnx"), "openvino", **options)
    assert (caught.value.fault.code, words in caught.value.fault.message) == (code, True)


@pytest.mark.parametrize("device", ["CPU", "AUTO", "AUTO:CPU", "HETERO:CPU"])
def test_details_name_the_devices_in_full(device: str, tmp_path: Path) -> None:
    """Whatever device is asked for, the details say which one runs the model and what that is called."""
    details = load(onnx_model(tmp_path / "m.onnx"), "openvino", device=device).details()
    assert details["device"] == device
    assert len(details["device_names"]["CPU"]) > 3


def test_a_profiled_session_tells_its_operations(tmp_path: Path) -> None:
    """With option profile each operation has its time, type and kernel; without, there are none."""
    path = openvino_model(tmp_path / "m.xml", FASHION / "model.onnx")
    image = np.zeros((1, 1, 28, 28), np.float32)
    profiled, plain = load(path, profile=True), load(path)
    run(profiled, image=image)
    run(plain, image=image)
    operations = profiled.operations()
    assert {"Convolution", "FullyConnected"} <= {operation.type for operation in operations}
    assert all(operation.name and operation.kernel and operation.seconds >= 0 for operation in operations)
    assert plain.operations() == []


@given(st.binary(max_size=200))
def test_an_onnx_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever the bytes, the reader gives a header or says bad_model."""
    path = tmp_path_factory.getbasetemp() / "hostile.onnx"
    path.write_bytes(content)
    try:
        header = onnx_file.read(str(path))
    except FaultError as error:
        header = error.fault.code
    assert header == "bad_model" or isinstance(header, onnx_file.Header)


def test_an_onnx_header_has_opset_and_outputs_in_order(tmp_path: Path) -> None:
    """ONNX's own operator set, not another domain's, and the outputs as the file lists them."""
    path = onnx_model(tmp_path / "m.onnx", domain="acme.example", opset=11)
    assert onnx_file.read(str(path)) == (11, ["y"])
