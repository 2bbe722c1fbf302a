"""Training steps on a torch module: in a process of their own, for the module's code is its owner's and torch is not for everyone.

Only `python -m compress.training` imports torch; this module starts it.
"""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from agent.schema import Fault, FaultError, SchemaError, decode, fingerprint, load
from compress import cache, provenance
from compress.recipes import Step
from compress.records import Data, Samples, TorchSource
from compress.tasks import digest as task_digest

OPSET = 13
MODEL = "model.onnx"
LOG_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Trained:
    """The float model that training gave, as ONNX with batch 1; notes, and what each step tells, by its name."""

    path: Path
    notes: tuple[str, ...]
    told: Mapping[str, object]


def digest(source: TorchSource) -> str:
    """The sha256 (hex) of the module's file, of what it imports from its folder, of its weights and of the factory's name."""
    content = hashlib.sha256(source.factory.encode())
    for path in (source.file, source.weights):
        content.update(b"\0" + hashlib.sha256(path.read_bytes()).digest() if path else b"\0")
    for path in beside(source.file):
        content.update(str(path.relative_to(source.file.parent)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


def beside(file: Path) -> list[Path]:
    """The modules of its folder that a module's file imports, and what they import from there; of a package every module.

    Found without running any of it: what cannot be parsed imports nothing.
    """
    found: set[Path] = set()
    ahead = [file]
    while ahead:
        for name in _imported(ahead.pop()):
            there = [file.with_name(f"{name}.py"), *(file.parent / name).rglob("*.py")]
            new = [path for path in there if path.is_file() and path != file and path not in found]
            found.update(new)
            ahead += new
    return sorted(found)


def _imported(file: Path) -> Iterator[str]:
    """The top-level names of all import statements."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def exported(source: TorchSource, data: Data, folder: Path) -> Path:
    """The module as it is, as ONNX with batch 1, exported once for its content below `folder`; raises FaultError as `run`."""
    fed = {name: [array.dtype.str, *array.shape[1:]] for name, array in (data.calib_feeds or data.eval_feeds).items()}
    record = [digest(source), list(fed.items()), provenance.tools("torch"), provenance.code_digest()]
    kept = folder / "exported" / fingerprint(record)

    def make(partial: Path) -> None:
        with TemporaryDirectory(dir=partial) as work:
            shutil.copyfile(run(source, [], data, Path(work)).path, partial / MODEL)

    cache.once(kept, lambda there: (there / MODEL).is_file(), make)
    os.utime(kept)  # tells gc when it was last used
    return kept / MODEL


def trained(source: TorchSource, steps: Sequence[Step], data: Data, folder: Path) -> Trained:
    """What the steps make of the module, made once below `folder` whatever format comes of it; raises FaultError as `run`."""
    parts = [data.train, data.held_out, Samples(data.calib_feeds or data.eval_feeds, None)]
    record = [
        digest(source),
        [asdict(step) for step in steps],
        task_digest(data.task),
        *map(samples_digest, parts),
        provenance.code_digest(),
    ]
    kept = folder / "trained" / fingerprint([*record, provenance.tools("torch")])

    def make(partial: Path) -> None:
        with TemporaryDirectory(dir=partial) as work:
            done = run(source, steps, data, Path(work))
            shutil.copyfile(done.path, partial / MODEL)
            (partial / "told.json").write_text(json.dumps({"notes": done.notes, "told": done.told}, allow_nan=False))

    cache.once(kept, lambda there: (there / "told.json").is_file(), make)
    os.utime(kept)
    told = decode((kept / "told.json").read_bytes())
    return Trained(kept / MODEL, tuple(told["notes"]), told["told"])


def samples_digest(samples: Samples | None) -> str:
    """The sha256 (hex) of samples and labels, empty for none."""
    labels = {} if samples is None or samples.labels is None else {"labels": samples.labels}
    return "" if samples is None else provenance.arrays_digest({**samples.feeds, **labels})


def run(source: TorchSource, steps: Sequence[Step], data: Data, folder: Path) -> Trained:
    """What the steps make of the module, in the empty `folder`; without steps the module itself is exported.

    Raises FaultError: `env_missing` without torch, `bad_model` for a module that cannot be made or exported, and what a step raises.
    """
    job = {
        "file": str(source.file),
        "factory": source.factory,
        "weights": str(source.weights) if source.weights else "",
        "steps": [asdict(step) for step in steps],
        "task": data.task,
    }
    (folder / "job.json").write_text(json.dumps(job))
    _save(folder, "calibration", Samples(data.calib_feeds or data.eval_feeds, None))
    for name, samples in (("train", data.train), ("held_out", data.held_out)):
        if samples is not None and steps:
            _save(folder, name, samples)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-P", "-m", "compress.training", str(folder)]
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
    return _result(folder, status, source)


def _save(folder: Path, name: str, samples: Samples) -> None:
    """The samples as NAME.npz: `labels` where there are any, and the arrays by `feed_` and their name."""
    labels = {} if samples.labels is None else {"labels": samples.labels}
    np.savez(folder / f"{name}.npz", **labels, **{f"feed_{key}": array for key, array in samples.feeds.items()})  # type: ignore[arg-type]


def _result(folder: Path, status: int, source: TorchSource) -> Trained:
    result = folder / "result.json"
    if status != 0 or not result.is_file():
        lines = _tail(folder / "log").strip().splitlines() or ["it said nothing"]
        message = f"{source.file.name}: the training process ended with status {status}: {lines[-1]}"
        raise FaultError("crash", message[:400], "see whether it has enough memory", "compress")
    try:
        told = decode(result.read_bytes())
        if "fault" in told:
            fault: Fault = load(Fault, told["fault"])
            raise FaultError(fault.code, fault.message, fault.next, fault.phase)
        return Trained(folder / MODEL, tuple(load(list[str], told["notes"])), load(dict[str, object], told["told"]))
    except (SchemaError, KeyError) as error:
        raise FaultError("crash", f"{source.file.name}: the training process gave no result: {error}", "see the log", "compress") from error


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        return file.read().decode("utf-8", "replace")
