"""inventory.yaml, read and edited."""

import re
from collections.abc import Iterator
from pathlib import Path

from yaml_samples import INVENTORY

from controller import inventory, registry, scaffold
from controller.errors import FleetmarkError
from fuzz import folder

DECLARED = (FleetmarkError,)
WORDS = (
    *("version: 1", "defaults:", "devices:", "meters:", "kind: local", "ssh: {host: x}", "&a", "*a", "<<: *a", "!!int ", "- ", "? ", ": "),
    *(
        "host_key: ",
        "jump: ",
        "env: {A: b}",
        "backends: [tflite]",
        "power: {driver: ina226}",
        "usb: {path: 2-1}",
        "groups: [a]",
        "tags: {a: b}",
    ),
    *(
        "0x1F",
        "1e400",
        ".inf",
        ".nan",
        "1_0",
        "2001-01-01",
        "~",
        "|",
        ">",
        "'",
        '"',
        "\\ud800",
        "#",
        "---",
        "...",
        "%YAML 1.1",
        "\ufeff",
        "\u2028",
    ),
)
FILE = Path(folder(), "inventory.yaml")


def seeds() -> Iterator[bytes]:
    """The interface document's and the one that `init` writes, whole; and each device alone, for that is read faster."""
    yield INVENTORY.encode()
    yield scaffold.INVENTORY.encode()
    head, _, devices = INVENTORY.partition("devices:\n")
    yield f"{head}devices: {{}}\n".encode()
    for device in re.split(r"\n(?=  \S)", devices):
        if "meter:" not in device:
            yield f"version: 1\ndevices:\n{device.rstrip()}\n".encode()
    yield b"version: 1\ndevices:\n  a: &a {kind: local}\n  b: *a\n"


def one(data: bytes) -> None:
    """What loads loads the same again; with a device more it loads too, or that is refused."""
    FILE.write_bytes(data)
    found = inventory.load(FILE)
    assert inventory.load(FILE) == found
    assert all(device.name == name for name, device in found.devices.items())
    after = registry.preview(FILE, {"new-device": {"kind": "generic", "ssh": {"host": "192.0.2.1"}}})
    assert {name: after.devices[name] for name in found.devices} == found.devices
