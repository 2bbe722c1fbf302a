"""Runs an artifact on the controller in its own runtime, through the agent's worker: the same code that measures on devices.

A process of its own, so that a model that brings its runtime down is a fault and not the end of the run.
"""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import backends
from agent import memory
from agent.cache import Cache, write_json
from agent.schema import Artifact, Event, Fault, FaultError, Feed, LaunchSpec, ModelFile, SampleFile, Workload, decode, dump, load
from agent.worker import death
from controller.deploy import build_zipapp

LAUNCH = "verify"
LEAST_S, MOST_S, SAMPLE_S = 120.0, 600.0, 0.5
NEVER_S = 1e9
"""The worker's own deadline: at that it would hand over the outputs of the samples that it has, and no others."""
LOG_BYTES = 300
STAND_INS = {"tensorrt": "onnxruntime"}


def run_model(path: Path, format: str, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:  # noqa: A002 - the field's word
    """Give the model's outputs for every sample of `feeds` (by input name, samples on axis 0), stacked, by output name.

    Raises FaultError with the worker's fault, `crash` or `oom` if it died, `timeout` if it had to be killed after `limit_s`.
    """
    return run_in(Place(backend_of(format)), path, format, feeds)


@dataclass(frozen=True, slots=True)
class Place:
    """A backend with its options; `site` is a folder of unpacked wheels whose runtime it uses, None for what is installed here.

    Whatever runs longer than `timeout_s`, or `limit_s` where that is None, is killed.
    """

    backend: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    site: Path | None = None
    timeout_s: float | None = None


def limit_s(samples: int) -> float:
    """Give the seconds that a run of so many samples may take: half a second each, but two minutes at least and ten at most.

    OpenVINO takes four times as long to load each two levels of nested subgraphs, and a Loop may have no end.
    """
    return min(MOST_S, max(LEAST_S, SAMPLE_S * samples))


def run_in(place: Place, path: Path, format: str, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:  # noqa: A002
    """As `run_model`, in a runtime that is asked for."""
    timeout_s = limit_s(max(map(len, feeds.values()), default=0)) if place.timeout_s is None else place.timeout_s
    with tempfile.TemporaryDirectory(prefix="fleetmark-") as folder:
        cache = Cache(folder)
        cache.create()
        spec = _spec(cache, place, path, format, feeds)
        os.makedirs(cache.launch(LAUNCH, "files"))
        write_json(cache.launch(LAUNCH, "spec.json"), dump(spec))
        agent = Path(folder, "agent.pyz")
        agent.write_bytes(build_zipapp().content)
        return _outputs(cache, path, _run(agent, cache, place.site, timeout_s))


def backend_of(format: str) -> str:  # noqa: A002
    """Give the backend that prefers this artifact format, or stands in for one that needs hardware of its own."""
    return STAND_INS.get(format) or next(name for name in backends.NAMES if backends.get(name).formats[0] == format)


def _spec(cache: Cache, place: Place, path: Path, format: str, feeds: Mapping[str, NDArray[Any]]) -> LaunchSpec:  # noqa: A002
    files = [_link(cache, path)]
    if format == "openvino":
        files.append(_link(cache, path.with_suffix(".bin")))
    data = Path(cache.root, "data.npz")
    np.savez(data, *feeds.values())
    return LaunchSpec(
        launch=LAUNCH,
        owner="controller",
        artifact=Artifact(files[0].sha256, format, files),
        backend=place.backend,
        options=dict(place.options),
        workload=Workload("outputs", {}),
        python="",
        environment="",
        environ={},
        data=_link(cache, data).sha256,
        feeds=[Feed(name, f"arr_{at}", 1.0, [0.0], [1.0], []) for at, name in enumerate(feeds)],
        evaluate=True,
        min_duration_s=0.0,
        min_queries=0,
        warmup_min_s=0.0,
        warmup_min_queries=0,
        warmup_max_s=0.0,
        max_samples=0,
        deadline_s=NEVER_S,
    )


def _link(cache: Cache, path: Path) -> ModelFile:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if not os.path.exists(cache.blob(sha256)):
        os.symlink(path.resolve(), cache.blob(sha256))
    return ModelFile(path.name, sha256, path.stat().st_size)


def _run(agent: Path, cache: Cache, site: Path | None, timeout_s: float) -> list[Event]:
    environ = os.environ if site is None else {**os.environ, "PYTHONPATH": str(site)}
    reading, writing = os.pipe()
    command = [sys.executable, str(agent), "worker", "--cache", cache.root, "--launch", LAUNCH]
    command += ["--events", str(writing), "--spawned", repr(time.monotonic())]
    log, began, oom_kills = Path(cache.root, "log"), time.monotonic(), memory.oom_kills()
    with (
        log.open("wb") as said,
        subprocess.Popen(command, env=environ, pass_fds=(writing,), stdin=subprocess.DEVNULL, stdout=said, stderr=said) as worker,
    ):
        os.close(writing)
        alarm = threading.Timer(timeout_s, worker.kill)
        alarm.start()
        try:
            with os.fdopen(reading, "rb") as events:
                lines = list(events)
            status = worker.wait()
        finally:
            alarm.cancel()
            worker.kill()
    if status == -signal.SIGKILL and time.monotonic() - began >= timeout_s:
        raise FaultError("timeout", f"the runtime did not end within {timeout_s:g} s on the controller", "try another recipe", "verify")
    if status != 0:
        raise _death(status, log, oom_kills)
    return [Event(v=1, seq=seq, t=0.0, **decode(line)) for seq, line in enumerate(lines)]


def _death(status: int, log: Path, oom_kills_before: int | None) -> FaultError:
    if status == -signal.SIGKILL:
        fault = death(status, "verify", oom_kills_before)
        return FaultError(fault.code, f"{fault.message}, on the controller", fault.next, fault.phase)
    last = log.read_bytes()[-LOG_BYTES:].decode("utf-8", "replace").strip().rpartition("\n")[2]
    return FaultError("crash", f"the runtime died with status {status} on the controller: {last}", "try another recipe", "verify")


def _outputs(cache: Cache, path: Path, events: list[Event]) -> dict[str, NDArray[np.float32]]:
    faults: list[Fault] = [load(Fault, event.data) for event in events if event.type == "fault"]
    if faults:
        fault = faults[0]
        message = fault.message if fault.message.startswith(path.name) else f"{path.name}: {fault.message}"
        raise FaultError(fault.code, message, fault.next, fault.phase)
    files: list[SampleFile] = [load(SampleFile, event.data) for event in events if event.type == "sample"]
    return {file.unit: _array(cache, file) for file in files}


def _array(cache: Cache, file: SampleFile) -> NDArray[np.float32]:
    content = Path(cache.launch(LAUNCH, "files", file.sha256)).read_bytes()
    return np.frombuffer(content, dtype=np.float32).reshape(file.shape)
