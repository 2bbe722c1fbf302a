"""What OpenVINO's device names mean, in all its releases: CPU, GPU.0, MYRIAD.2.1.3-ma2480, HETERO:MYRIAD,CPU, (CPU)."""

import re
from typing import Iterable

from backends import ACCELERATOR, CPU

VIRTUAL = ("AUTO", "BATCH", "HETERO", "MULTI")


def family(device: str) -> str:
    """Return a device's name without its number, port or what it stands for; AUTO puts some into brackets."""
    return re.split("[.:]", device.strip("()"))[0]


def ran_on(devices: Iterable[str]) -> str:
    """Return CPU or ACCELERATOR where all devices are of that kind; empty where they are of both, or virtual."""
    families = {family(device) for device in devices}
    kinds = {"" if name in VIRTUAL else CPU if name == "CPU" else ACCELERATOR for name in families}
    return kinds.pop() if len(kinds) == 1 else ""
