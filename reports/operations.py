"""Where a model's time goes: its operations as the launch that timed them told, their shares, and what ran them (METHOD.md, rule 10)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from agent.operations import Profiled
from agent.schema import load
from backends import ACCELERATOR, CPU
from reports import text
from reports.figures import Figure, counted
from reports.records import CellRecord, LaunchRecord, VariantRecord

NOT_TOLD = "not observable"
_NAME_LIMIT = 120


@dataclass(frozen=True, slots=True)
class Timed:
    """An operation with its time over the inferences; `share` is its part of the inference. None: not told."""

    name: str
    type: str
    kernel: str
    device: str
    seconds: float | None
    share: float | None


@dataclass(frozen=True, slots=True)
class Placement:
    """What ran on one kernel or execution provider: how many operations, their share of all, and of the time of all operations."""

    kernel: str
    operations: int
    share: float
    time_share: float | None


@dataclass(frozen=True, slots=True)
class Profile:
    """A cell's operations in the model's order. Their times and `wall_s`, the inference's, are medians over the inferences.

    They are `averages` where the runtime tells nothing else: then waits of a busy device are in the inference's, unlike in `median_s`.
    `left_out` operations were too many to tell, the fastest ones.
    """

    inferences: int
    averages: bool
    wall_s: float
    median_s: float
    operations: tuple[Timed, ...]
    left_out: int

    @property
    def timed(self) -> bool:
        """Whether the runtime told times."""
        return any(operation.seconds is not None for operation in self.operations)

    @property
    def slowest(self) -> list[Timed]:
        """The operations, those with the most time first."""
        return sorted(self.operations, key=lambda operation: -(operation.seconds or 0.0))

    @property
    def unattributed(self) -> float:
        """The share of the inference that no operation accounts for: the runtime's own time, what it left out, and its rounding.

        Negative where operations ran at the same time.
        """
        return 1.0 - share_of(self.operations)

    def slowest_type(self) -> tuple[str, float]:
        """The type of operation that took the most time together, by its name where the runtime tells no types, and its share."""
        shares: dict[str, float] = {}
        for one in self.operations:
            shares[one.type or one.name] = shares.get(one.type or one.name, 0.0) + (one.share or 0.0)
        return max(shares.items(), key=lambda item: item[1])

    def placements(self) -> list[Placement]:
        """What ran where, by kernel or execution provider, the one with the most time (or operations) first."""
        kernels = dict.fromkeys(operation.kernel for operation in self.operations)
        groups = {kernel: [one for one in self.operations if one.kernel == kernel] for kernel in kernels}
        found = [
            Placement(kernel, len(group), len(group) / len(self.operations), self.time_share(group)) for kernel, group in groups.items()
        ]
        return sorted(found, key=lambda one: (-(one.time_share or 0.0), -one.operations))

    def on(self, device: str) -> list[Timed]:
        """The operations that ran on a kind of device."""
        return [operation for operation in self.operations if operation.device == device]

    def time_share(self, some: Sequence[Timed]) -> float | None:
        """Some operations' share of the time of all, None where that is not told."""
        whole = share_of(self.operations)
        return share_of(some) / whole if self.timed and whole > 0 else None


def share_of(operations: Sequence[Timed]) -> float:
    """The share of the inference that operations took together."""
    return math.fsum(operation.share or 0.0 for operation in operations)


def profile_of(record: CellRecord) -> Profile | None:
    """The profile of a cell; None where no launch timed its operations, or the runtime tells of none."""
    launch = record.profiled
    if launch is None or launch.fault is not None or not launch.details.get("operations"):
        return None
    told: list[Profiled] = load(list[Profiled], launch.details["operations"])
    walls = launch.values["inference_s"]
    times = launch.values["operation_s"].reshape(-1, len(told)) if "operation_s" in launch.values else None
    averages = times is not None and len(times) < len(walls)
    median_s = float(np.median(walls))
    wall_s = float(np.mean(walls)) if averages else median_s
    seconds: list[float | None] = [None] * len(told) if times is None else np.median(times, axis=0).tolist()
    operations = tuple(_timed(one, took, wall_s) for one, took in zip(told, seconds, strict=True))
    return Profile(len(walls), averages, wall_s, median_s, operations, _left_out(launch))


def operation_figures(record: CellRecord, variants: Sequence[VariantRecord]) -> Iterator[Figure]:
    """The shares of operations and of their time on the accelerator, where runtime or compiler tell what ran where."""
    profile = profile_of(record)
    if record.cell.backend == "edgetpu" and counted(record):
        share = _mapped(record, variants, profile)
        by_time = share if share in (0.0, 1.0) else None
    elif profile is None or any(operation.device not in (CPU, ACCELERATOR) for operation in profile.operations):
        return
    else:
        placed = profile.on(ACCELERATOR)
        share = len(placed) / len(profile.operations)
        by_time = share if share in (0.0, 1.0) else profile.time_share(placed)
    n = profile.inferences if profile else 1
    yield _figure("accelerator_operation_share", share, n, "neither runtime nor compiler tell which operations run on the Edge TPU")
    yield _figure("accelerator_time_share", by_time, n, "the runtime tells no times of operations")


def _figure(metric: str, value: float | None, n: int, unless: str) -> Figure:
    return Figure(metric, None, reason=NOT_TOLD, message=unless) if value is None else Figure(metric, value, n=n)


def _mapped(record: CellRecord, variants: Sequence[VariantRecord], profile: Profile | None) -> float | None:
    """The share of the model's operations that the compiler gave the Edge TPU, all of which are one operation to the runtime."""
    found = next((one.manifest.get("edgetpu") for one in variants if one.sha256 == record.cell.artifact), None)
    if isinstance(found, Mapping):
        told = cast(Mapping[str, object], found)
        total, mapped = told.get("operations"), told.get("operations_on_edgetpu")
        if isinstance(total, int) and isinstance(mapped, int) and 0 <= mapped <= total and total > 0:
            return mapped / total
    return 1.0 if profile and len(profile.on(ACCELERATOR)) == len(profile.operations) else None


def _left_out(launch: LaunchRecord) -> int:
    return int(launch.values["operations_left_out"][0]) if len(launch.values.get("operations_left_out", ())) else 0


def _timed(one: Profiled, seconds: float | None, wall_s: float) -> Timed:
    name, kind, kernel = (text.line(part, _NAME_LIMIT) for part in (one.name, one.type, one.kernel))
    share = None if seconds is None or wall_s <= 0 else seconds / wall_s
    return Timed(name, kind, kernel, one.device, seconds, share)
