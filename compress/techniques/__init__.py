"""Compression techniques: one small module for a technique and a format, found by name and format."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError

FILES = {
    "onnx": ("model.onnx",),
    "tflite": ("model.tflite",),
    "openvino": ("model.xml", "model.bin"),
    "edgetpu": ("model_edgetpu.tflite",),
    "tensorrt": ("model.onnx",),
}
"""The formats, and the files that an artifact of each consists of; the first one is opened."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a technique works: an empty folder for its result, and calibration samples in the layout of the model it is given.

    `calibration`: float32 by the model's own input names, samples on axis 0, all of the same number, none without data.
    `batch`: how many samples the model takes at once.
    """

    folder: Path
    calibration: Mapping[str, NDArray[np.generic]]
    batch: int = 1

    def batches(self) -> Iterator[dict[str, NDArray[np.generic]]]:
        """The calibration samples as feeds of one inference each; an incomplete last batch is left out."""
        for start in range(0, self.samples - self.batch + 1, self.batch):
            yield {name: array[start : start + self.batch] for name, array in self.calibration.items()}

    @property
    def samples(self) -> int:
        """The number of calibration samples."""
        return min((len(array) for array in self.calibration.values()), default=0)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a technique made: the main file of its result, and what a reader of the manifest should know of it."""

    path: Path
    notes: tuple[str, ...] = ()


class Technique(Protocol):
    """Makes a model smaller or faster. `accepts` and `emits` are formats."""

    @property
    def name(self) -> str:
        """What a recipe's step calls it."""
        ...

    @property
    def accepts(self) -> tuple[str, ...]:
        """The formats of model it can be given."""
        ...

    @property
    def emits(self) -> str:
        """The format of what it makes."""
        ...

    @property
    def needs_data(self) -> bool:
        """Whether it needs calibration samples."""
        ...

    @property
    def needs_training(self) -> bool:
        """Whether it needs labelled training samples and torch."""
        ...

    def check(self, params: Mapping[str, object]) -> None:
        """Raises ValueError for parameters it does not take, before any work."""
        ...

    def apply(self, source: Path, params: Mapping[str, object], context: Workspace) -> Applied:
        """Makes the compressed model in the workspace's folder; raises FaultError `unsupported_op` where it has nothing to act on."""
        ...


@dataclass(frozen=True, slots=True)
class WithoutParameters:
    """A technique without parameters: `make` is all that is left to write."""

    name: str
    emits: str
    needs_data: bool = False
    needs_training: bool = False

    @property
    def accepts(self) -> tuple[str, ...]:
        """The format it emits."""
        return (self.emits,)

    def check(self, params: Mapping[str, object]) -> None:
        """Refuses any parameter."""
        if params:
            raise ValueError(f"{self.name} takes no parameter {sorted(params)[0]!r}")

    def apply(self, source: Path, params: Mapping[str, object], context: Workspace) -> Applied:
        """What `make` makes."""
        self.check(params)
        return self.make(source, context)

    def make(self, source: Path, context: Workspace) -> Applied:
        """Makes the compressed model in the workspace's folder; raises FaultError `unsupported_op` where it has nothing to act on."""
        raise NotImplementedError


def find(name: str, format: str) -> Technique:  # noqa: A002  (the domain's word)
    """The technique called `name` that works on `format`; raises FaultError `unsupported_op` where there is none."""
    from compress.techniques import edgetpu_int8, onnx_float16, onnx_int8, openvino, tensorrt_qdq, tflite_float16, tflite_int8

    modules = (edgetpu_int8, onnx_float16, onnx_int8, openvino, tensorrt_qdq, tflite_float16, tflite_int8)
    techniques: list[Technique] = [technique for module in modules for technique in module.TECHNIQUES]
    for technique in techniques:
        if technique.name == name and format in technique.accepts:
            return technique
    known = sorted({technique.name for technique in techniques})
    raise FaultError("unsupported_op", f"no technique {name!r} for {format}", f"techniques are {', '.join(known)}", "compress")
