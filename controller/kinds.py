"""What a device may be entered as, by what it says of itself."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from agent.description import Accelerator, Probe

BOARDS = (
    ("Raspberry Pi", "raspberry-pi"),
    ("NVIDIA Jetson Nano", "jetson-nano"),
    ("Jetson", "jetson"),
    ("i.MX8MQ Phanbell", "coral-dev-board"),
)
ACCELERATORS = ("ncs2", "coral-usb", "coral-pcie", "coral-dev-board")
STICKS = ("ncs2", "coral-usb")
USB3_MBPS = 5000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind that the device may be entered as, and the USB port of the stick that makes it one; empty for none."""

    kind: str
    port: str = ""
    speed_mbps: float | None = None

    def __str__(self) -> str:
        speed = f", {self.speed_mbps:g} Mbit/s" if self.speed_mbps else ""
        return f"--kind {self.kind}" + (f" (USB port {self.port}{speed})" if self.port else "")


def candidates(probe: Probe) -> tuple[Candidate, ...]:
    """Give what the device may be entered as, the board itself before what is plugged into it; `generic` if it is nothing else."""
    boards = [kind for name, kind in BOARDS if name in probe.board]
    boards += ["jetson"] if any(each.kind == "jetson-gpu" for each in probe.accelerators) else []
    plugged = [_candidate(each) for each in probe.accelerators if each.kind in ACCELERATORS]
    return tuple(dict.fromkeys([*map(Candidate, boards[:1]), *plugged])) or (Candidate("generic"),)


def choose(found: Collection[Candidate], kind: str, taken: Collection[str]) -> Candidate:
    """Give the candidate of this kind, the first one for no kind; of several sticks, one whose port is not `taken`."""
    wanted = kind or next(iter(found)).kind
    free = [each for each in found if each.kind == wanted and each.port not in taken]
    return free[0] if free else Candidate(wanted)


def _candidate(accelerator: Accelerator) -> Candidate:
    is_port = accelerator.kind in STICKS and re.fullmatch(r"\d+-\d+(\.\d+)*", accelerator.path)
    return Candidate(accelerator.kind, accelerator.path if is_port else "", accelerator.speed_mbps if is_port else None)
