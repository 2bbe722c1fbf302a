"""The Edge TPU backend: the real interpreter with a fake libedgetpu, which takes the compiled operations and negates their input."""
# litert's schema module is typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import copy
import io
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uv
from agents import Agent, fault, log, phases
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import FASHION, ROOT, run, tflite_model

import backends
from agent.schema import Artifact, FaultError, Feed, ModelFile, TensorSpec
from backends import coral, edgetpu, tflite_file
from backends.tflite_file import Placement
from compress import tflite_model as objects
from controller.environments import choose

STICKS = {"2-1.4": ("18d1", "9302", "002", "005", "5000"), "1-2": ("1a6e", "089a", "001", "017", "480")}
DEVICES = ":".join([*(f"/sys/bus/usb/devices/{place}" for place in STICKS), "/dev/apex_0"])
ONE = np.array([[1.0, -2.0, 0.5, 60.0]], np.float32)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake libedgetpu, compiled under the real one's name."""
    if shutil.which("cc") is None and not os.environ.get("CI"):
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    built = tmp_path_factory.mktemp("fake") / edgetpu.LIBRARY
    source = str(Path(__file__).with_name("fake_libedgetpu.c"))
    subprocess.run(["cc", "-std=c99", "-D_GNU_SOURCE", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(built), source], check=True)
    return built


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake root folder with two sticks, the first with its firmware loaded, and a PCIe card, as libedgetpu lists them too."""
    root = tmp_path / "system"
    for place, values in STICKS.items():
        folder = root / "sys/bus/usb/devices" / place
        folder.mkdir(parents=True)
        for name, value in zip(("idVendor", "idProduct", "busnum", "devnum", "speed"), values, strict=True):
            (folder / name).write_text(f"{value.lstrip('0') or '0'}\n" if name in ("busnum", "devnum") else f"{value}\n")
        node = root / "dev/bus/usb" / values[2] / values[3]
        node.parent.mkdir(parents=True)
        node.touch()
    (root / "dev/apex_0").touch()
    monkeypatch.setattr(coral, "ROOT", str(root))
    monkeypatch.setenv("FAKE_EDGETPU_DEVICES", DEVICES)
    return root


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """An int8 model whose one operation is compiled for the Edge TPU: float32 image [1, 4] to y."""
    return tflite_model(tmp_path / "tiny_edgetpu.tflite", custom="edgetpu-custom-op", int8=(0.5, 0))


def with_remainder(compiled: Path) -> Path:
    """The model with an addition after the compiled operation, which stays on the CPU: y + y."""
    from ai_edge_litert import schema_py_generated as schema

    model = objects.read(compiled)
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.version, code.builtinCode, code.deprecatedBuiltinCode = 2, schema.BuiltinOperator.ADD, schema.BuiltinOperator.ADD
    add = schema.OperatorT()
    add.inputs, add.outputs, add.opcodeIndex = [1, 1], [2], 1
    add.builtinOptionsType, add.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph.tensors.append(copy.deepcopy(graph.tensors[1]))
    graph.tensors[2].name = "z"
    graph.operators.append(add)
    graph.outputs = [2]
    model.operatorCodes.append(code)
    objects.write(model, compiled)
    return compiled


def load(path: Path, library: Path, /, **options: Any) -> backends.Session:
    return backends.get("edgetpu").load(str(path), {"library": str(library), **options})


def refused(path: Path, library: Path, /, **options: Any) -> Any:
    with pytest.raises(FaultError) as caught:
        load(path, library, **options)
    assert caught.value.fault.next
    return caught.value.fault


def test_a_compiled_model_runs_on_the_delegate(library: Path, system: Path, compiled: Path) -> None:
    """The compiled operation is the delegate's, whose result comes back as float32, clipped to int8 on its way."""
    session = load(compiled, library)
    assert session.inputs() == [TensorSpec("image", [1, 4], "float32")]
    assert run(session, image=ONE)["y"].tolist() == [[-1.0, 2.0, -0.5, -60.0]]
    assert run(session, image=ONE * 2)["y"].tolist() == [[-2.0, 4.0, -1.0, -63.5]]
    session.close()


def test_details_tell_what_runs_where(library: Path, system: Path, compiled: Path) -> None:
    """Of a model that is compiled in part the CPU runs the rest; both are counted, with device, link speed, clock and library."""
    session = load(with_remainder(compiled), library, usb_path="1-2", threads=2)
    assert run(session, image=ONE)["z"].tolist() == [[-2.0, 4.0, -1.0, -64.0]]
    told = session.details()
    assert (told["edgetpu_subgraphs"], told["cpu_operations"], told["operations"]) == (1, 1, 2)
    assert (told["device"], told["place"], told["usb_speed_mbps"]) == ("usb:1", "1-2", 480.0)
    assert (told["runtime"], told["threads"], told["quantised"]) == ("ai-edge-litert", 2, ["image", "z"])
    assert told["libedgetpu_version"] == "BuildLabel(fake), RuntimeVersion(14)"
    assert json.loads(json.dumps(told)) == told
    placed = [(operation.type, operation.kernel, operation.seconds, operation.device) for operation in session.operations()]
    assert placed == [("edgetpu-custom-op", "Edge TPU", None, "accelerator"), ("ADD", "XNNPACK", None, "cpu")]


