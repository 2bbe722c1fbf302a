"""A launch of the agent on TensorRT: the worker finds the fake bindings in an environment and the fake libcudart by the loader."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents import Agent, fault, tiny_model

import backends
from agent.schema import Artifact
from agent.worker import Worker

FAKE = Path(__file__).parent / "fake_tensorrt"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The variables under which a worker has TensorRT 8.2 and a Jetson Nano's GPU."""
    library = tmp_path / "cuda" / "libcudart.so"
    library.parent.mkdir()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, FAKE / "fake_cudart.c"], check=True)
    return {"LD_LIBRARY_PATH": str(library.parent), "FAKE_CUDART": str(library), "FAKE_TENSORRT_VERSION": "8.2.1.8"}


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    made = Agent(tmp_path / "agent")
    site = Path(made.cache.environment("fake"))
    site.mkdir()
    shutil.copy(FAKE / "tensorrt.py", site)
    return made


def measured(agent: Agent, environ: dict[str, str]) -> list[dict[str, Any]]:
    spec = agent.spec(model=tiny_model())
    artifact = Artifact(spec.artifact.sha256, "tensorrt", spec.artifact.files)
    return agent.run(backend="tensorrt", artifact=artifact, environment="fake", environ=environ)


def metrics(events: list[dict[str, Any]]) -> set[str]:
    return {event["data"]["metric"] for event in events if event["type"] == "measure"}


def details(events: list[dict[str, Any]]) -> dict[str, Any]:
    return next(event["data"]["details"] for event in events if event["data"].get("name") == "details")


def test_a_launch_builds_its_engine_once_and_measures_with_both_clocks(agent: Agent, environ: dict[str, str]) -> None:
    """The second launch of a model takes the engine from the agent's folder; GPU times are below latencies; outputs are the model's."""
    first, second = measured(agent, environ), measured(agent, environ)
    assert (details(first)["built"], details(second)["built"]) == (True, False)
    assert "cold_start_load_s" in metrics(first)  # without the building, which has a time of its own
    assert "prepare_s" in metrics(first)
    assert len(list(Path(agent.cache.path("prepared")).glob("*.engine"))) == 1
    files = {event["data"]["metric"]: event["data"] for event in second if event["type"] == "sample"}
    launch = Path(agent.cache.launch(f"launch-{agent.launches}", "files"))
    read = {name: np.fromfile(launch / file["sha256"], file["dtype"]) for name, file in files.items()}
    assert (read["runtime_ns"] < read["latency_ns"]).all()
    images = np.arange(96, dtype=np.float32).reshape(6, 16)
    expected = images @ np.arange(32, dtype=np.float32).reshape(16, 2)
    np.testing.assert_allclose(read["output_0"].reshape(6, 2), expected)


def test_a_launch_without_a_gpu_says_so(agent: Agent, environ: dict[str, str]) -> None:
    """The fault names the library that finds none, in the phase that looked for it."""
    code, phase, message = fault(measured(agent, {**environ, "FAKE_CUDA_ERROR": "100"}))
    assert (code, phase) == ("no_device", "prepare")
    assert "no CUDA-capable device" in message


def test_a_long_build_leaves_time_to_measure(agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a deadline that is four fifths over when the engine is built, the rest is shared out anew; without a build it is not."""
    backend, told = backends.get("onnxruntime"), list[set[str]]()
    for prepare in (lambda artifact, folder, _: shutil.copy(artifact, f"{folder}/built.onnx"), backend.prepare):
        monkeypatch.setattr(backend, "prepare", prepare)
        spec = agent.spec(deadline_s=1000.0)
        Path(agent.cache.launch(spec.launch, "files")).mkdir(parents=True)
        with (tmp_path / "events").open("wb") as events:
            Worker(agent.cache, spec, events.fileno(), time.monotonic() - 800.0).run()
        told.append(metrics([json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]))
    assert [("prepare_s" in one, "window_cut_short" in one) for one in told] == [(True, False), (False, True)]
