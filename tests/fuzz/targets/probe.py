"""What a device says that it is, and all that the controller concludes from it."""

import functools
import json
from collections.abc import Iterator
from typing import Any

from agent.description import Accelerator, Interpreter, PowerSource, Probe
from agent.schema import PROTOCOL, Availability, FaultError, SchemaError, dump
from controller import answers, doctor, environments, kinds
from controller.inventory import Device, Usb
from controller.remote import LeaseState
from fuzz.mutation import json_lines

DECLARED = (FaultError, SchemaError)
WORDS = ("aarch64", "x86_64", "3.11.2", "2.36", "2-1.4", "coral-usb", "ncs2", "jetson-gpu", "tensorrt", "²", "3.²", "MAXN")
mutate = json_lines
NOTHING: dict[type, Any] = {str: "", int: 0, float: 0.0}


def seeds() -> Iterator[bytes]:
    """A Pi with a stick, and a Jetson."""
    fields = {name: NOTHING.get(kind, {} if str(kind).startswith("typing.Dict") else []) for name, kind in Probe.__annotations__.items()}
    accelerator = Accelerator(
        "coral-usb", "Coral USB Accelerator", "2-1.4", 5000.0, "", {"id": "18d1:9302", "node": "/dev/bus/usb/002/003"}
    )
    told = {
        "bits": 64,
        "machine": "aarch64",
        "python": "3.11.2",
        "glibc": "2.36",
        "python_path": "/usr/bin/python3",
        "disk_free_bytes": 10**10,
    }
    pi = Probe(**{**fields, **told})._replace(
        board="Raspberry Pi 4 Model B Rev 1.4",
        accelerators=[accelerator, accelerator._replace(kind="ncs2", path="1-1")],
        power_sources=[PowerSource("ina226", "rail", ["VDD"], "", {"chip": "ina226"})],
        backends=[Availability("edgetpu", True, "tflite-runtime", "2.14.0", ["usb"], "")],
        interpreters=[Interpreter("/usr/bin/python3.9", "3.9.2")],
        thermal_zones_c={"cpu": 40.0},
        versions={"libedgetpu1-std": "16.0", "libusb-1.0-0": "1.0.26"},
    )
    yield _answer(pi)
    nano = pi._replace(board="NVIDIA Jetson Nano Developer Kit", soc="tegra210", power_mode="MAXN", python="3.6.9", accelerators=[])
    yield _answer(nano)


def _answer(probe: Probe) -> bytes:
    return json.dumps({"v": PROTOCOL, "ok": dump(probe)}).encode()


def one(data: bytes) -> None:
    """A kind, checks and an environment, or a fault that says which there are."""
    value = answers.result("device", "probe", data)
    answers.check_sizes(value)
    probe: Probe = answers.record("device", Probe, value)
    for candidate in kinds.candidates(probe):
        assert candidate.kind
        assert str(candidate)
    for device in devices():
        for check in doctor.checks(device, probe, LeaseState("", 0.0, False), 1.0, {}):
            assert isinstance(check.message, str)
    for python in (probe.python, *(one.version for one in probe.interpreters)):
        environments.numbers(python)
    environments.choose("tflite", None, probe.python, probe.machine, probe.glibc, probe.bits)


@functools.cache
def devices() -> tuple[Device, ...]:
    """One of each kind that doctor looks at in its own way."""
    names = ("local", "raspberry-pi", "jetson-nano", "ncs2", "coral-usb", "coral-pcie", "coral-dev-board")
    ssh = {"host": "192.0.2.1"}
    usb = Usb(path="2-1.4")
    return tuple(
        Device.model_validate(
            {"name": name, "kind": name, "ssh": None if name == "local" else ssh, "usb": usb if name in kinds.STICKS else None}
        )
        for name in names
    )
