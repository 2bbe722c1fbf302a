"""What the examples' make.py share: data.npz as given, the network trained by fleetmark's own loop, weights.pt and model.onnx."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress import tasks
from compress.records import Samples
from compress.training.export import to_onnx
from compress.training.loop import fit
from compress.training.session import Session, outputs
from controller import dataset, suite

LEVELS = 16


def pictures(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values from 0 to 1 as uint8 in `LEVELS` levels, which makes small files."""
    return (np.round(np.clip(values, 0, 1) * (LEVELS - 1)) * (255 // (LEVELS - 1))).astype(np.uint8)


def parts(draw: Any, **sizes: int) -> dict[str, NDArray[Any]]:
    """The arrays of data.npz: `draw(part, size)` gives those of a part by name, labels among them."""
    return {f"{part}_{name}": array for part, size in sizes.items() for name, array in draw(part, size).items()}


def make(
    network: nn.Module,
    code: ModuleType,
    arrays: Mapping[str, NDArray[Any]] | None,
    epochs: int,
    learning_rate: float,
    learning: tuple[Samples, Samples] | None = None,
) -> None:
    """Writes data.npz, weights.pt and model.onnx beside `code`, the network's file; prints the scores.

    Without `arrays` the data are the file that the suite names. `learning`: more training and held-out samples than those have.
    """
    started, folder = time.perf_counter(), Path(code.__file__ or "").parent
    torch.set_num_threads(1)
    if arrays is not None:
        np.savez_compressed(folder / "data.npz", **arrays)  # type: ignore[arg-type]
    torch.save(network.state_dict(), folder / "weights.pt")
    name, model = next(iter(suite.load(folder / "suite.yaml").models.items()))
    with tempfile.TemporaryDirectory() as work:
        data = dataset.prepare(name, model, Path(work), print).data
    train, held_out = learning or (data.train, data.held_out)
    here = Session(network, data.task, train, held_out, Samples(data.calib_feeds, None))
    here.code = code
    scores = fit(network, here, epochs, learning_rate)
    torch.save(network.state_dict(), folder / "weights.pt")
    to_onnx(network, here.example(), folder / "model.onnx")
    here._held_out = Samples(data.eval_feeds, data.labels)
    split = here.held_out
    found = tasks.score(data.task, outputs(network, split).numpy(), np.asarray(data.labels), split.inputs[0].numpy())
    print(f"{sum(one.numel() for one in network.parameters()):,} parameters, {time.perf_counter() - started:.0f} s")
    print("held out by epoch:", " ".join(f"{score:.3f}" for score in scores))
    print(f"evaluation: {tasks.find(data.task).metric} {found.value:.4f}", dict(found.figures))
