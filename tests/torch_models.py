"""The example's network as a torch module, little of its data, and what a training step works with."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from compress_models import EXAMPLE, MEAN, STD, TO_NHWC
from onnx import numpy_helper
from torch import nn
from torch_sources.lenet import LeNet5

from compress.records import Data, Samples, TorchSource
from compress.training.session import Session

LENET = Path(__file__).parent / "torch_sources" / "lenet.py"


def lenet_source(folder: Path) -> TorchSource:
    """LeNet-5 with the example's weights, which are written to the folder."""
    torch.save(dict(_weights()), folder / "lenet.pt")
    return TorchSource(LENET, "LeNet5", folder / "lenet.pt")


def lenet() -> nn.Module:
    """The same module, a new one each time."""
    model = LeNet5()
    model.load_state_dict(_weights())
    return model.eval()


@cache
def _weights() -> dict[str, torch.Tensor]:
    graph = onnx.load(EXAMPLE / "model.onnx").graph
    return {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer}


@cache
def fashion() -> Data:
    """The example's data: 1,500 samples to train with, 500 held out, 200 to evaluate, 50 to calibrate."""
    with np.load(EXAMPLE / "data.npz", allow_pickle=False) as arrays:
        part = {name: ({"image": ((arrays[f"{name}_image"] / 255 - MEAN) / STD).astype(np.float32)}) for name in ("eval", "calib", "train")}
        labels = {name: arrays[f"{name}_labels"].astype(np.int64) for name in ("eval", "train")}
    train = Samples({"image": part["train"]["image"][:1500]}, labels["train"][:1500])
    held_out = Samples({"image": part["train"]["image"][1500:2000]}, labels["train"][1500:2000])
    feeds = {"image": part["eval"]["image"][:200]}, {"image": part["calib"]["image"][:50]}
    return Data(*feeds, labels["eval"][:200], {"image": TO_NHWC}, train, held_out, "classification")


def session(model: nn.Module, data: Data | None = None) -> Session:
    """What a step works with, for a module that takes the example's images, or with other data; seeded as the training process is."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = data or fashion()
    found = Session(model, data.task, data.train, data.held_out, Samples(data.calib_feeds, None))
    found.step = "step"
    return found
