"""Makes artifacts and keeps them by what they depend on, before anybody has verified them."""

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.schema import Artifact, FaultError, ModelFile, SchemaError, decode, dump, fingerprint, load
from compress import cache, pipeline, provenance, tasks, training
from compress.original import Original, original
from compress.pipeline import Stage
from compress.recipes import Recipe
from compress.records import Context, Data, Samples, Source
from compress.stages import Work, carry_out
from compress.techniques import FILES, TORCH, TrainingTechnique


@dataclass(frozen=True, slots=True)
class Job:
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


def check(source: Source, recipe: Recipe, format: str, data: Data, context: Context) -> Job:  # noqa: A002  (the domain's word)
    """The build, if it can be made of this source and data; raises FaultError before any work."""
    stages = pipeline.plan(recipe, formats(source), format)
    if any(isinstance(stage.technique, TrainingTechnique) for stage in stages) and data.train is None:
        raise FaultError("bad_data", "there are no training samples", "add arrays with the prefix train_ to the data file")
    model = original(source, format, data)
    if any(stage.technique.needs_data for stage in stages) and not model.calibration:
        raise FaultError("bad_data", "there are no calibration samples", "add arrays with the prefix calib_ to the data file")
    if any(stage.technique.needs_labels for stage in stages) and (data.held_out is None or data.held_out.labels is None):
        raise FaultError("bad_data", "there are no held-out samples with labels", "add held_ arrays and held_labels to the data file")
    return Job(source, recipe, format, stages, model, _twin(source, model, data), data, context)


def formats(source: Source) -> list[str]:
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


def key(job: Job) -> str:
    """What an unverified artifact depends on. Evaluation samples are not among it, unless they are all there is to calibrate with."""
    stages, source, data = job.stages, job.source, job.data
    chooses = any(stage.technique.needs_labels for stage in stages)
    seen = Samples(data.calib_feeds or data.eval_feeds, None)
    learnt = [data.train, data.held_out, seen] if job.trains else [data.held_out] if chooses else []
    record = {
        "model": [model.sha256 for model in (job.original, job.twin) if model is not None],
        "torch": training.digest(source.torch) if job.trains and source.torch else "",
        "recipe": [[stage.step.technique, stage.params.model_dump(mode="json")] for stage in stages],
        "format": job.format,
        "task": tasks.digest(data.task) if learnt else "",
        "data": [provenance.arrays_digest(job.original.calibration), *map(training.samples_digest, learnt)],
        "tools": tools(job),
        "code": provenance.code_digest(),
    }
    return fingerprint(record)


def parents(job: Job) -> list[dict[str, str]]:
    """What the artifact was made from and compared with, the latter first; of a torch module the sha256 covers code and weights."""
    first = job.stages[0].technique.format if job.stages else job.format
    models = [job.original, *([job.twin] if job.twin and first == job.twin.format else [])]
    found = [{"file": model.name, "format": model.format, "sha256": model.sha256} for model in models]
    if job.trains and job.source.torch:
        found.append({"file": job.source.torch.file.name, "format": TORCH, "sha256": training.digest(job.source.torch)})
    return found


def tools(job: Job) -> dict[str, str]:
    """The versions of what makes and runs the artifact; raises FaultError `env_missing`."""
    return {**provenance.tools(job.format), **(provenance.tools(TORCH) if job.trains else {})}


def made(job: Job) -> Path:
    """The folder with the artifact's files, unverified, and what is known of them in manifest.json."""
    folder = job.context.cache / "made" / key(job)

    def make(partial: Path) -> None:
        started = time.perf_counter()
        with TemporaryDirectory(dir=partial) as work:
            model, float_bytes = carry_out(job.stages, job.format, Work(job.source, job.original, job.data, job.context, Path(work)))
            for name in FILES[job.format]:
                shutil.copyfile(model.path.with_name(name), partial / name)
            for extra in model.extras:
                shutil.copyfile(extra, partial / extra.name)
        told = {
            "notes": model.notes,
            "told": model.told,
            "extras": [extra.name for extra in model.extras],
            "float_size_bytes": float_bytes,
            **asdict(model.cost),
            "inputs": list(model.samples),
            "artifact": dump(artifact(partial, job.format)),
            "seconds": round(time.perf_counter() - started, 3),
        }
        (partial / "manifest.json").write_text(json.dumps(told, indent=1, allow_nan=False))

    cache.once(folder, is_whole, make)
    return folder


def artifact(folder: Path, format: str) -> Artifact:  # noqa: A002
    """What lies in a folder."""
    files = [ModelFile(name, _sha256(folder / name), (folder / name).stat().st_size) for name in FILES[format]]
    return Artifact(files[0].sha256 if len(files) == 1 else fingerprint(files), format, files)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest(folder: Path) -> dict[str, Any]:
    """What is told of it."""
    return decode((folder / "manifest.json").read_bytes())


def is_whole(folder: Path) -> bool:
    """Whether the files are those that the manifest was written for."""
    try:
        kept = load(Artifact, manifest(folder)["artifact"])
        return kept == artifact(folder, kept.format)
    except (OSError, SchemaError, KeyError):
        return False
