"""What a campaign measures: two models that cannot be taken for each other, and sometimes a provider that this machine has not."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faults.machine import Machine

NO_SUCH_PROVIDER = "CUDAExecutionProvider"  # of this machine's build: a cell with it fails truly
MODELS = ("left", "right")
HIDDEN = 20_000  # makes a model of 1.4 MB: an upload takes some time


def write(folder: Path, devices: Sequence[Machine], rng: random.Random, slow: bool) -> int:
    """Write suite, inventory and models; give how many rounds the suite has: one where launches of a device take seconds."""
    models = MODELS[:1] if slow else MODELS
    backends: list[dict[str, Any]] = [{"name": "onnxruntime", "options": {"threads": 1}}]
    if rng.random() < 0.5:
        backends.append({"name": "onnxruntime", "options": {"providers": [NO_SUCH_PROVIDER]}})
    rounds = 1 if slow else 2
    for name in models:
        make_model(folder / f"{name}.onnx", name)
    np.savez(folder / "data.npz", eval_image=images())
    suite = {
        "version": 1,
        "models": {name: {"source": f"{name}.onnx", "data": "data.npz", "task": "none"} for name in models},
        "recipes": ["fp32"],
        "devices": ["all"],
        "backends": backends,
        "workloads": ["single_stream"],
        "profile": "quick",
        "launches": rounds,
    }
    (folder / "suite.yaml").write_text(json.dumps(suite))
    inventory = {"version": 1, "devices": {device.name: device.entry() for device in devices}}
    (folder / "inventory.yaml").write_text(json.dumps(inventory))
    return rounds


def images() -> NDArray[np.float32]:
    """Six inputs."""
    return np.random.default_rng(0).normal(size=(6, 1, 4, 4)).astype(np.float32)


def _weights(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.default_rng(MODELS.index(name))
    first = generator.normal(size=(16, HIDDEN)).astype(np.float32)
    return first, generator.normal(size=(HIDDEN, 2)).astype(np.float32)


def true_output(name: str) -> NDArray[np.float32]:
    """What the model called so gives for the images."""
    first, second = _weights(name)
    return (images().reshape(6, 16) @ first @ second).astype(np.float32)


def make_model(path: Path, name: str) -> None:
    """Write a model of two matrices that are its name's own."""
    from onnx import TensorProto, helper, numpy_helper

    first, second = _weights(name)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 4, 4])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())
