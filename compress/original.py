"""A float model in one piece, with the samples in its layout and what it gives for them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from agent.schema import FaultError, TensorSpec, fingerprint
from compress import cache, feeds, inspect, model_file, onnx_model, provenance
from compress.records import Arrays, Context, Data, Source
from compress.techniques import FILES


@dataclass(frozen=True, slots=True)
class Original:
    """`content` is the model with all its weights; the samples are as the model is fed, `batch` at a time."""

    name: str
    format: str
    content: bytes
    samples: Arrays
    calibration: Arrays
    batch: int

    @property
    def sha256(self) -> str:
        """Of the content, hex."""
        return hashlib.sha256(self.content).hexdigest()

    def write(self, folder: Path) -> Path:
        """Writes the model into a new folder under its format's usual name."""
        folder.mkdir()
        path = folder / FILES[self.format][0]
        path.write_bytes(self.content)
        return path


def kind_of(format: str) -> str:  # noqa: A002  (the domain's word)
    """Which float model artifacts of a format are made from and compared with: the .tflite for tflite and edgetpu, else the .onnx."""
    return "tflite" if format in ("tflite", "edgetpu") else "onnx"


def original(source: Source, format: str, data: Data) -> Original:  # noqa: A002
    """The float model that artifacts of a format are made from.

    Raises FaultError `convert_fail` where there is none, `bad_model` and `bad_data`.
    """
    kind = kind_of(format)
    path, key = (source.tflite, "tflite") if kind == "tflite" else (source.onnx, "source")
    if path is None:
        raise FaultError("convert_fail", f"{source.model} has no .{kind}", f"give `{key}:` in the suite, or leave its backends out")
    return _read(path, kind, data)


def reference(model: Original, context: Context) -> Arrays:
    """What the original gives for its samples, run once and kept by content."""
    record = {
        "model": model.sha256,
        "samples": provenance.arrays_digest(model.samples),
        "tools": provenance.tools(model.format),
    }
    folder = context.cache / "references" / fingerprint(record)

    def run(partial: Path) -> None:
        with TemporaryDirectory(dir=partial) as work:
            path = model.write(Path(work) / "original")
            try:
                outputs = context.run_model(path, model.format, model.samples)
            except FaultError as error:
                fault = error.fault
                message = fault.message.removeprefix(f"{path.name}: ")
                raise FaultError(fault.code, f"{model.name}: {message}", fault.next, fault.phase) from None
        names = np.array(list(outputs))
        np.savez(partial / "outputs.npz", names, *outputs.values())

    cache.once(folder, lambda kept: (kept / "outputs.npz").is_file(), run)
    with np.load(folder / "outputs.npz", allow_pickle=False) as stored:
        return {str(name): stored[f"arr_{at}"] for at, name in enumerate(stored["arr_0"], start=1)}


def fed(specs: Sequence[TensorSpec], format: str, data: Data) -> tuple[Arrays, Arrays]:  # noqa: A002
    """The evaluation samples and the calibration samples (none where there are none) as a model of this format is fed them."""
    transpose: Mapping[str, tuple[int, ...]] = data.transpose if format == "tflite" else {}
    calibration = feeds.arrange(specs, data.calib_feeds, transpose) if data.calib_feeds else {}
    return feeds.arrange(specs, data.eval_feeds, transpose), calibration


def _read(path: Path, format: str, data: Data) -> Original:  # noqa: A002  (the domain's word)
    try:
        content = onnx_model.self_contained(path) if format == "onnx" else model_file.read(path)
        specs = inspect.inputs(path, format)
    except OSError as error:
        raise FaultError("bad_model", f"{path.name}: {error.strerror}", "correct its path in the suite", "load") from None
    samples, calibration = fed(specs, format, data)
    count = min((len(array) for array in samples.values()), default=0)
    if count == 0 or (data.labels is not None and len(data.labels) != count):
        labels = "" if data.labels is None else f" and {len(data.labels)} labels"
        raise FaultError("bad_data", f"{count} evaluation samples{labels}", "mend the data file", "compress")
    return Original(path.name, format, content, samples, calibration, feeds.batch(specs))
