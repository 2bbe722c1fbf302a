"""Builds a model's variants: brings it into a format, applies a recipe, runs and verifies the result, and keeps it by content."""

import errno
import json
import math
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.schema import Fault, FaultError, dump, fingerprint
from compress import budget, cache, edgetpu, making, pipeline, provenance, runtimes, tasks
from compress.budget import Weighed
from compress.making import Job
from compress.original import Original, kind_of, reference
from compress.recipes import Recipe, Target
from compress.records import Arrays, Context, Data, Source, Variant, no_further
from compress.runtimes import Outcome
from compress.stages import SEED
from compress.techniques import FILES
from compress.verify import MAX_ACCURACY_DROP, Verification, drift, verify

__all__ = ["Context", "Data", "Source", "Variant", "build"]

COSTS = ("parameters", "macs", "sparsity")
GROW = ("tensorrt",)

SAME_MODEL_SQNR_DB = 20.0
"""Below this a .tflite is said to differ from the .onnx it came with."""


def build(source: Source, recipe: Recipe, format: str, data: Data, context: Context) -> Variant:  # noqa: A002  (the domain's word)
    """The variant of a model that a recipe makes in a format (one of FILES), from the cache where it was built before.

    Safe to call from several processes at once; what is interrupted leaves nothing. Raises FaultError: `bad_model`, `bad_data`,
    `convert_fail`, `compile_fail` (edgetpu), `unsupported_op` (nothing to act on), `verification` (the result gives something else than
    the float model), `env_missing`, `disk_full`, and what `context.run_model` raises.
    """
    with _faults(source, format):
        if format == "edgetpu":
            # a runtime that is installed later is no reason to compile again
            plain = build(source, edgetpu.uncompiled(recipe), "tflite", data, replace(context, further=no_further))
            return _compiled(plain, recipe, context)
        pipeline.plan(budget.tried(recipe), making.formats(source), format)
        recipe, found = budget.settled(recipe, _weighed(source, format, data, context))
        job = making.check(source, recipe, format, data, context)
        folder = context.cache / "variants" / _key(job, found)
        cache.once(folder, making.is_whole, lambda partial: _make(job, found, partial))
        return Variant(making.artifact(folder, format), folder, making.manifest(folder))


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
    started, before, compiler = time.perf_counter(), making.manifest(plain.folder), context.edgetpu_compiler
    folder = context.cache / "variants" / fingerprint({"format": "edgetpu", "parent": plain.folder.name})

    def is_current(folder: Path) -> bool:
        return making.is_whole(folder) and (
            isinstance(compiler, Fault) or making.manifest(folder)["edgetpu"]["version"] == compiler.version
        )

    def make(partial: Path) -> None:
        told, notes = edgetpu.compile_to(partial / FILES["edgetpu"][0], plain.folder / FILES["tflite"][0], compiler)
        artifact = making.artifact(partial, "edgetpu")
        size_bytes = artifact.files[0].size_bytes
        manifest = {
            **before,
            "recipe": asdict(recipe),
            "artifact": dump(artifact),
            "size_bytes": size_bytes,
            "shrank": size_bytes < before["float_size_bytes"],
            "edgetpu": told,
            "runtimes": [Outcome("libedgetpu", "", not_run=f"it takes an Edge TPU; {runtimes.LATER}").record],
            "notes": [*before["notes"], *notes],
            "seconds": round(time.perf_counter() - started, 3),
        }
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))

    cache.once(folder, is_current, make)
    return Variant(making.artifact(folder, "edgetpu"), folder, making.manifest(folder))


def _weighed(source: Source, format: str, data: Data, context: Context) -> Weighed:  # noqa: A002
    def size(recipe: Recipe, target: Target) -> float:
        untrained = budget.untrained(recipe, pipeline.plan(recipe, making.formats(source), format))
        folder = making.made(making.check(source, untrained, format, data, context))
        if target.quantity == "latency_ms":
            return context.latency_ms(folder / FILES[format][0], format, target.device)
        if target.quantity == "size_bytes":
            return sum(file.size_bytes for file in making.artifact(folder, format).files)
        value = making.manifest(folder)[target.quantity]
        if value is None:
            raise FaultError("unsupported_op", f"{recipe.name}: its {target.quantity} are not known", "take size_bytes", "compress")
        return value

    def loss_pp(recipe: Recipe) -> float:
        held_out = data.held_out
        if held_out is None or held_out.labels is None:
            raise FaultError("bad_data", "there are no held-out samples with labels", "add held_ arrays and held_labels to the data file")
        try:
            tried = replace(data, eval_feeds=held_out.feeds, labels=held_out.labels)
            told = build(source, recipe, format, tried, replace(context, further=no_further)).manifest
        except FaultError as error:
            if error.fault.code != "verification":
                raise
            return math.inf
        return 100 * (told["reference_accuracy"] - told["accuracy"])

    return Weighed(size, loss_pp)


def _key(job: Job, found: list[str]) -> str:
    arrays = [provenance.arrays_digest(model.samples) for model in (job.original, job.twin) if model is not None]
    labels = {} if job.data.labels is None else {"labels": job.data.labels}
    verified = {
        "recipe": asdict(job.recipe),
        "data": [*arrays, provenance.arrays_digest(labels)],
        "task": tasks.digest(job.data.task),
        "found": found,
        "runtimes": [[one.name, one.version, isinstance(one.run, Fault)] for one in job.context.further(job.format)],
    }
    return fingerprint({"made": making.key(job), **verified})


