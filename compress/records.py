"""What a build is given and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.schema import Artifact, Fault, FaultError, load

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class TorchSource:
    """A torch module: the file that defines `factory`, which makes it when called without arguments, and its weights (a state_dict)."""

    file: Path
    factory: str
    weights: Path | None


@dataclass(frozen=True, slots=True)
class Source:
    """A model as its owner has it: the float originals, in one format or several. Of a torch module `onnx` is what was exported of it."""

    model: str
    onnx: Path | None
    tflite: Path | None
    torch: TorchSource | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """Feeds as in Data; `labels` None where there are none."""

    feeds: Arrays
    labels: NDArray[np.generic] | None


@dataclass(frozen=True, slots=True)
class Data:
    """Samples to verify with and to calibrate with: float32, normalised, in the ONNX layout, samples on axis 0, by input name.

    `labels`: one entry per evaluation sample, as `task` has them (see `compress.tasks`), None where there are none. `transpose`: axes, the
    sample axis included, that bring an input into the TFLite layout. `train` is what training steps learn from; every choice that a
    technique or a search makes (epoch, strength, rank) looks at `held_out`, never at the evaluation samples. `task` is the suite's name.
    """

    eval_feeds: Arrays
    calib_feeds: Arrays
    labels: NDArray[np.generic] | None
    transpose: Mapping[str, tuple[int, ...]]
    train: Samples | None = None
    held_out: Samples | None = None
    task: str = "none"


@dataclass(frozen=True, slots=True)
class CompilerRun:
    """What edgetpu_compiler did with a model: exit status (128 + N after signal N), what it printed, its log, the model that it wrote."""

    status: int
    output: str
    log: str
    model: bytes | None


@dataclass(frozen=True, slots=True)
class Compiler:
    """An edgetpu_compiler: its version, the machine that has it, and how to run it on a .tflite; may raise FaultError."""

    version: str
    where: str
    run: Callable[[Path], CompilerRun]


NO_COMPILER = Fault(
    "compile_fail",
    "compile",
    "there is no edgetpu_compiler",
    "put it on the PATH (there is one for x86-64 Debian only), or mark a device that has it `compile_host: true` in inventory.yaml",
)


def no_device(path: Path, format: str, device: str) -> float:  # noqa: A002, ARG001
    """Raises FaultError `unreachable`: nobody to measure on."""
    raise FaultError("unreachable", f"there is no device {device} to measure {path.name} on", "name one of inventory.yaml", "compress")


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime beside the one of `Context.run_model`: how to run an artifact in it (as there), or the reason why it is not here."""

    name: str
    version: str
    run: Callable[[Path, str, Arrays], Arrays] | Fault


def no_further(format: str) -> tuple[Runtime, ...]:  # noqa: A002, ARG001
    """No runtime but the first."""
    return ()


@dataclass(frozen=True, slots=True)
class Context:
    """What the caller supplies: a folder to keep results in, and ways to run a model and to compile one for the Edge TPU.

    `run_model(main file, format, feeds in its layout)` gives the outputs in the model's order, samples on axis 0; may raise FaultError.
    `edgetpu_compiler` may be the reason why there is none. `latency_ms(main file, format, device)` measures on a device of the inventory.
    `further(format)` gives the other runtimes that artifacts of a format are meant for.
    All is picklable where builds run in other processes.
    """

    cache: Path
    run_model: Callable[[Path, str, Arrays], Arrays]
    edgetpu_compiler: Compiler | Fault = NO_COMPILER
    latency_ms: Callable[[Path, str, str], float] = no_device
    further: Callable[[str], Sequence[Runtime]] = no_further


@dataclass(frozen=True, slots=True)
class Variant:
    """A verified artifact: `folder` holds its files by name, and manifest.json."""

    artifact: Artifact
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def refusal(self) -> Fault | None:
        """Why it should not be shipped: it did not shrink, or lost more than its recipe allows."""
        told = self.manifest.get("refusal")
        return None if told is None else load(Fault, told)
