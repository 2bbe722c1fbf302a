"""Builds a model's variants: brings it into a format, applies a recipe, runs and verifies the result, and keeps it by content."""

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.schema import Artifact, Fault, FaultError, ModelFile, SchemaError, decode, dump, fingerprint, load
from compress import cache, edgetpu, pipeline, provenance, training
from compress.original import Original, kind_of, original, reference
from compress.pipeline import Stage
from compress.recipes import Recipe
from compress.records import Arrays, Context, Data, Source, Variant
from compress.stages import SEED, Work, carry_out
from compress.techniques import FILES, TORCH, TrainingTechnique
from compress.verify import MAX_ACCURACY_DROP, Verification, accuracy, drift, verify

__all__ = ["Context", "Data", "Source", "Variant", "build"]

COSTS = ("parameters", "macs", "sparsity")
GROW = ("tensorrt",)

SAME_MODEL_SQNR_DB = 20.0
"""Below this a .tflite is said to differ from the .onnx it came with."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One build with its inputs read and checked; `twin`: for a .tflite the .onnx of the same model, where it can be read."""

    source: Source
    recipe: Recipe
    format: str
    stages: tuple[Stage, ...]
    original: Original
    twin: Original | None
    data: Data
    context: Context

    @property
    def trains(self) -> bool:
        """Whether a stage works on a torch module."""
        return any(isinstance(stage.technique, TrainingTechnique) for stage in self.stages)


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
    stages = pipeline.plan(recipe, _formats(source), format)
    if any(isinstance(stage.technique, TrainingTechnique) for stage in stages) and data.train is None:
        raise FaultError("bad_data", "there are no training samples", "add arrays with the prefix train_ to the data file")
    model = original(source, format, data)
    if any(stage.technique.needs_data for stage in stages) and not model.calibration:
        raise FaultError("bad_data", "there are no calibration samples", "add arrays with the prefix calib_ to the data file")
    if any(stage.technique.needs_labels for stage in stages) and (data.held_out is None or data.held_out.labels is None):
        raise FaultError("bad_data", "there are no held-out samples with labels", "add held_ arrays and held_labels to the data file")
    return _Job(source, recipe, format, stages, model, _twin(source, model, data), data, context)


def _formats(source: Source) -> list[str]:
    """The float formats that a source is there in."""
    there = {TORCH: source.torch, "onnx": source.onnx, "tflite": source.tflite}
    return [name for name, one in there.items() if one is not None]


def _twin(source: Source, model: Original, data: Data) -> Original | None:
    if model.format != "tflite" or source.onnx is None:
        return None
    try:
        return original(source, "onnx", data)
    except FaultError:
        return None  # cells of its own format report it


def _made_key(job: _Job) -> str:
    """What an unverified artifact depends on. Evaluation samples are not among it: no choice looks at them."""
    stages, source, data = job.stages, job.source, job.data
    chooses = any(stage.technique.needs_labels for stage in stages)
    learnt = [data.train, data.held_out] if job.trains else [data.held_out] if chooses else []
    record = {
        "model": [model.sha256 for model in (job.original, job.twin) if model is not None],
        "torch": training.digest(source.torch) if job.trains and source.torch else "",
        "recipe": [[stage.step.technique, stage.params.model_dump(mode="json")] for stage in stages],
        "format": job.format,
        "data": [provenance.arrays_digest(job.original.calibration), *map(training.samples_digest, learnt)],
        "tools": _tools(job),
        "code": provenance.code_digest(),
    }
    return fingerprint(record)


def _key(job: _Job) -> str:
    arrays = [provenance.arrays_digest(model.samples) for model in (job.original, job.twin) if model is not None]
    labels = {} if job.data.labels is None else {"labels": job.data.labels}
    verified = {"recipe": asdict(job.recipe), "data": [*arrays, provenance.arrays_digest(labels)], "task": job.data.task}
    return fingerprint({"made": _made_key(job), **verified})


def _tools(job: _Job) -> dict[str, str]:
    """The versions of what makes and runs the artifact; raises FaultError `env_missing`."""
    return {**provenance.tools(job.format), **(provenance.tools(TORCH) if job.trains else {})}


