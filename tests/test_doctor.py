"""Doctor finds each thing that keeps a device from being measured well, says how grave it is, and how to mend it."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factory_runs import probe as factory_probe
from typer.testing import CliRunner

from agent.description import Accelerator, PowerSource, Probe
from agent.schema import REASONS, Availability, Fault
from controller import doctor, targets
from controller.cli.__main__ import app
from controller.cli.doctor import lines
from controller.doctor import Check
from controller.inventory import Device
from controller.remote import LeaseState, Remote
from controller.survey import Survey, survey
from controller.visit import visiting

NOBODY = LeaseState("", 0.0, False)
CORAL = Accelerator("coral-usb", "Coral USB Accelerator", "2-1.4", 5000.0, "", {"id": "18d1:9302"})
NCS2 = Accelerator("ncs2", "Neural Compute Stick 2", "2-1.3", 5000.0, "", {"id": "03e7:2485"})
APEX = Accelerator("coral-pcie", "Coral PCIe", "/dev/apex_0", None, "group apex may open it, bench is not in it", {})
SSH = {"host": "192.0.2.11"}


def device(**entry: Any) -> Device:
    return Device.model_validate({"name": "board", "kind": "generic", "ssh": SSH, **entry})


def healthy(**changes: Any) -> Probe:
    """A device with nothing to complain of."""
    runtimes = [Availability(name, True, name, "1.2.3", ["CPU"], "") for name in (*targets.PROCESSOR, "edgetpu", "tensorrt")]
    sensor = PowerSource("ina3221", "board", ["POM_5V_IN"], "", {})
    good = factory_probe("board")._replace(governors=["performance"], power_sources=[sensor], backends=runtimes)
    return good._replace(**changes)


def found(probe: Probe, of: Device | None = None, lease: LeaseState = NOBODY, now_s: float = 1.7e9) -> dict[str, Check]:
    """The checks that failed, by name."""
    return {check.name: check for check in doctor.checks(of or device(), probe, lease, now_s, {}) if not check.ok}


def test_a_healthy_device_has_no_complaint() -> None:
    """And what was looked at is told with what was seen."""
    checks = doctor.checks(device(), healthy(), NOBODY, 1.7e9, {})
    assert all(check.ok for check in checks)
    assert {"reachable", "python", "userland", "cache", "disk", "governor", "power", "clock", "lease"} <= {check.name for check in checks}
    assert all(check.message for check in checks)


@pytest.mark.parametrize(
    ("changes", "name", "level", "mend"),
    [
        ({"bits": 32, "machine": "armv7l"}, "userland", "required", "64-bit"),
        ({"cache_problem": "mounted noexec"}, "cache", "required", "agent.cache_dir"),
        ({"disk_free_bytes": 50_000_000}, "disk", "required", "fleetmark gc --remote"),
        ({"disk_free_bytes": 500_000_000}, "disk", "recommended", "fleetmark gc --remote"),
        ({"governors": ["ondemand", "performance"]}, "governor", "recommended", "echo performance"),
        ({"power_sources": []}, "power", "recommended", "meter"),
        ({"power_sources": [PowerSource("rapl", "soc", [], "root only", {})]}, "power", "recommended", "meter"),
        ({"wall_time_s": 1.7e9 - 365 * 86400}, "clock", "recommended", "timedatectl"),
        ({"board": "Raspberry Pi 4 Model B Rev 1.4", "groups": ["bench"]}, "video-group", "recommended", "usermod -aG video bench"),
    ],
)
def test_a_finding_has_its_level_and_its_mend(changes: dict[str, Any], name: str, level: str, mend: str) -> None:
    """Each is the only complaint, at its level, with what to do."""
    complaints = found(healthy(**changes))
    assert list(complaints) == [name]
    assert complaints[name].level == level
    assert mend in complaints[name].mend


def test_a_meter_in_the_inventory_is_a_power_sensor() -> None:
    """Then the device needs none of its own."""
    assert "power" not in found(healthy(power_sources=[]), device(meter="plug-3"))


@pytest.mark.parametrize(
    ("kind", "stick", "changes", "name", "level", "mend"),
    [
        ("coral-usb", CORAL, {"path": "2-1.1"}, "accelerator", "required", "set usb.path of board to 2-1.1"),
        ("coral-usb", CORAL, {"kind": "ncs2"}, "accelerator", "required", "lsusb"),
        ("coral-usb", CORAL, {"problem": "/dev/bus/usb/002/003: permission denied"}, "permission", "required", "1a6e"),
        ("coral-usb", CORAL, {"problem": "/dev/bus/usb/002/003: permission denied"}, "permission", "required", "18d1"),
        ("coral-usb", CORAL, {"speed_mbps": 480.0}, "usb-speed", "recommended", "USB 3"),
        ("ncs2", NCS2, {"problem": "permission denied"}, "permission", "required", "03e7"),
        ("coral-pcie", APEX, {}, "permission", "required", "usermod -aG apex bench"),
    ],
)
def test_an_accelerator_is_looked_at(kind: str, stick: Accelerator, changes: dict[str, Any], name: str, level: str, mend: str) -> None:
    """Present at its port, open to the user, fast enough; the rules name every id that the stick shows."""
    usb = {"usb": {"path": stick.path}} if stick.kind != "coral-pcie" else {}
    system = healthy(versions={"libedgetpu1-std": "16.0", "libusb-1.0-0": "2:1.0.26"}, accelerators=[stick._replace(**changes)])
    complaints = found(system, device(kind=kind, **usb))
    assert list(complaints) == [name]
    assert complaints[name].level == level
    assert mend in complaints[name].mend


def test_a_stick_that_changed_its_bus_is_found() -> None:
    """An NCS2 at the same port of the other bus is the one meant; a Coral is not looked for there."""
    system = {"versions": {"libedgetpu1-std": "16.0", "libusb-1.0-0": "2:1.0.26"}}
    moved = [stick._replace(path=stick.path.replace("2-", "1-")) for stick in (NCS2, CORAL)]
    assert "accelerator" not in found(healthy(**system, accelerators=moved), device(kind="ncs2", usb={"path": "2-1.3"}))
    assert "accelerator" in found(healthy(**system, accelerators=moved), device(kind="coral-usb", usb={"path": "2-1.4"}))


def test_libraries_of_the_sticks() -> None:
    """libusb for the NCS2 and libedgetpu for a Coral are required."""
    missing = [Availability(name, False, "", "", [], "not importable") for name in ("openvino", "edgetpu")]
    assert found(healthy(accelerators=[NCS2]), device(kind="ncs2"))["libusb"].level == "required"
    complaint = found(healthy(accelerators=[CORAL], backends=missing), device(kind="coral-usb"))["edgetpu"]
    assert (complaint.level, "libedgetpu1-std" in complaint.mend) == ("required", True)


@pytest.mark.parametrize(("problem", "mend"), [("", "fleetmark device setup board"), ("no", "mend the accelerator first, then:")])
def test_a_runtime_that_is_not_there_is_mended_after_its_accelerator(problem: str, mend: str) -> None:
    """A libedgetpu that no package owns is one; the accelerator is named only if something is wrong with it."""
    missing = [Availability("edgetpu", False, "", "", [], "not importable")]
    probe = healthy(
        accelerators=[CORAL._replace(problem=problem)], backends=missing, versions={"libedgetpu": "/usr/local/lib/libedgetpu.so.1"}
    )
    complaint = found(probe, device(kind="coral-usb"))["edgetpu"]
    assert (complaint.level, complaint.mend.splitlines()[0]) == ("recommended", mend)


def test_tensorrt_without_bindings_is_told_from_no_tensorrt() -> None:
    """The distribution's package may lack its Python part."""
    gone = [Availability("tensorrt", False, "", "", [], "No module named 'tensorrt'"), Availability("onnxruntime", True, "o", "1", [], "")]
    jetson = device(kind="jetson-nano")
    without = found(healthy(backends=gone, versions={"tensorrt": "8.2.1.8-1+cuda10.2"}), jetson)["tensorrt"]
    assert "python3-libnvinfer" in without.mend
    assert "JetPack" in found(healthy(backends=gone), jetson)["tensorrt"].mend