def _make(job: Job, found: list[str], folder: Path) -> None:
    """Fills `folder` with the artifact's files and manifest.json, once it is verified."""
    expected = reference(job.original, job.context)
    notes = _compared_with_twin(job, expected)
    made_in = making.made(job)
    made = making.manifest(made_in)
    for name in [*FILES[job.format], *made["extras"]]:
        shutil.copyfile(made_in / name, folder / name)
    artifact = making.artifact(folder, job.format)
    size_bytes = sum(file.size_bytes for file in artifact.files)
    samples = dict(zip(made["inputs"], job.original.samples.values(), strict=True))
    checked, ran = _verified(job, folder / FILES[job.format][0], samples, expected)
    coded_bytes = sum((folder / name).stat().st_size for name in made["extras"])
    refusal = _refusal(job, min(size_bytes, coded_bytes or size_bytes), made["float_size_bytes"], checked)
    manifest = {
        "artifact": dump(artifact),
        "size_bytes": size_bytes,
        "float_size_bytes": made["float_size_bytes"],
        "shrank": size_bytes < made["float_size_bytes"],
        **{name: made[name] for name in COSTS},
        **asdict(checked),
        "runtimes": [one.record for one in ran],
        **_provenance(job),
        "steps": made["told"],
        "extras": made["extras"],
        "refusal": refusal and dump(refusal),
        "notes": [*notes, *found, *made["notes"]],
        "seconds": made["seconds"],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))


def _verified(job: Job, path: Path, samples: Arrays, expected: Arrays) -> tuple[Verification, list[Outcome]]:
    """What the artifact is in its first runtime, and what it did in each; raises FaultError where it is not the model in the first one."""

    def check(outputs: Arrays) -> Verification:
        return verify(expected, outputs, job.data.labels, job.data.task, _first(job.original))

    def floor(checked: Verification) -> Fault | None:
        return _lost(job, checked)

    checked = check(job.context.run_model(path, job.format, samples))
    name = runtimes.FIRST[job.format]
    first = Outcome(name, making.tools(job)[name], checked.drift, checked.accuracy)
    return checked, [first, *runtimes.each(job.context.further(job.format), path, job.format, samples, check, floor)]


def _provenance(job: Job) -> dict[str, object]:
    calibrated = any(stage.technique.needs_data for stage in job.stages)
    return {
        "recipe": asdict(job.recipe),
        "parents": making.parents(job),
        "calibration_samples": len(next(iter(job.original.calibration.values()))) if calibrated else 0,
        "seed": SEED,
        "tools": making.tools(job),
        "techniques": [
            {"technique": stage.technique.name, "format": stage.technique.format, "params": stage.params.model_dump(mode="json")}
            for stage in job.stages
        ],
    }


def _refusal(job: Job, size_bytes: int, float_bytes: int, checked: Verification) -> Fault | None:
    """Why the artifact is not shipped unless it is asked for: it did not shrink, or it lost more than the recipe allows.

    `size_bytes`: the artifact's, or of the coded file beside it where that is smaller. A file for TensorRT keeps float weights beside its
    Q/DQ layers: what shrinks is the engine that the device builds of it.
    """
    if job.recipe.steps and size_bytes >= float_bytes and job.format not in GROW:
        message = f"{job.recipe.name} did not make it smaller: {float_bytes} to {size_bytes} bytes"
        return Fault("verification", "verify", message, "leave it out")
    return _lost(job, checked)


def _lost(job: Job, checked: Verification) -> Fault | None:
    """More than the recipe allows, where it says how much and there are labels."""
    name, floor_pp = job.recipe.name, job.recipe.floor_pp
    if floor_pp is None or checked.accuracy is None or checked.reference_accuracy is None:
        return None
    drop_pp = 100 * (checked.reference_accuracy - checked.accuracy)
    if drop_pp <= floor_pp:
        return None
    message = f"{name} loses {drop_pp:.2f} points, its floor is {floor_pp:g}: {checked.reference_accuracy:.4f} to {checked.accuracy:.4f}"
    return Fault("accuracy_floor", "verify", message, "lower its strength, train longer, or raise accuracy_drop_pp of the recipe")


def _compared_with_twin(job: Job, expected: Arrays) -> list[str]:
    """A note where the .tflite is not the .onnx's model; raises FaultError `verification` where labels show that it is fed wrongly."""
    if job.twin is None:
        return []
    try:
        theirs = reference(job.twin, job.context)
    except FaultError:
        return []  # cells of its own format report it
    ours_first, theirs_first = next(iter(expected.values())), next(iter(theirs.values()))
    if job.data.labels is not None:
        ours = tasks.score(job.data.task, ours_first, job.data.labels, _first(job.original)).value
        original_score = tasks.score(job.data.task, theirs_first, job.data.labels, _first(job.twin)).value
        if original_score - ours > MAX_ACCURACY_DROP:
            metric = tasks.find(job.data.task).metric
            message = f"{job.original.name} has {metric} {ours:.3f}, {job.twin.name} {original_score:.3f}"
            raise FaultError("verification", message, "convert it again, or correct its input layout in the suite", "verify")
    if ours_first.shape != theirs_first.shape:  # channels last against first: not comparable value by value
        return []
    sqnr_db = drift(theirs_first, ours_first).sqnr_db
    return [] if sqnr_db >= SAME_MODEL_SQNR_DB else [f"{job.original.name} gives other outputs than {job.twin.name}: SQNR {sqnr_db:.1f} dB"]


def _first(model: Original) -> NDArray[np.generic]:
    """What the model's first input is fed."""
    return next(iter(model.samples.values()))
