"""Carries out a recipe's stages: trains, changes the graph, brings it from format to format, quantises."""

import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from agent.schema import FaultError
from compress import cost, inspect, onnx_model, onnx_to_tflite, training
from compress.cost import Cost
from compress.feeds import batch
from compress.original import Original, fed, kind_of
from compress.pipeline import Stage
from compress.quiet import quiet
from compress.recipes import step_names
from compress.records import Arrays, Context, Data, Source
from compress.techniques import FILES, TORCH, Workspace, openvino, tensorrt_qdq

SEED = 0
"""Of numpy's global generator while a recipe is applied, and of what trains unless a step says otherwise."""


COUNTED = ("onnx", "tflite")
"""The formats whose float models can be weighed."""


@dataclass(slots=True)
class Model:
    """A model on its way: `path` is its main file, in `format`; `samples` and `calibration` as it is fed, `batch` at a time.

    `cost` is that of the float model, before anything quantised it; `told` has the figures of steps by their names.
    """

    path: Path
    format: str
    samples: Arrays
    calibration: Arrays
    batch: int
    cost: Cost
    notes: list[str] = field(default_factory=list[str])
    told: dict[str, object] = field(default_factory=dict[str, object])
    extras: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """What the stages have to do with: where the model comes from, its float original of the kind that is asked for, and a folder."""

    source: Source
    original: Original
    data: Data
    context: Context
    folder: Path


def carry_out(stages: Sequence[Stage], format: str, work: Work) -> tuple[Model, int]:  # noqa: A002  (the domain's word)
    """The compressed model, and the size in bytes of the float model in the same format; raises FaultError."""
    with quiet(), library_errors():
        plain = _given(work.original, work.folder / "original")
        np.random.seed(SEED)  # the libraries draw from the global generator, if at all
        _bring(plain, format, work)
        float_bytes = size_bytes(plain.path, format)
        if not stages:
            return plain, float_bytes
        model = _beginning(stages[0].technique.format, plain, work)
        named = zip(step_names([stage.step.technique for stage in stages]), stages, strict=True)
        for kind, same in groupby(named, key=lambda one: one[1].technique.format):
            if kind == TORCH:
                model = _trained(dict(same), work)
            else:
                _bring(model, kind, work)
                for name, stage in same:
                    _apply(name, stage, model, work)
        _bring(model, format, work)
    return model, float_bytes


def size_bytes(path: Path, format: str) -> int:  # noqa: A002
    """Of all files of a model."""
    return sum(path.with_name(name).stat().st_size for name in FILES[format])


def _given(original: Original, folder: Path) -> Model:
    path = original.write(folder)
    return Model(path, original.format, original.samples, original.calibration, original.batch, cost.of(path, original.format))


def _beginning(first: str, plain: Model, work: Work) -> Model:
    """The float model where the first stage takes it up."""
    if first in (plain.format, TORCH):
        return plain
    if plain.format == "tflite" and work.source.onnx is not None:
        folder = new_folder(work.folder / "source")
        path = folder / FILES["onnx"][0]
        path.write_bytes(onnx_model.self_contained(work.source.onnx))
        return _read(path, "onnx", work)
    return _given(work.original, work.folder / "source")


def _read(path: Path, format: str, work: Work) -> Model:  # noqa: A002
    specs = inspect.inputs(path, format)
    samples, calibration = fed(specs, format, work.data)
    return Model(path, format, samples, calibration, batch(specs), cost.of(path, format))


def _trained(stages: Mapping[str, Stage], work: Work) -> Model:
    if work.source.torch is None:
        raise FaultError("convert_fail", "there is no torch module", "give a python: source", "compress")
    done = training.trained(work.source.torch, [stage.step for stage in stages.values()], work.data, work.context.cache)
    folder = new_folder(work.folder / "trained")
    model = _read(Path(shutil.copyfile(done.path, folder / FILES["onnx"][0])), "onnx", work)
    model.notes += done.notes
    names = step_names([stage.step.technique for stage in stages.values()])
    model.told |= {name: done.told[own] for name, own in zip(stages, names, strict=True) if own in done.told}
    return model


def _bring(model: Model, format: str, work: Work) -> None:  # noqa: A002
    """Converts it, in place, to a format further down its way."""
    if model.format == format:
        return
    folder = new_folder(work.folder / f"{model.path.parent.name}-{format}")
    if format == "openvino":
        model.path = openvino.convert(model.path, folder)
    elif format == "tensorrt":
        fitted = tensorrt_qdq.fit(model.path, folder)
        model.path = fitted.path
        model.notes += fitted.notes
    elif kind_of(format) == "tflite":
        converted = _read(onnx_to_tflite.tflite(model.path, work.context)[0], "tflite", work)
        model.path, model.samples, model.calibration, model.batch = (
            converted.path,
            converted.samples,
            converted.calibration,
            converted.batch,
        )
    model.format = format


def _apply(name: str, stage: Stage, model: Model, work: Work) -> None:
    folder = new_folder(work.folder / f"step-{sum(1 for _ in work.folder.glob('step-*'))}")
    applied = stage.technique.apply(model.path, stage.params, Workspace(folder, model.calibration, model.batch, work.data.held_out))
    model.path = applied.path
    model.extras = applied.extras
    model.notes += applied.notes
    if stage.technique.stays_float and model.format in COUNTED:
        model.cost = cost.of(model.path, model.format)
    if applied.told:
        model.told[name] = dict(applied.told)


@contextmanager
def library_errors() -> Generator[None]:
    """Makes `convert_fail` of whatever a conversion library raises."""
    try:
        yield
    except (FaultError, OSError, MemoryError):
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        message = f"{type(error).__name__}: {first}"
        raise FaultError("convert_fail", message, "try another recipe, or export the model with other settings") from error


def new_folder(path: Path) -> Path:
    """The folder, which must not be there yet."""
    path.mkdir()
    return path