def _made(job: _Job) -> Path:
    """The folder with the artifact's files, unverified, and what is known of them in manifest.json."""
    folder = job.context.cache / "made" / _made_key(job)

    def make(partial: Path) -> None:
        started = time.perf_counter()
        with TemporaryDirectory(dir=partial) as work:
            model, float_bytes = carry_out(job.stages, job.format, Work(job.source, job.original, job.data, job.context, Path(work)))
            for name in FILES[job.format]:
                shutil.copyfile(model.path.with_name(name), partial / name)
        told = {
            "notes": model.notes,
            "told": model.told,
            "float_size_bytes": float_bytes,
            **asdict(model.cost),
            "inputs": list(model.samples),
            "artifact": dump(_artifact(partial, job.format)),
            "seconds": round(time.perf_counter() - started, 3),
        }
        (partial / "manifest.json").write_text(json.dumps(told, indent=1, allow_nan=False))

    cache.once(folder, _is_whole, make)
    return folder


def _make(job: _Job, folder: Path) -> None:
    """Fills `folder` with the artifact's files and manifest.json, once it is verified."""
    expected = reference(job.original, job.context)
    notes = _compared_with_twin(job, expected)
    made_in = _made(job)
    made = _manifest(made_in)
    for name in FILES[job.format]:
        shutil.copyfile(made_in / name, folder / name)
    artifact = _artifact(folder, job.format)
    size_bytes = sum(file.size_bytes for file in artifact.files)
    samples = dict(zip(made["inputs"], job.original.samples.values(), strict=True))
    outputs = job.context.run_model(folder / FILES[job.format][0], job.format, samples)
    checked = verify(expected, outputs, job.data.labels)
    notes += made["notes"]
    refusal = _refusal(job, size_bytes, made["float_size_bytes"], checked)
    calibrated = any(stage.technique.needs_data for stage in job.stages)
    manifest = {
        "recipe": asdict(job.recipe),
        "parents": [{"file": job.original.name, "format": job.original.format, "sha256": job.original.sha256}],
        "artifact": dump(artifact),
        "size_bytes": size_bytes,
        "float_size_bytes": made["float_size_bytes"],
        "shrank": size_bytes < made["float_size_bytes"],
        **{name: made[name] for name in COSTS},
        **asdict(checked),
        "calibration_samples": len(next(iter(job.original.calibration.values()))) if calibrated else 0,
        "seed": SEED,
        "tools": _tools(job),
        "steps": made["told"],
        "refusal": refusal and dump(refusal),
        "notes": notes,
        "seconds": made["seconds"],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))


def _refusal(job: _Job, size_bytes: int, float_bytes: int, checked: Verification) -> Fault | None:
    """Why the artifact is not shipped unless it is asked for: it did not shrink, or it lost more than the recipe allows.

    A file for TensorRT keeps float weights beside its Q/DQ layers: what shrinks is the engine that the device builds of it.
    """
    name, floor_pp = job.recipe.name, job.recipe.floor_pp
    if job.recipe.steps and size_bytes >= float_bytes and job.format not in GROW:
        return Fault("verification", "verify", f"{name} did not make it smaller: {float_bytes} to {size_bytes} bytes", "leave it out")
    if floor_pp is None or checked.accuracy is None or checked.reference_accuracy is None:
        return None
    drop_pp = 100 * (checked.reference_accuracy - checked.accuracy)
    if drop_pp <= floor_pp:
        return None
    message = f"{name} loses {drop_pp:.2f} points, its floor is {floor_pp:g}: {checked.reference_accuracy:.4f} to {checked.accuracy:.4f}"
    return Fault("accuracy_floor", "verify", message, "lower its strength, train longer, or raise accuracy_drop_pp of the recipe")


def _compared_with_twin(job: _Job, expected: Arrays) -> list[str]:
    """A note where the .tflite is not the .onnx's model; raises FaultError `verification` where labels show that it is fed wrongly."""
    if job.twin is None:
        return []
    try:
        theirs = reference(job.twin, job.context)
    except FaultError:
        return []  # cells of its own format report it
    ours_first, theirs_first = next(iter(expected.values())), next(iter(theirs.values()))
    if job.data.labels is not None:
        ours, original_accuracy = accuracy(ours_first, job.data.labels), accuracy(theirs_first, job.data.labels)
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