def test_a_runtime_that_is_not_there_is_set_up() -> None:
    """The others have wheels, which `device setup` brings."""
    gone = [Availability(name, False, "", "", [], "not importable") for name in targets.PROCESSOR]
    complaints = found(healthy(backends=gone))
    assert set(complaints) == set(targets.PROCESSOR)
    assert {check.mend for check in complaints.values()} == {"fleetmark device setup board"}


@pytest.mark.parametrize(("mode", "complains"), [("MAXN", False), ("5W", True), ("", True)])
def test_the_power_mode_is_compared_by_its_name(mode: str, complains: bool) -> None:
    """As the inventory expects it."""
    assert ("power-mode" in found(healthy(power_mode=mode), device(expect={"power_mode": "MAXN"}))) is complains


def test_another_lease_is_told() -> None:
    """With its holder."""
    complaint = found(healthy(), lease=LeaseState("anna@lab run 7", 120.0, True))["lease"]
    assert "anna@lab run 7" in complaint.message
    assert "a launch is running" in complaint.message


def test_a_compile_host_needs_its_compiler() -> None:
    """Or it is none."""
    host = device(compile_host=True)
    assert found(healthy(), host)["edgetpu_compiler"].level == "required"
    assert "edgetpu_compiler" not in found(healthy(tools={"edgetpu_compiler": "/usr/bin/edgetpu_compiler"}), host)


def test_emulation_and_containers_are_said() -> None:
    """They are no faults."""
    checks = doctor.checks(device(), healthy(emulated="qemu-user", container="docker"), NOBODY, 1.7e9, {})
    assert {check.name for check in checks if check.level == "info"} == {"emulated", "container"}


@pytest.mark.parametrize("code", REASONS)
def test_a_device_that_cannot_be_asked_has_one_failed_check(code: str) -> None:
    """Whatever the reason, it is required and says what to do."""
    (check,) = doctor.refused(Fault(code, "connect", "board did not answer", "switch it on"))
    assert (check.level, check.ok, check.mend) == ("required", False, "switch it on")


