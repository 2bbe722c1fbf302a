"""Runs an artifact in the further runtimes of this machine that it is meant for, and tells what each made of it."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.schema import Fault, FaultError, dump
from compress.records import Arrays, Runtime
from compress.verify import Drift, Verification

FIRST = {"onnx": "onnxruntime", "tflite": "ai-edge-litert", "openvino": "openvino", "tensorrt": "onnxruntime"}
"""The runtime that verifies every artifact of a format, for TensorRT one that stands in for it."""

NOT_RUN = frozenset({"env_missing", "no_device", "oom", "timeout"})
"""Faults that say nothing of the artifact: the runtime could not be tried."""

LATER = "devices compare outputs when they measure"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an artifact did in one runtime: its drift from the float model and the accuracy (None without labels).

    `fault`: why it is not shipped to that runtime; `not_run`: why it was not tried there.
    """

    runtime: str
    version: str
    drift: Drift | None = None
    accuracy: float | None = None
    fault: Fault | None = None
    not_run: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """As it is in the manifest."""
        return {**asdict(self), "fault": self.fault and dump(self.fault)}


def each(
    runtimes: Iterable[Runtime],
    path: Path,
    format: str,  # noqa: A002  (the domain's word)
    samples: Arrays,
    check: Callable[[Arrays], Verification],
    floor: Callable[[Verification], Fault | None],
) -> list[Outcome]:
    """What the artifact did in each of them, run once on all samples; `check` raises FaultError for outputs that are not the model's.

    Raises FaultError `disk_full`, which is no runtime's.
    """
    return [_outcome(one, path, format, samples, check, floor) for one in runtimes]


def _outcome(
    runtime: Runtime,
    path: Path,
    format: str,  # noqa: A002
    samples: Arrays,
    check: Callable[[Arrays], Verification],
    floor: Callable[[Verification], Fault | None],
) -> Outcome:
    told = Outcome(runtime.name, runtime.version)
    if isinstance(runtime.run, Fault):
        return _failed(told, runtime.run)
    try:
        checked = check(runtime.run(path, format, samples))
    except FaultError as error:
        if error.fault.code == "disk_full":
            raise
        return _failed(told, error.fault)
    fault = floor(checked)
    return Outcome(runtime.name, runtime.version, checked.drift, checked.accuracy, fault and _naming(told, fault))


def _failed(told: Outcome, fault: Fault) -> Outcome:
    if fault.code in NOT_RUN:
        why = "; ".join(filter(None, (fault.message, fault.next)))
        return Outcome(told.runtime, told.version, not_run=f"{why}; {LATER}")
    return Outcome(told.runtime, told.version, fault=_naming(told, fault))


def _naming(told: Outcome, fault: Fault) -> Fault:
    return fault._replace(phase="verify", message=f"{told.runtime} {told.version}: {fault.message}")
