"""A model's data: read from the suite's .npz, or drawn at random; as arrays for the compressor and as feeds for the devices."""

import hashlib
import io
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import compress.inspect
from agent.feeds import prepare_array
from agent.schema import FaultError, Feed, TensorSpec
from compress import tasks
from compress.original import kind_of
from compress.records import Data, Samples
from controller.suite import Model

RANDOM_SAMPLES = 32
RANDOM_SEED = 20
HELD_OUT_PART = 10
TFLITE_AXES = {4: (0, 2, 3, 1), 3: (0, 2, 1), 5: (0, 2, 3, 4, 1)}
FORMATS = ("onnx", "openvino", "tensorrt", "tflite", "edgetpu")
DYNAMIC_SIZE = 1
MAX_RANDOM_VALUES = 2**27  # 1 GiB while they are drawn, in float64
MAX_AXES = 64  # of numpy's arrays
NUMBERS = "fiub"
"""The kinds of dtypes that a model can be fed."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What measures a model: `file` (.npz, content-addressed) goes to devices, `feeds` tell how to read it, by artifact format."""

    file: Path
    sha256: str
    feeds: Mapping[str, tuple[Feed, ...]]
    data: Data
    random: bool


def prepare(name: str, model: Model, folder: Path, say: Callable[[str], None]) -> Dataset:
    """Give the model's data, its evaluation part written to `folder`; raises FaultError `bad_model` or `bad_data`.

    uint8 arrays are scaled by 1/255; then (value - mean) / std as the suite says, per channel where it gives several.
    """
    for file in (model.torch.file, model.torch.weights) if model.torch else (model.source,):
        if file and not file.is_file():
            raise FaultError("bad_model", f"{name}: there is no {file}", "correct `source:` in the suite", "load")
    if model.task.startswith(tasks.CODE) and not tasks.file_of(model.task)[0].is_file():
        raise FaultError("bad_data", f"{name}: there is no {tasks.file_of(model.task)[0]}", "correct `task:` in the suite", "load")
    specs, arrays = _read_model(model) if model.torch is None else _read_module(name, model)
    wire = {spec.name: _pick(arrays, "eval_", spec.name, name) for spec in specs}
    if model.data and not any(array.startswith("calib_") for array in arrays):
        say(f"{name}: no calib_ arrays in {model.data.name}: static int8 is calibrated on the samples it is evaluated with")
    if not specs:
        raise FaultError("bad_data", f"{name}: there is nothing that the model is fed", "give arrays with the prefix eval_, one an input")
    feeds = {spec.name: _feed(at, spec, wire[spec.name], model) for at, spec in enumerate(specs)}
    dtypes = {spec.name: spec.dtype for spec in specs}
    _check(name, specs, wire)
    there = {f"calib_{spec.name}" for spec in specs} & set(arrays)
    calibrating = {key: _pick(arrays, "calib_" if f"calib_{key}" in there else "eval_", key, name) for key in feeds}
    transpose = {spec.name: _axes(spec, model) for spec in specs}
    data = Data(
        eval_feeds={key: _prepared(array, feeds[key], dtypes[key]) for key, array in wire.items()},
        calib_feeds={key: _prepared(array, feeds[key], dtypes[key]) for key, array in calibrating.items()},
        labels=_labels(arrays, "eval_", name, model.task, len(next(iter(wire.values())))),
        transpose=transpose,
        task=model.task,
        **_learning(arrays, feeds, dtypes, name, model.task),
    )
    file, sha256 = _write(wire, folder)
    plain = tuple(feeds.values())
    return transposed(Dataset(file, sha256, dict.fromkeys(FORMATS, plain), data, model.data is None), transpose)


def _read_model(model: Model) -> tuple[list[TensorSpec], dict[str, NDArray[Any]]]:
    """What a model file is fed, and the data, drawn at random where there is none."""
    specs = compress.inspect.inputs(model.source, "onnx" if model.source.suffix == ".onnx" else "tflite")
    return specs, _read(model.data) if model.data else _random(specs)