def run(tmp_path: Path, entry: str, *arguments: str) -> tuple[int, str]:
    path = tmp_path / "inventory.yaml"
    path.write_text(f"version: 1\ndevices:\n  board: {entry}\n")
    done = CliRunner().invoke(app, ["doctor", "-i", str(path), *arguments], env={"COLUMNS": "200"})
    return done.exit_code, done.stdout


def test_this_machine_is_examined(tmp_path: Path) -> None:
    """The command asks the real agent; nothing required is wrong where the tests run, and JSON has the same checks as the table."""
    entry = f"{{kind: local, agent: {{cache_dir: {tmp_path / 'cache'}}}}}"
    code, text = run(tmp_path, entry, "--json")
    document = json.loads(text)
    checks = document["doctor"]["board"]
    assert (code, document["version"]) == (0, 1)
    assert {check["name"] for check in checks} >= {"reachable", "python", *targets.PROCESSOR}
    assert set(checks[0]) == {field.name for field in dataclasses.fields(Check)}
    assert "reachable" in run(tmp_path, entry)[1]


def test_what_device_setup_cannot_mend_has_another_mend(tmp_path: Path) -> None:
    """There is no OpenVINO 2021.4.2 for this Python: the fault that setup would give says which Pythons have it."""
    here = {"name": "here", "kind": "local", "agent": {"cache_dir": str(tmp_path / "cache")}}
    this = device(kind="ncs2", agent={"python": sys.executable})
    with visiting(Device.model_validate(here)) as remote:
        refusals = survey(this, remote).refusals
    missing = [Availability("openvino", False, "", "", [], "openvino cannot be imported")]
    (check,) = (one for one in doctor.checks(this, healthy(backends=missing), NOBODY, 1.7e9, refusals) if one.name == "openvino")
    assert (check.ok, "openvino==2021.4.2" in check.message, "agent.python" in check.mend) == (False, True, True)


@pytest.mark.parametrize(("told_s", "agrees"), [(1000.0, True), (1500.0, True), (2000.0, True), (900.0, False), (2100.0, False)])
def test_a_slow_probe_is_not_a_clock_that_is_off(told_s: float, agrees: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is asked from second 1000 to 2000 may tell any time in between."""
    clock = iter([1000.0, 2000.0])

    def surveyed(_: Device, __: Remote) -> Survey:
        return Survey(healthy(wall_time_s=told_s), {})

    monkeypatch.setattr("controller.cli.doctor.time", SimpleNamespace(time=lambda: next(clock)))
    monkeypatch.setattr("controller.survey.survey", surveyed)
    _, text = run(tmp_path, f"{{kind: local, agent: {{cache_dir: {tmp_path / 'cache'}}}}}", "--json")
    (check,) = (check for check in json.loads(text)["doctor"]["board"] if check["name"] == "clock")
    assert check["ok"] == agrees


def test_a_device_that_does_not_answer_ends_with_4(tmp_path: Path) -> None:
    """A closed port on this machine."""
    code, text = run(tmp_path, "{kind: generic, ssh: {host: 127.0.0.1, port: 1, user: nobody, config: /dev/null}}")
    assert code == 4
    assert "unreachable" in text


@pytest.mark.parametrize("kind", ["coral-usb", "ncs2", "coral-pcie"])
def test_a_mend_can_be_pasted_into_a_shell(kind: str, tmp_path: Path) -> None:
    """Run by sh with a `sudo` that runs what may be run here, a rule per line is written; a user's name is one word whatever it holds."""
    user = "bench; touch pwned"
    stick = Accelerator(kind, "x", "2-1.4", 5000.0, "no", {})
    complaints = found(healthy(accelerators=[stick], user=user, versions={"libusb-1.0-0": "1.0.26"}), device(kind=kind))
    command, *steps = complaints["permission"].mend.split("\n")
    assert steps[0].startswith("then log in anew")
    (tmp_path / "sudo").write_text('#!/bin/sh\necho "$@" >> said\n[ "$1" = tee ] && exec tee rules || exit 0\n')
    (tmp_path / "sudo").chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    written = subprocess.run(["/bin/sh", "-ec", command], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout
    assert written == (tmp_path / "rules").read_text()
    rules = written.splitlines()
    assert len(rules) == (1 if kind == "coral-pcie" else 2)
    for rule in rules:
        assert all(re.fullmatch(r'[A-Z]+(\{\w+\})?={1,2}"[\w-]+"', word) for word in rule.split(", ")), rule
    assert f"usermod -aG {'apex' if kind == 'coral-pcie' else 'plugdev'} {user}" in (tmp_path / "said").read_text()
    assert not (tmp_path / "pwned").exists()


def test_a_mend_of_several_lines_is_shown_in_lines() -> None:
    """Each below the other, none with an escaped line end."""
    checks = doctor.refused(Fault("host_key", "connect", "refusing", "fleetmark device trust pi\notherwise take care"))
    shown = [text for text, _ in lines({"pi": checks})]
    assert [line.strip() for line in shown[2:]] == ["mend:            fleetmark device trust pi", "otherwise take care"]
