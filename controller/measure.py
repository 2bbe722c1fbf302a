"""How long artifacts take on a device, in a few short launches: by the same session, agent and worker as a run."""

import fcntl
import hashlib
import os
import platform
import secrets
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import backends
from agent.schema import Artifact, Cell, Fault, FaultError, Workload, cell_id
from compress import making
from compress.recipes import Recipe
from compress.records import Data
from controller import profiles, targets
from controller.dataset import Dataset
from controller.inventory import Device
from controller.laptop import cache_folder
from controller.retries import is_passing
from controller.session import Job, Session
from controller.timeouts import Timeouts
from controller.visit import lane_address
from reports.statistics import Interval, log_interval, percentile

PROFILE = profiles.get("quick")
RECONNECT_S = 60.0
NOTHING = Data({}, {}, None, {})
TARGET = Recipe("target", ())


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an inference takes with a backend, one after the other: the median of each launch, in seconds."""

    backend: str
    format: str
    launches_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The median launch's."""
        return statistics.median(self.launches_s)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the geometric mean over launches, in seconds; None below three."""
        return log_interval(self.launches_s)


@dataclass(frozen=True, slots=True)
class Model:
    """What an artifact is measured with: its model's name, and the files and feeds of its data."""

    name: str
    dataset: Dataset


def formats(device: Device) -> tuple[str, ...]:
    """The formats that a device takes, by the backends that it has."""
    return tuple(dict.fromkeys(targets.format_of(device, backend, {}) for backend in _offered(device)))


def latencies(
    device: Device, model: Model, recipe: Recipe, artifacts: Mapping[str, tuple[Artifact, Path]], say: Callable[[str], None]
) -> dict[str, Latency | Fault]:
    """What each backend of the device takes with its artifact, or why it cannot; `artifacts` by format, each with its folder.

    Launches are interleaved. Raises FaultError where the device cannot be reached, or is somebody else's.
    """
    jobs = [_job(device, backend, model, recipe, artifacts) for backend in _offered(device)]
    owner = f"{os.environ.get('USER') or os.getuid()}@{platform.node()} latency"
    session = Session(device, owner, PROFILE, cache_folder(), timeouts=Timeouts(reconnect_s=RECONNECT_S), say=say)
    with _turn(device):
        try:
            return _measured(session, [job for job in jobs if job is not None])
        except FaultError as error:
            if is_passing(error):
                session.abandon()
            raise
        finally:
            session.close()


def light(dataset: Dataset) -> Dataset:
    """The dataset without its arrays, which devices get as a file."""
    return replace(dataset, data=NOTHING)


@dataclass(frozen=True, slots=True)
class Gauge:
    """`Context.latency_ms` for one model on these devices; picklable."""

    devices: Mapping[str, Device]
    model: Model

    def __call__(self, path: Path, format: str, device: str) -> float:  # noqa: A002  (the domain's word)
        """Milliseconds of the fastest backend that takes the format; raises FaultError."""
        if device not in self.devices:
            known = ", ".join(self.devices) or "none"
            raise FaultError("unreachable", f"{device} is not among the chosen devices: {known}", "choose it with -l", "compress")
        artifact = making.artifact(path.parent, format)
        found = latencies(self.devices[device], self.model, TARGET, {format: (artifact, path.parent)}, _say_nothing)
        measured = [one for one in found.values() if isinstance(one, Latency)]
        if measured:
            return 1000 * min(one.median_s for one in measured)
        for fault in found.values():
            if isinstance(fault, Fault):
                raise FaultError(fault.code, f"{device}: {fault.message}", fault.next, "compress")
        takes = ", ".join(formats(self.devices[device]))
        raise FaultError("unsupported_op", f"{device} takes {takes}, not {format}", f"-f {takes.partition(',')[0]}", "compress")


def _offered(device: Device) -> list[str]:
    """The device's backends, those of plug-ins left out."""
    return [backend for backend in targets.offered(device) if backend in backends.NAMES]


def _say_nothing(*_: object) -> None:
    pass


def _job(device: Device, backend: str, model: Model, recipe: Recipe, artifacts: Mapping[str, tuple[Artifact, Path]]) -> Job | None:
    format_ = targets.format_of(device, backend, {})
    if format_ not in artifacts or targets.refusal(device, backend, {}, recipe):
        return None
    artifact, folder = artifacts[format_]
    cell = Cell(device.name, model.name, recipe.name, format_, artifact.sha256, backend, {}, Workload("single_stream", {}))
    return Job(cell_id(cell), cell, artifact, folder, model.dataset)


def _measured(session: Session, jobs: Sequence[Job]) -> dict[str, Latency | Fault]:
    if not jobs:
        return {}
    probe = session.open()
    faults = {job.id: error.fault for job in jobs for error in [session.ship([job], probe).get(job.id)] if error is not None}
    medians: dict[str, list[float]] = {job.id: [] for job in jobs}
    for _ in range(PROFILE.launches):
        for job in jobs:
            if job.id not in faults:
                outcome = _launch(session, job)
                if isinstance(outcome, Fault):
                    faults[job.id] = outcome
                else:
                    medians[job.id].append(outcome)
    return {job.cell.backend: faults.get(job.id) or Latency(job.cell.backend, job.cell.format, tuple(medians[job.id])) for job in jobs}


def _launch(session: Session, job: Job) -> float | Fault:
    """The launch's median latency in seconds."""
    launch = f"latency-{job.id}-{secrets.token_hex(6)}"
    try:
        collected = session.measure(job, launch, False, _say_nothing)
    except FaultError as error:
        if is_passing(error):
            raise
        return error.fault
    except KeyboardInterrupt:
        session.cancel(launch)
        raise
    session.forget(launch)
    if collected.fault is not None:
        return collected.fault
    return percentile(collected.samples["latency_ns"].array.astype(np.float64), 0.5) / 1e9


@contextmanager
def _turn(device: Device) -> Generator[None]:
    """Wait until no other process of this machine measures on the device's host."""
    folder = cache_folder() / "turns"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / hashlib.sha256(lane_address(device).encode()).hexdigest()).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