@pytest.mark.parametrize(
    ("options", "passed"),
    [
        ({}, "device=usb:0\n"),
        ({"performance": "Low"}, "device=usb:0\nPerformance=Low\n"),
        ({"device": "pci:0", "performance": "Max"}, "device=pci:0\nPerformance=Max\n"),
        ({"usb_path": "1-2"}, "device=usb:1\n"),
        ({"usb_path": "2-1.4", "device": "usb:0"}, "device=usb:0\n"),
    ],
)
def test_the_delegate_is_always_told_a_numbered_device(
    options: dict[str, str], passed: str, library: Path, system: Path, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libedgetpu drops other options without one; a USB path has the number under which libedgetpu lists it, not its rank in sysfs."""
    monkeypatch.setenv("FAKE_EDGETPU_OPTIONS", str(tmp_path / "options"))
    load(compiled, library, **options)
    assert (tmp_path / "options").read_text() == passed


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"devise": "usb:0"}, "bad_data", "no option 'devise'"),
        ({"device": "usb"}, "bad_data", "device cannot be 'usb'"),
        ({"usb_path": "../2-1.4"}, "bad_data", "usb_path cannot be"),
        ({"performance": "max"}, "bad_data", "performance cannot be 'max'"),
        ({"device": "usb:2"}, "no_device", "no Edge TPU usb:2: it finds usb:0 at 2-1.4, usb:1 at 1-2, pci:0 at apex_0"),
        ({"device": "usb:0", "usb_path": "1-2"}, "no_device", "no Edge TPU usb:0 at 1-2"),
        ({"library": "no_libedgetpu.so.1"}, "env_missing", "no_libedgetpu.so.1 cannot be used"),
        ({"library": "libc.so.6"}, "env_missing", "undefined symbol: edgetpu_list_devices"),
        ({"runtime": "ai-edge-litert==0.1"}, "env_missing", "ai-edge-litert==0.1 is wanted"),
    ],
)
def test_an_option_that_cannot_be_met_is_a_fault(
    options: dict[str, Any], code: str, words: str, library: Path, system: Path, compiled: Path
) -> None:
    """Unknown options and values, devices that are not there and libraries that are none are refused with what was seen."""
    found = refused(compiled, library, **options)
    assert found.code == code
    assert words in found.message


def test_no_edge_tpu_is_told_with_what_the_system_shows(
    library: Path, system: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing listed by libedgetpu the fault says whether the system shows one, and under which ids it was looked for."""
    monkeypatch.delenv("FAKE_EDGETPU_DEVICES")
    found = refused(compiled, library)
    assert found.code == "no_device"
    assert "the system shows USB 1-2 (1a6e:089a), USB 2-1.4 (18d1:9302), /dev/apex_0" in found.message
    shutil.rmtree(system)
    assert "no USB device 1a6e:089a or 18d1:9302, no /dev/apex_*" in refused(compiled, library).message


def as_nobody(function: Callable[[str], str]) -> Callable[[str], str]:
    """The function called while the real user, by which the kernel judges access(2), is nobody: root may open anything."""

    def call(node: str) -> str:
        os.setresuid(65534, -1, -1)
        try:
            return function(node)
        finally:
            os.setresuid(0, -1, -1)

    return call if os.getuid() == 0 else function


def test_no_permission_names_the_node_and_the_groups(library: Path, system: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stick that this user may not open is told by its device node, with its owner and mode."""
    monkeypatch.setenv("FAKE_EDGETPU", "empty")
    monkeypatch.setattr(coral, "forbidden", as_nobody(coral.forbidden))
    node = system / "dev/bus/usb/002/005"
    node.chmod(0)
    found = refused(compiled, library)
    assert found.code == "no_device"
    assert f"no permission to open the Edge TPU usb:0 at 2-1.4: {node} belongs to user" in found.message
    assert "plugdev" in found.next
    assert "udev" in found.next


@pytest.mark.parametrize(("device", "node"), [("usb:0", "dev/bus/usb/002/005"), ("pci:0", "dev/apex_0")])
def test_an_edge_tpu_in_use_names_its_user(
    device: str, node: str, library: Path, system: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process has the device open it is busy, and the process is named; without one the reason stays unknown."""
    monkeypatch.setenv("FAKE_EDGETPU", "empty")
    with open(system / node) as held, subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(held.fileno(),)) as other:
        found = refused(compiled, library, device=device)
        assert found.code == "busy"
        assert f"in use by cat ({other.pid})" in found.message
        other.communicate()
    found = refused(compiled, library, device=device)
    assert found.code == "no_device"
    assert f"cannot open the Edge TPU {device}" in found.message
    assert "Failed to load delegate from" in found.message


@pytest.mark.parametrize(
    ("variant", "words", "remedy"),
    [
        ("mismatch", "(BuildLabel(fake), RuntimeVersion(14)) and ai-edge-litert 2", "option runtime"),
        ("outdated", "is too old for tiny_edgetpu.tflite", "--min_runtime_version"),
    ],
)
def test_versions_that_do_not_match_are_told(
    variant: str, words: str, remedy: str, library: Path, system: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library built for another TensorFlow Lite, or older than the model, is no fault of the model."""
    monkeypatch.setenv("FAKE_EDGETPU", variant)
    found = refused(compiled, library)
    assert found.code == "env_missing"
    assert words in found.message
    assert remedy in found.next


def test_a_model_that_is_not_compiled_is_refused_before_any_library() -> None:
    """Without an edgetpu-custom-op all would run on the CPU: the model is bad, whatever the device has."""
    found = refused(FASHION / "model.tflite", Path("no_library.so"))
    assert found.code == "bad_model"
    assert "not compiled for the Edge TPU" in found.message
    assert "edgetpu_compiler" in found.next


PACKAGES = "installed libedgetpu1-std 16.0\\nconfig-files libedgetpu1-max 15.0\\n"


def test_the_installed_library_is_recorded(
    library: Path, system: Path, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's package says whether it is std or max, one that has been removed does not count; std's clock on USB is High."""
    query = tmp_path / "dpkg-query"
    query.write_text(f"#!/bin/sh\nprintf '{PACKAGES}'\nexit 1\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    told = load(compiled, library).details()
    assert told["libedgetpu_packages"] == {"libedgetpu1-std": "16.0"}
    assert (told["edgetpu_runtime"], told["performance"]) == ("std", "High")
    assert load(compiled, library, performance="Low").details()["performance"] == "Low"
    assert load(compiled, library, device="pci:0").details()["performance"] == "Max"


@pytest.mark.parametrize("script", ["exit 2", "printf 'installed libedgetpu1-std'", "printf '\\377\\n \\n'"])
def test_a_dpkg_that_does_not_tell_is_no_fault(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer that can be read there are no packages."""
    query = tmp_path / "dpkg-query"
    query.write_text(f"#!/bin/sh\n{script}\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert coral.packages() == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert coral.packages() == {}


# In the agent


def probed(agent: Agent, **environ: str) -> dict[str, Any]:
    """What the agent's own subprocess says of the backend."""
    command = [sys.executable, str(agent.zipapp), "try", "edgetpu"]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, check=True)
    return json.loads(done.stdout)


def test_a_probe_lists_the_devices_or_says_why_not(library: Path, tmp_path: Path) -> None:
    """The library is found as any other; its absence, and a library without a device, are reasons."""
    agent = Agent(tmp_path / "cache")
    missing = probed(agent)
    assert not missing["ok"]
    assert "libedgetpu.so.1 cannot be used" in missing["reason"]
    found = probed(agent, LD_LIBRARY_PATH=str(library.parent), FAKE_EDGETPU_DEVICES=DEVICES)
    assert (found["ok"], found["runtime"]) == (True, "ai-edge-litert")
    assert found["devices"] == ["usb:0 (2-1.4)", "usb:1 (1-2)", "pci:0 (apex_0)"]
    none = probed(agent, LD_LIBRARY_PATH=str(library.parent))
    assert not none["ok"]
    assert "finds no Edge TPU" in none["reason"]


def launched(folder: Path, library: Path, compiled: Path, variant: str, **changes: Any) -> tuple[Agent, list[dict[str, Any]]]:
    """A launch of the compiled model on six samples, and its events."""
    agent, data = Agent(folder / "cache"), io.BytesIO()
    np.savez(data, image=np.arange(24, dtype=np.float32).reshape(6, 4))
    file = ModelFile(compiled.name, agent.put(compiled.read_bytes()), compiled.stat().st_size)
    events = agent.run(
        artifact=Artifact(file.sha256, "edgetpu", [file]),
        backend="edgetpu",
        options={"library": str(library)},
        data=data.getvalue(),
        feeds=[Feed("image", "image", 1.0, [0.0], [1.0], [])],
        environ={"FAKE_EDGETPU": variant, "FAKE_EDGETPU_DEVICES": DEVICES},
        **changes,
    )
    return agent, events


def test_a_launch_measures_and_evaluates(library: Path, compiled: Path, tmp_path: Path) -> None:
    """Through the agent the same model gives latencies, each part of its cold start, its placement and the outputs of every sample."""
    agent, events = launched(tmp_path, library, compiled, "ok")
    assert phases(events)[-1] == "done"
    metrics = [event["data"].get("metric") for event in events]
    assert {"cold_start_load_s", "cold_start_first_inference_s", "latency_ns"} <= set(metrics)
    details = next(event["data"]["details"] for event in events if event["data"].get("details"))
    assert details["edgetpu_subgraphs"] == 1
    output = next(event["data"] for event in events if event["data"].get("metric") == "output_0")
    content = Path(agent.cache.launch("launch-1", "files", output["sha256"])).read_bytes()
    assert np.frombuffer(content, "<f4").tolist() == (-np.arange(24.0)).tolist()


@pytest.mark.parametrize(("variant", "code", "logged"), [("segfault", "crash", "ai-edge-litert"), ("hang", "deadline", "")])
def test_a_library_that_crashes_or_hangs_is_a_fault_of_its_launch(
    variant: str, code: str, logged: str, library: Path, compiled: Path, tmp_path: Path
) -> None:
    """It ends the worker, not the agent; the phase is told, of a crash its signal, and in the log which versions may not match."""
    _, events = launched(tmp_path, library, compiled, variant, deadline_s=5.0 if variant == "hang" else 60.0)
    assert fault(events)[:2] == (code, "load")
    assert variant == "hang" or "by SIGSEGV" in fault(events)[2]
    assert logged in log(events)


RUN = """
import json, sys
import numpy
import backends
session = backends.get("edgetpu").load(sys.argv[1], {"library": sys.argv[2]})
session.bind({"image": numpy.array([[1.0, -2.0, 0.5, 60.0]], "float32")})
session.infer()
told = session.details()
print(json.dumps([told["runtime"], told["version"], numpy.__version__, session.outputs()["y"].tolist()]))
"""


def test_tflite_runtime_loads_the_delegate_too(library: Path, compiled: Path, tmp_path: Path) -> None:
    """Needs the package index. What devices get for this backend is tflite-runtime, which is taken although ai-edge-litert is there too."""
    chosen = choose("edgetpu", None, platform.python_version(), platform.machine(), platform.libc_ver()[1], 64)
    site, wheels = tmp_path / "site", [f"{wheel.name}=={wheel.version}" for wheel in chosen.wheels]
    target = ["--python", sys.executable, "--target", str(site), "--no-deps", "--only-binary", ":all:"]
    subprocess.run([uv.find_uv_bin(), "pip", "install", "--quiet", *target, *wheels], check=True)
    environ = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "FAKE_EDGETPU_DEVICES": DEVICES}
    command = [sys.executable, "-c", RUN, str(compiled), str(library)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["tflite-runtime", chosen.wheels[0].version, "1.26.4", [[-1.0, 2.0, -0.5, -60.0]]]


# The file's reader


def test_a_files_operations_are_counted(compiled: Path) -> None:
    """The counts are those of the schema's own reader, for a model with many operations and for one that is compiled in part."""
    model = objects.read(FASHION / "model.tflite")
    assert tflite_file.placement(str(FASHION / "model.tflite")) == Placement(0, len(model.subgraphs[0].operators))
    assert tflite_file.placement(str(with_remainder(compiled))) == Placement(1, 1)


def survived(path: Path, content: bytes) -> None:
    """The reader answers with counts or with a fault that names the file."""
    path.write_bytes(content)
    try:
        told: Any = tflite_file.placement(str(path))
    except FaultError as error:
        told = error.fault
    assert told[0] == "bad_model" or sum(told) <= tflite_file.MAX_ENTRIES
    assert told[0] != "bad_model" or told.message.startswith(path.name)


def test_a_file_cut_at_any_byte_is_bad_or_whole(compiled: Path, tmp_path: Path) -> None:
    """Truncation never raises anything but a fault; what lies before the operations cannot be missing."""
    content = compiled.read_bytes()
    for length in range(len(content)):
        survived(tmp_path / "cut.tflite", content[:length])
    (tmp_path / "cut.tflite").write_bytes(content[:64])
    with pytest.raises(FaultError):
        tflite_file.placement(str(tmp_path / "cut.tflite"))


@pytest.fixture(scope="session")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tflite_model(tmp_path_factory.mktemp("intact") / "intact.tflite", custom="edgetpu-custom-op", int8=(0.5, 0))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_garbled_file_is_no_crash(intact: Path, data: st.DataObject) -> None:
    """Any bytes in any places, offsets backwards and huge counts among them, give counts or a fault."""
    content = bytearray(intact.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 4))
        content[at : at + 4] = data.draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"]) | st.binary(min_size=4, max_size=4))
    survived(intact.with_name("garbled.tflite"), bytes(content))
