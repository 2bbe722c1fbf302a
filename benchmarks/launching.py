"""Launches of the example model as a run makes them, for benchmarks: the agent's zipapp, its supervisor, a fresh worker."""
# openvino is typed in part only.
# pyright: reportUnknownMemberType=false

import hashlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.schema import Artifact, FaultError, Feed, LaunchSpec, ModelFile, Workload
from controller.collect import Collected, collect
from controller.local import LocalTransport
from controller.profiles import MAX_SAMPLES
from controller.remote import Remote

EXAMPLE = Path(__file__).parent.parent / "examples" / "fashion"
FORMATS = {"openvino": "openvino", "onnxruntime": "onnx", "tflite": "tflite"}
AXES = {"tflite": [0, 2, 3, 1]}
MEAN, STD = 0.2860, 0.3530
WINDOW_S = 0.5
OWNER = "benchmarks"


@dataclass(frozen=True, slots=True)
class Example:
    """The example model for a runtime: its files (the one to open first), and one input as the runtime takes it."""

    runtime: str
    files: tuple[Path, ...]
    sample: Path


def example(runtime: str, folder: Path, batch: int = 1) -> Example:
    """Give the example model for a runtime; OpenVINO's IR, an ONNX of which the batch is open, and the input are written to `folder`."""
    with np.load(EXAMPLE / "data.npz") as data:
        image = (data["eval_image"][:batch].astype(np.float32) / 255 - MEAN) / STD
    sample = folder / f"{runtime}.npy"
    np.save(sample, np.ascontiguousarray(image.transpose(AXES.get(runtime, [0, 1, 2, 3])), dtype=np.float32))
    if batch > 1:
        return Example(runtime, (_with_open_batch(folder),), sample)
    if runtime != "openvino":
        return Example(runtime, (EXAMPLE / f"model.{FORMATS[runtime]}",), sample)
    import openvino

    openvino.save_model(openvino.convert_model(EXAMPLE / "model.onnx"), folder / "model.xml", compress_to_fp16=False)
    return Example(runtime, (folder / "model.xml", folder / "model.bin"), sample)


def _with_open_batch(folder: Path) -> Path:
    """The example as ONNX with its first dimension left open; it computes the same."""
    import onnx

    model = onnx.load(EXAMPLE / "model.onnx")
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, folder / "open.onnx")
    return folder / "open.onnx"


@contextmanager
def local_agent(folder: Path, seconds: float) -> Generator[Remote]:
    """Give the agent on this machine, its cache in `folder`, leased for `seconds`."""
    remote = Remote(LocalTransport("laptop"), "laptop", sys.executable, str(folder))
    try:
        remote.deploy()
        remote.acquire(OWNER, seconds)
        yield remote
    finally:
        remote.close()


def upload(remote: Remote, model: Example) -> LaunchSpec:
    """Put model and data where the agent finds them; give the launch that measures the model, still without a name."""
    paths = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in (*model.files, EXAMPLE / "data.npz")}
    remote.upload(paths)
    *models, data = paths
    files = [ModelFile(path.name, sha256, path.stat().st_size) for sha256, path in paths.items()][:-1]
    return LaunchSpec(
        launch="",
        owner=OWNER,
        artifact=Artifact(models[0], FORMATS[model.runtime], files),
        backend=model.runtime,
        options={},
        workload=Workload("single_stream", {}),
        python="",
        environment="",
        environ={},
        data=data,
        feeds=[Feed("image", "eval_image", 1 / 255, [MEAN], [STD], AXES.get(model.runtime, []))],
        evaluate=False,
        min_duration_s=WINDOW_S,
        min_queries=100,
        warmup_min_s=0.1,
        warmup_min_queries=10,
        warmup_max_s=10.0,
        max_samples=MAX_SAMPLES,
        deadline_s=120.0,
    )


def collected(remote: Remote, spec: LaunchSpec) -> Collected:
    """Follow a launch that was started to its end; raises FaultError where it failed."""
    done = collect(list(remote.follow(spec.launch)), lambda file: remote.fetch(spec.launch, file))
    if done.fault:
        raise FaultError(done.fault.code, f"{spec.backend}: {done.fault.message}", done.fault.next, done.fault.phase)
    return done