def _read_module(name: str, model: Model) -> tuple[list[TensorSpec], dict[str, NDArray[Any]]]:
    """What a torch module is fed, by its data: floating-point numbers and bytes as float32, other whole numbers as int64."""
    if model.data is None:
        raise FaultError("bad_data", f"{name}: a torch module does not tell what it is fed", "give `data:` with eval_ arrays in the suite")
    arrays = _read(model.data)
    names = [key.removeprefix("eval_") for key in arrays if key.startswith("eval_") and key != "eval_labels"]
    dtypes = {key: model.inputs[key].dtype if key in model.inputs else None for key in names}
    return [TensorSpec(key, [1, *arrays[f"eval_{key}"].shape[1:]], dtypes[key] or _fed(arrays[f"eval_{key}"])) for key in names], arrays


def _fed(array: NDArray[Any]) -> str:
    return "int64" if array.dtype.kind in "iu" and array.dtype != np.uint8 else "float32"


def _learning(
    arrays: Mapping[str, NDArray[Any]], feeds: Mapping[str, Feed], dtypes: Mapping[str, str], name: str, task: str
) -> dict[str, Samples | None]:
    """The training samples and those held out from them: the held_ arrays, or else a seeded tenth of the train_ ones."""
    train, held_out = (_part(arrays, prefix, feeds, dtypes, name, task) for prefix in ("train_", "held_"))
    if train is not None and held_out is None:
        count = len(next(iter(train.feeds.values())))
        if count < HELD_OUT_PART:
            raise FaultError("bad_data", f"{name}: {count} train_ samples, too few to hold some out", "give more, or held_ arrays")
        order = np.random.default_rng(RANDOM_SEED).permutation(count)
        held_out, train = _rows(train, order[: count // HELD_OUT_PART]), _rows(train, order[count // HELD_OUT_PART :])
    is_labelled = [part is not None and part.labels is not None for part in (train, held_out)]
    if held_out is not None and is_labelled == [True, False] and task != "anomaly":
        raise FaultError("bad_data", f"{name}: there are train_labels and no held_labels", "give both or neither")
    return {"train": train, "held_out": held_out}


def _part(
    arrays: Mapping[str, NDArray[Any]], prefix: str, feeds: Mapping[str, Feed], dtypes: Mapping[str, str], name: str, task: str
) -> Samples | None:
    if not any(key.startswith(prefix) for key in arrays):
        return None
    fed = {key: _prepared(_pick(arrays, prefix, key, name), feed, dtypes[key]) for key, feed in feeds.items()}
    if len({len(array) for array in fed.values()}) != 1:
        raise FaultError("bad_data", f"{name}: the {prefix} arrays have different numbers of samples", "give each input the same")
    for key, array in fed.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FaultError("bad_data", f"{name}: {prefix}{key} holds NaN or infinity", "mend the data file")
    return Samples(fed, _labels(arrays, prefix, name, task, len(next(iter(fed.values())))))


def _prepared(array: NDArray[Any], feed: Feed, dtype: str) -> NDArray[Any]:
    """As the model's input is fed, of its dtype."""
    prepared: NDArray[Any] = prepare_array(np, array, feed)
    return prepared.astype(dtype, copy=False)


def _rows(samples: Samples, rows: NDArray[np.int64]) -> Samples:
    return Samples({key: array[rows] for key, array in samples.feeds.items()}, None if samples.labels is None else samples.labels[rows])


def transposed(dataset: Dataset, transpose: Mapping[str, tuple[int, ...]]) -> Dataset:
    """Give the dataset with these axes, by input, for what is made from the .tflite."""
    turned = tuple(feed._replace(transpose=list(transpose[feed.input])) for feed in dataset.feeds["onnx"])
    feeds = {name: turned if kind_of(name) == "tflite" else plain for name, plain in dataset.feeds.items()}
    return replace(dataset, feeds=feeds, data=replace(dataset.data, transpose=transpose))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with archive:
            members = cast(Any, archive)  # those that are not .npy are bytes
            return {name: found for name, found in members.items() if not isinstance(found, bytes)}
    except (OSError, ValueError, KeyError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise FaultError(
            "bad_data", f"{path} cannot be read as .npz: {error}", "write it with numpy.savez, without pickled objects"
        ) from error


def _random(specs: list[TensorSpec]) -> dict[str, NDArray[Any]]:
    """Standard normal values, seeded; zeros for whole numbers, which are often indices."""
    generator = np.random.default_rng(RANDOM_SEED)
    found: dict[str, NDArray[Any]] = {}
    for spec in specs:
        shape = (RANDOM_SAMPLES, *(size if size > 0 else DYNAMIC_SIZE for size in spec.shape[1:]))
        if len(shape) > MAX_AXES or math.prod(shape) > MAX_RANDOM_VALUES:
            message = f"input {spec.name!r} takes {math.prod(shape[1:]):.3g} values on {len(shape)} axes, too many to draw at random"
            raise FaultError("bad_data", message, "give real ones with eval_ arrays, or correct the model")
        floating = np.issubdtype(np.dtype(spec.dtype), np.floating)
        found[f"eval_{spec.name}"] = generator.standard_normal(shape).astype(spec.dtype) if floating else np.zeros(shape, spec.dtype)
    return found


def _pick(arrays: Mapping[str, NDArray[Any]], prefix: str, name: str, model: str) -> NDArray[Any]:
    if prefix + name not in arrays:
        raise FaultError("bad_data", f"{model}: the data has no array {prefix + name}", f"it has {', '.join(sorted(arrays)) or 'none'}")
    array = arrays[prefix + name]
    if array.dtype.kind not in NUMBERS or array.ndim == 0 or len(array) == 0:
        message = f"{model}: {prefix}{name} is {array.dtype} of shape {list(array.shape)}"
        raise FaultError("bad_data", message, "give numbers, the samples on the first axis, one at least")
    return array


def _feed(at: int, spec: TensorSpec, array: NDArray[Any], model: Model) -> Feed:
    declared = model.inputs.get(spec.name)
    mean = _floats(declared.mean if declared else None, 0.0)
    std = _floats(declared.std if declared else None, 1.0)
    scale = 1 / 255 if array.dtype == np.uint8 and spec.dtype.startswith("float") else 1.0
    return Feed(spec.name, f"arr_{at}", scale, mean, std, [])


def _floats(value: float | tuple[float, ...] | None, default: float) -> list[float]:
    if value is None:
        return [default]
    return [float(item) for item in value] if isinstance(value, tuple) else [float(value)]


def _axes(spec: TensorSpec, model: Model) -> tuple[int, ...]:
    """The axes that turn the source's layout into TFLite's; none for a model that has channels last already."""
    declared = model.inputs.get(spec.name)
    layout = declared.layout if declared else None
    rank = len(spec.shape)
    channels_first = layout in ("NCHW", "NCDHW", "NCL", "NCW") if layout else rank == 4 and model.source.suffix != ".tflite"
    return TFLITE_AXES.get(rank, ()) if channels_first else ()


def _check(name: str, specs: list[TensorSpec], wire: Mapping[str, NDArray[Any]]) -> None:
    for spec in specs:
        array = wire[spec.name]
        wanted = spec.shape[1:] if len(spec.shape) == array.ndim else spec.shape
        fits = len(wanted) == array.ndim - 1 and all(want in (-1, have) for want, have in zip(wanted, array.shape[1:], strict=True))
        if not fits:
            message = f"{name}: input {spec.name} takes {spec.shape}, eval_{spec.name} is {list(array.shape)}"
            raise FaultError("bad_data", message, "the samples go on the first axis, the rest as the model takes it")
    if len({len(array) for array in wire.values()}) != 1:
        raise FaultError("bad_data", f"{name}: the eval_ arrays have different numbers of samples", "give each input the same")


def _labels(arrays: Mapping[str, NDArray[Any]], prefix: str, name: str, task: str, samples: int) -> NDArray[Any] | None:
    labels = arrays.get(f"{prefix}labels")
    try:
        if labels is not None:
            tasks.check(task, labels, samples)
    except ValueError as error:
        what, _, form = str(error).partition("; ")
        raise FaultError("bad_data", f"{name}: {prefix}labels {what}", form) from None
    return labels


def _write(wire: Mapping[str, NDArray[Any]], folder: Path) -> tuple[Path, str]:
    """The evaluation arrays as the device gets them (arr_0, arr_1, ...), under the name of their content."""
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez_compressed(content, *wire.values())
    sha256 = hashlib.sha256(content.getbuffer()).hexdigest()
    descriptor, temporary = tempfile.mkstemp(dir=folder)  # another run may write the same file
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.getbuffer())
    return Path(temporary).replace(folder / f"{sha256}.npz"), sha256
