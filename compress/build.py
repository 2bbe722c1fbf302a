"""Builds a model's variants: brings it into a format, applies a recipe, runs and verifies the result, and keeps it by content."""

import errno
import hashlib
import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.schema import Artifact, Fault, FaultError, ModelFile, SchemaError, decode, dump, fingerprint, load
from compress import cache, edgetpu, inspect, provenance
from compress.original import Original, kind_of, original, reference
from compress.quiet import quiet
from compress.recipes import Recipe
from compress.records import Arrays, Context, Data, Source, Variant
from compress.techniques import FILES, Technique, Workspace, find, openvino, tensorrt_qdq
from compress.verify import MAX_ACCURACY_DROP, accuracy, drift, verify

__all__ = ["Context", "Data", "Source", "Variant", "build"]

SEED = 0
"""Of numpy's global generator while a recipe is applied."""

SAME_MODEL_SQNR_DB = 20.0
"""Below this a .tflite is said to differ from the .onnx it came with."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One build with its inputs read and checked; `twin`: for a .tflite the .onnx of the same model, where it can be read."""

    recipe: Recipe
    format: str
    techniques: tuple[Technique, ...]
    original: Original
    twin: Original | None
    labels: NDArray[np.generic] | None
    context: Context


def build(source: Source, recipe: Recipe, format: str, data: Data, context: Context) -> Variant:  # noqa: A002  (the domain's word)
    """The variant of a model that a recipe makes in a format (one of FILES), from the cache where it was built before.

    Safe to call from several processes at once; what is interrupted leaves nothing. Raises FaultError: `bad_model`, `bad_data`,
    `convert_fail`, `compile_fail` (edgetpu), `unsupported_op` (nothing to act on), `verification` (the result gives something else than
    the float model), `env_missing`, `disk_full`, and what `context.run_model` raises.
    """
    with _faults(source, format):
        if format == "edgetpu":
            return _compiled(build(source, edgetpu.uncompiled(recipe), "tflite", data, context), recipe, context)
        job = _job(source, recipe, format, data, context)
        folder = context.cache / "variants" / _key(job)
        cache.once(folder, _is_whole, lambda partial: _make(job, partial))
        return Variant(_artifact(folder, format), folder, _manifest(folder))


@contextmanager
def _faults(source: Source, format: str) -> Generator[None]:  # noqa: A002
    """Names the model's file in every fault that does not, and makes a fault of a full disk."""
    path = source.tflite if kind_of(format) == "tflite" else source.onnx
    file = source.model if path is None else path.name
    try:
        yield
    except FaultError as error:
        fault = error.fault
        message = fault.message if file in fault.message else f"{file}: {fault.message}"
        raise FaultError(fault.code, message, fault.next, fault.phase or "compress") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FaultError("disk_full", f"{file}: {error}", "free some space, or keep the cache elsewhere", "compress") from error


def _compiled(plain: Variant, recipe: Recipe, context: Context) -> Variant:
    """The verified int8 TFLite variant `plain` compiled for the Edge TPU, anew by another version of the compiler.

    Where there is no compiler, such as a compile host that is off, what was compiled before is still good.
    """
    started, before, compiler = time.perf_counter(), _manifest(plain.folder), context.edgetpu_compiler
    folder = context.cache / "variants" / fingerprint({"format": "edgetpu", "parent": plain.folder.name})

    def is_current(folder: Path) -> bool:
        return _is_whole(folder) and (isinstance(compiler, Fault) or _manifest(folder)["edgetpu"]["version"] == compiler.version)

    def make(partial: Path) -> None:
        told, notes = edgetpu.compile_to(partial / FILES["edgetpu"][0], plain.folder / FILES["tflite"][0], compiler)
        artifact = _artifact(partial, "edgetpu")
        size_bytes = artifact.files[0].size_bytes
        manifest = {
            **before,
            "recipe": asdict(recipe),
            "artifact": dump(artifact),
            "size_bytes": size_bytes,
            "shrank": size_bytes < before["float_size_bytes"],
            "edgetpu": told,
            "notes": [*before["notes"], *notes],
            "seconds": round(time.perf_counter() - started, 3),
        }
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))

    cache.once(folder, is_current, make)
    return Variant(_artifact(folder, "edgetpu"), folder, _manifest(folder))


def _job(source: Source, recipe: Recipe, format: str, data: Data, context: Context) -> _Job:  # noqa: A002
    techniques = tuple(find(step.technique, format) for step in recipe.steps)
    for technique, step in zip(techniques, recipe.steps, strict=True):
        technique.check(step.params)
    model = original(source, format, data)
    if any(technique.needs_data for technique in techniques) and not model.calibration:
        raise FaultError("bad_data", "there are no calibration samples", "add arrays with the prefix calib_ to the data file")
    return _Job(recipe, format, techniques, model, _twin(source, model, data), data.labels, context)


def _twin(source: Source, model: Original, data: Data) -> Original | None:
    if model.format != "tflite" or source.onnx is None:
        return None
    try:
        return original(source, "onnx", data)
    except FaultError:
        return None  # cells of its own format report it


