"""fleetmark: a small run over the whole fleet, as `fleetmark run` measures one: `python -m benchmarks.fleet.whole ORDER`."""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from agent.description import Probe
from agent.schema import Cell, Workload, cell_id
from benchmarks.fleet import ours, stage
from benchmarks.fleet.order import Cost, Order, cost
from compress.records import Data
from controller.dataset import Dataset
from controller.fleet import Fleet
from controller.inventory import Device
from controller.profiles import Profile
from controller.provision import Choice
from controller.session import Job, Session
from controller.store import Store

RUN = "benchmark"
QUERIES = 10
DOCUMENT: dict[str, Any] = {"fleetmark": "0", "profile": "quick", "suite": "stub", "launches": 1, "request": {}, "provenance": {}}


@dataclass(frozen=True, slots=True)
class Run:
    """A run's cost, how many launches were valid, and each device's own time: that of its launches, by its own clock."""

    cost: Cost
    valid: int
    own_s: list[float]


class StubSession(Session):
    """A session with a simulated device, whose stub runtime is there already; notes the device's own times before it forgets them."""

    own_s: ClassVar[defaultdict[str, float]] = defaultdict(float)

    def provide(self, backend: str, options: Any, probe: Probe) -> Choice:
        """The agent's interpreter, with nothing to install."""
        del backend, options, probe
        return Choice("", None)

    def forget(self, *launches: str) -> None:
        """Delete stored launches, as a run does."""
        for launch in launches:
            lines = Path(self.device.agent.cache_dir, "launches", launch, "events.jsonl").read_bytes().splitlines()
            self.own_s[self.device.name] += json.loads(lines[-1])["t"] - json.loads(lines[0])["t"]
        super().forget(*launches)


class Quiet:
    """A listener that counts valid launches, and tells what is news of the others."""

    def __init__(self) -> None:
        self.statuses: list[str] = []

    def say(self, text: str) -> None:
        """Drop a line of news."""

    def phase(self, device: str, phase: str, job: Job | None = None, clock_s: float | None = None) -> None:
        """Drop it."""

    def landed(self, job: Job, status: str) -> None:
        """Note how a launch ended."""
        del job
        self.statuses.append(status)


def run(asked: Order) -> Run:
    """Measure the stub model once on every device."""
    config, listener = ours.ssh_config(asked), Quiet()
    devices = [ours.device(asked, site, config, {"PYTHONPATH": str(stage.STUB)}) for site in asked.sites]
    profile = Profile("quick", 1, asked.window_s, QUERIES, 0.1, 2, 1.0, 120.0, profiled_inferences=0)
    store = Store(Path(asked.folder, f"results-{len(devices)}"))
    store.create_run(RUN, "2026", DOCUMENT)
    jobs = [_job(device, stage.written(Path(asked.folder, "model"))) for device in devices]
    store.add_cells(RUN, [(job.id, job.cell, None) for job in jobs], [])

    def session(device: Device) -> Session:
        return StubSession(device, stage.OWNER, profile, Path(asked.folder), say=listener.say)

    def measure() -> int:
        fleet = Fleet(RUN, store, 1, listener, session, {})
        fleet.run(devices, jobs)
        return sum(one.shipped.agent + one.shipped.environments + one.shipped.artifacts for one in fleet.sessions)

    spent = cost(measure)
    return Run(spent, listener.statuses.count("valid"), list(StubSession.own_s.values()))


def _job(device: Device, made: stage.Model) -> Job:
    cell = Cell(device.name, "stub", "fp32", "onnx", made.model, "onnxruntime", {}, Workload("single_stream", {}))
    samples = {"x": np.zeros((stage.SAMPLES, stage.FEATURES), np.float32)}
    dataset = Dataset(made.folder / "data.npz", made.data, {"onnx": tuple(stage.feeds())}, Data(samples, {}, None, {}), random=True)
    return Job(cell_id(cell), cell, made.artifact, made.folder, dataset)


if __name__ == "__main__":
    import sys

    print(json.dumps(asdict(run(Order.read(Path(sys.argv[1]))))))
