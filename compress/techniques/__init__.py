"""Compression techniques: one small module for a family of them, found by name and by the format that they work on.

Importing a module here imports no compression library and no torch: those that train have their torch code in `compress.training`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from agent.schema import FaultError
from compress.records import Samples

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session

FILES = {
    "onnx": ("model.onnx",),
    "tflite": ("model.tflite",),
    "openvino": ("model.xml", "model.bin"),
    "edgetpu": ("model_edgetpu.tflite",),
    "tensorrt": ("model.onnx",),
}
"""The formats, and the files that an artifact of each consists of; the first one is opened."""

TORCH = "torch"
"""The format of techniques that work on a torch module: those that need training data, and what goes better with it."""

MODULES = (
    "compact",
    "deep_coding",
    "distill",
    "edgetpu_int8",
    "lowrank",
    "onnx_float16",
    "onnx_int8",
    "onnx_lowrank",
    "onnx_sparsify",
    "onnx_weights",
    "openvino",
    "openvino_accuracy",
    "openvino_weights",
    "permute_quantise",
    "prune",
    "qat",
    "share_weights",
    "sparsify",
    "tensorrt_qdq",
    "tflite_float16",
    "tflite_int8",
    "tflite_weights",
    "train",
)


class Params(BaseModel):
    """The parameters of a technique: none, unless a subclass has fields. Nothing is coerced, unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


P = TypeVar("P", bound=Params)


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a technique works: an empty folder for its result, and calibration samples in the layout of the model it is given.

    `calibration`: float32 by the model's own input names, samples on axis 0, all of the same number, none without data.
    `batch`: how many samples the model takes at once. `held_out`: what a technique that needs labels chooses by, in the ONNX layout.
    """

    folder: Path
    calibration: Mapping[str, NDArray[np.generic]]
    batch: int = 1
    held_out: Samples | None = None

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
    """What a technique made: the main file of its result, and what a reader of the manifest should know of it.

    `told` goes to the manifest under the step's name (`recipes.step_names`): JSON-ready figures such as the ranks that were chosen.
    `extras` are further files of the same model, kept beside the artifact as long as no other step follows.
    """

    path: Path
    notes: tuple[str, ...] = ()
    told: Mapping[str, object] | None = None
    extras: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Technique(Generic[P]):
    """Makes a model smaller or faster: takes a model in `format` and gives one in the same format.

    `stays_float`: what it gives is a float model still, which other techniques and conversions to another format may follow; others
    quantise, and only work on the format that is asked for. `needs_labels`: of held-out samples. `strength`: which parameter a budget
    turns, if any.
    """

    name: str
    format: str
    params: type[P] = Params  # type: ignore[assignment]
    needs_data: bool = False
    needs_labels: bool = False
    stays_float: bool = False
    strength: str = ""

    def check(self, params: Mapping[str, object]) -> P:
        """The parameters, checked before any work; raises ValueError that names the first wrong one."""
        try:
            return self.params.model_validate_json(json.dumps(dict(params)), strict=True)  # in JSON a list is a tuple, 1 a float
        except ValidationError as error:
            raise ValueError(f"{self.name}: {_problem(error, self.params)}") from None
        except TypeError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def apply(self, source: Path, params: P, context: Workspace) -> Applied:
        """Makes the compressed model in the workspace's folder; raises FaultError `unsupported_op` where it has nothing to act on."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TrainingTechnique(Technique[P]):
    """A technique that works on a torch module, in the process that trains; its torch code is imported there only."""

    format: str = TORCH
    stays_float: bool = True

    def train(self, model: "nn.Module", params: P, session: "Session") -> "nn.Module":
        """The compressed module, which may be the same one, changed; raises FaultError `unsupported_op` with nothing to act on."""
        raise NotImplementedError


@cache
def implementations() -> tuple[Technique[Any], ...]:
    """Every technique there is, one for each name and format."""
    return tuple(one for name in MODULES for one in import_module(f"compress.techniques.{name}").TECHNIQUES)


def find(name: str, format: str) -> Technique[Any]:  # noqa: A002  (the domain's word)
    """The technique called `name` that works on `format`; raises FaultError `unsupported_op` where there is none."""
    for technique in implementations():
        if technique.name == name and technique.format == format:
            return technique
    known = sorted({technique.name for technique in implementations()})
    raise FaultError("unsupported_op", f"no technique {name!r} for {format}", f"techniques are {', '.join(known)}", "compress")


def _problem(error: ValidationError, kind: type[Params]) -> str:
    detail = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields)
        return f"there is no parameter {name!r}; {f'it takes {known}' if known else 'it takes none'}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
