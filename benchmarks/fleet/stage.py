"""What goes to every simulated device: the agent, a stub model and its data, and the launch."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.cache import sha256_of
from agent.schema import Artifact, Feed, LaunchSpec, ModelFile, Workload, encode
from benchmarks.fleet.bed import Bed
from benchmarks.fleet.order import Order
from controller.deploy import build_zipapp

OWNER = "benchmarks"
STUB = Path(__file__).with_name("stub")
FEATURES, SAMPLES = 16, 4
SERVICE_S = 0.02
QUERIES = 100
START = """
import json, sys
root = sys.argv[1]
sys.argv[0] = root + "/agent.pyz"
sys.path.insert(0, sys.argv[0])
from agent import lease, supervisor
from agent.cache import Cache
from agent.schema import LaunchSpec, load
cache, spec = Cache(root), load(LaunchSpec, json.load(sys.stdin))
cache.create()
lease.acquire(cache, spec.owner, 300.0)
supervisor.start(cache, spec)
"""


@dataclass(frozen=True, slots=True)
class Model:
    """The stub model's file and its data in a folder, with their sha256."""

    folder: Path
    model: str
    data: str

    @property
    def artifact(self) -> Artifact:
        """The model as the agent knows it."""
        return Artifact(self.model, "onnx", [ModelFile("model.onnx", self.model, (self.folder / "model.onnx").stat().st_size)])


def write(folder: Path) -> Model:
    """Write a stub model whose inferences take SERVICE_S, and SAMPLES of data."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(encode({"stub": True, "service_s": SERVICE_S, "features": FEATURES}))
    (folder / "data.npz").write_bytes(_data())
    return written(folder)


def written(folder: Path) -> Model:
    """Give the model that lies in the folder."""
    return Model(folder, sha256_of(str(folder / "model.onnx")), sha256_of(str(folder / "data.npz")))


def _data() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros((SAMPLES, FEATURES), np.float32))
    return buffer.getvalue()


def order(bed: Bed, made: Model, count: int, workers: int, wave: int) -> Order:
    """Give the order to start a launch on the first `count` devices."""
    stage = bed.folder / "stage"
    (stage / "blobs").mkdir(parents=True, exist_ok=True)
    (stage / "agent.pyz").write_bytes(build_zipapp().content)
    for sha256, name in ((made.model, "model.onnx"), (made.data, "data.npz")):
        (stage / "blobs" / sha256).write_bytes((made.folder / name).read_bytes())
    return Order(
        folder=str(bed.folder),
        sites=bed.sites[:count],
        port=bed.port,
        user=bed.user,
        key=str(bed.key),
        known_hosts=str(bed.known_hosts),
        host_key=bed.host_key,
        python=sys.executable,
        stage=str(stage),
        spec=encode(launch(made)).decode("ascii"),
        start=START,
        workers=min(workers, count),
        wave=wave,
    )


def launch(made: Model) -> LaunchSpec:
    """Give a launch whose worker is a stub that sleeps: starting it is all that a device does."""
    return LaunchSpec(
        launch="benchmark",
        owner=OWNER,
        artifact=made.artifact,
        backend="onnxruntime",
        options={},
        workload=Workload("single_stream", {}),
        python=str(STUB / "worker"),
        environment="",
        environ={"PYTHONPATH": str(STUB)},
        data=made.data,
        feeds=feeds(),
        evaluate=False,
        min_duration_s=0.0,
        min_queries=QUERIES,
        warmup_min_s=0.0,
        warmup_min_queries=2,
        warmup_max_s=1.0,
        max_samples=QUERIES,
        deadline_s=600.0,
    )


def feeds() -> list[Feed]:
    """Give what the stub model is fed."""
    return [Feed("x", "x", 1.0, [0.0], [1.0], [])]
