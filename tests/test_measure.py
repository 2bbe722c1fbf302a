"""Latencies of single artifacts on devices, by real launches."""

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from agents import tiny_data, tiny_model
from sshd import free_port

from agent.schema import Fault, FaultError, Feed
from compress import making, recipes
from controller import measure
from controller.dataset import Dataset
from controller.inventory import AgentSettings, Device, Ssh
from controller.measure import NOTHING, Gauge, Latency, Model
from controller.profiles import Profile

FAST = Profile("quick", 3, 0.01, 10, 0.001, 2, 0.01, 60.0)


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches of 10 ms, and nothing left outside of the test's folder."""
    monkeypatch.setattr(measure, "PROFILE", FAST)
    monkeypatch.setattr(measure, "RECONNECT_S", 0.1)
    monkeypatch.setenv("FLEETMARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def laptop(tmp_path: Path) -> Device:
    """This machine, with an agent of its own."""
    return Device(name="laptop", kind="local", agent=AgentSettings(cache_dir=str(tmp_path / "agent")), backends=("onnxruntime", "tflite"))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A model that runs, in a folder as the compressor leaves it."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(tiny_model())
    return tmp_path / "model" / "model.onnx"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The tiny model's name and data."""
    (tmp_path / "data.npz").write_bytes(tiny_data())
    feeds = {"onnx": (Feed("image", "image", 1.0, [0.0], [1.0], []),)}
    return Model("tiny", Dataset(tmp_path / "data.npz", hashlib.sha256(tiny_data()).hexdigest(), feeds, NOTHING, random=False))


def test_each_backend_with_an_artifact_has_one_median_a_launch(laptop: Device, artifact: Path, model: Model) -> None:
    """There are as many as the profile has launches, the interval is around them, and nothing stays on the device but its cache."""
    made = making.artifact(artifact.parent, "onnx"), artifact.parent
    found = measure.latencies(laptop, model, recipes.get("fp32"), {"onnx": made}, print)
    latency = found["onnxruntime"]
    assert list(found) == ["onnxruntime"]  # there is no .tflite
    assert isinstance(latency, Latency)
    assert len(latency.launches_s) == FAST.launches
    assert min(latency.launches_s) <= latency.median_s <= max(latency.launches_s)
    assert latency.interval is not None
    assert latency.interval.low <= np.exp(np.mean(np.log(latency.launches_s))) <= latency.interval.high
    assert not list(Path(laptop.agent.cache_dir, "launches").iterdir())


def test_a_latency_target_is_asked_for_in_milliseconds(laptop: Device, artifact: Path, model: Model) -> None:
    """The gauge of another process measures too; it gives milliseconds: a tiny model takes less than 100 of them, not of seconds."""
    gauge: Gauge = pickle.loads(pickle.dumps(Gauge({"laptop": laptop}, model)))  # noqa: S301 - our own
    assert 1e-4 < gauge(artifact, "onnx", "laptop") < 100


def test_a_model_that_does_not_run_there_is_a_fault_of_its_backend(laptop: Device, artifact: Path, model: Model) -> None:
    """Of a broken file the fault is told with the device's name."""
    artifact.write_bytes(b"not a model")
    made = making.artifact(artifact.parent, "onnx"), artifact.parent
    found = measure.latencies(laptop, model, recipes.get("fp32"), {"onnx": made}, print)
    assert isinstance(found["onnxruntime"], Fault)
    with pytest.raises(FaultError, match="laptop: "):
        Gauge({"laptop": laptop}, model)(artifact, "onnx", "laptop")


def test_a_device_that_is_not_there_says_so(laptop: Device, artifact: Path, model: Model) -> None:
    """One that nobody chose, one that takes other formats, and one that does not answer."""
    far = Ssh(host="127.0.0.1", port=free_port())
    gauge = Gauge({"laptop": laptop, "far": Device(name="far", kind="generic", ssh=far)}, model)
    with pytest.raises(FaultError, match="not among the chosen devices: laptop, far"):
        gauge(artifact, "onnx", "pi")
    shutil.copy(artifact, artifact.with_name("model.xml"))
    shutil.copy(artifact, artifact.with_name("model.bin"))
    with pytest.raises(FaultError, match="takes onnx, tflite, not openvino"):
        gauge(artifact.with_name("model.xml"), "openvino", "laptop")
    with pytest.raises(FaultError) as lost:
        gauge(artifact, "onnx", "far")
    assert lost.value.fault.code == "unreachable"