def _key(job: _Job) -> str:
    models = [model for model in (job.original, job.twin) if model is not None]
    arrays = [provenance.arrays_digest(part) for model in models for part in (model.samples, model.calibration)]
    labels = {} if job.labels is None else {"labels": job.labels}
    record = {
        "model": [model.sha256 for model in models],
        "recipe": asdict(job.recipe),
        "format": job.format,
        "data": [*arrays, provenance.arrays_digest(labels)],
        "tools": provenance.tools(job.format),
        "code": provenance.code_digest(),
    }
    return fingerprint(record)


def _make(job: _Job, folder: Path) -> None:
    """Fills `folder` with the artifact's files and manifest.json."""
    started = time.perf_counter()
    expected = reference(job.original, job.context)
    notes = _compared_with_twin(job, expected)
    with TemporaryDirectory(dir=folder) as work:
        path = job.original.write(Path(work) / "original")
        parameters = inspect.parameters(path, job.original.format)
        made, baseline_bytes, applied = _apply(job, path)
        for name in FILES[job.format]:
            made.with_name(name).rename(folder / name)
    artifact = _artifact(folder, job.format)
    size_bytes = sum(file.size_bytes for file in artifact.files)
    outputs = job.context.run_model(folder / FILES[job.format][0], job.format, job.original.samples)
    checked = verify(expected, outputs, job.labels)
    notes += applied
    if job.recipe.steps and size_bytes >= baseline_bytes:
        notes.append(f"did not get smaller: {baseline_bytes} to {size_bytes} bytes")
    calibrated = any(technique.needs_data for technique in job.techniques)
    manifest = {
        "recipe": asdict(job.recipe),
        "parents": [{"file": job.original.name, "format": job.original.format, "sha256": job.original.sha256}],
        "artifact": dump(artifact),
        "size_bytes": size_bytes,
        "float_size_bytes": baseline_bytes,
        "shrank": size_bytes < baseline_bytes,
        "parameters": parameters,
        **asdict(checked),
        "calibration_samples": len(next(iter(job.original.calibration.values()))) if calibrated else 0,
        "seed": SEED,
        "tools": provenance.tools(job.format),
        "notes": notes,
        "seconds": round(time.perf_counter() - started, 3),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))


def _apply(job: _Job, path: Path) -> tuple[Path, int, list[str]]:
    """The main file of the result, the size of the float model in the same format, and notes."""
    work = path.parent.parent
    notes: list[str] = []
    with quiet(), _library_errors():
        np.random.seed(SEED)  # the libraries draw from the global generator, if at all
        if job.format == "openvino":
            path = openvino.convert(path, _new_folder(work / "converted"))
        elif job.format == "tensorrt":
            fitted = tensorrt_qdq.fit(path, _new_folder(work / "converted"))
            path, notes = fitted.path, [*fitted.notes]
        baseline_bytes = sum(path.with_name(name).stat().st_size for name in FILES[job.format])
        for at, (technique, step) in enumerate(zip(job.techniques, job.recipe.steps, strict=True)):
            workspace = Workspace(_new_folder(work / f"step-{at}"), job.original.calibration, job.original.batch)
            applied = technique.apply(path, step.params, workspace)
            path = applied.path
            notes += applied.notes
    return path, baseline_bytes, notes


@contextmanager
def _library_errors() -> Generator[None]:
    """Makes `convert_fail` of whatever a conversion library raises."""
    try:
        yield
    except (FaultError, OSError, MemoryError):
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        message = f"{type(error).__name__}: {first}"
        raise FaultError("convert_fail", message, "try another recipe, or export the model with other settings") from error


def _new_folder(path: Path) -> Path:
    path.mkdir()
    return path


def _compared_with_twin(job: _Job, expected: Arrays) -> list[str]:
    """A note where the .tflite is not the .onnx's model; raises FaultError `verification` where labels show that it is fed wrongly."""
    if job.twin is None:
        return []
    try:
        theirs = reference(job.twin, job.context)
    except FaultError:
        return []  # cells of its own format report it
    ours_first, theirs_first = next(iter(expected.values())), next(iter(theirs.values()))
    if job.labels is not None:
        ours, original_accuracy = accuracy(ours_first, job.labels), accuracy(theirs_first, job.labels)
        if original_accuracy - ours > MAX_ACCURACY_DROP:
            message = f"{job.original.name} has accuracy {ours:.3f}, {job.twin.name} {original_accuracy:.3f}"
            raise FaultError("verification", message, "convert it again, or correct its input layout in the suite", "verify")
    if ours_first.shape != theirs_first.shape:  # channels last against first: not comparable value by value
        return []
    sqnr_db = drift(theirs_first, ours_first).sqnr_db
    return [] if sqnr_db >= SAME_MODEL_SQNR_DB else [f"{job.original.name} gives other outputs than {job.twin.name}: SQNR {sqnr_db:.1f} dB"]


def _artifact(folder: Path, format: str) -> Artifact:  # noqa: A002
    files = [ModelFile(name, _sha256(folder / name), (folder / name).stat().st_size) for name in FILES[format]]
    return Artifact(files[0].sha256 if len(files) == 1 else fingerprint(files), format, files)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _manifest(folder: Path) -> dict[str, Any]:
    return decode((folder / "manifest.json").read_bytes())


def _is_whole(folder: Path) -> bool:
    """Whether the files are those that the manifest was written for."""
    try:
        kept = load(Artifact, _manifest(folder)["artifact"])
        return kept == _artifact(folder, kept.format)
    except (OSError, SchemaError, KeyError):
        return False
