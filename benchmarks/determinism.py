"""Whether every shipped recipe gives the same bytes twice: `python -m benchmarks.determinism`.

Each is made twice from LeNet-5 as a torch module, in processes and caches that know nothing of each other, with few training samples.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import compression, networks, results
from compress import recipes, training
from compress.build import Context, Source, Variant
from compress.records import Data, Samples, TorchSource
from controller.bench import Bench
from controller.dataset import Dataset
from controller.engine import Local
from controller.reference import run_model

EXAMPLE = Path(__file__).parent.parent / "examples" / "fashion"
FORMATS = ("onnx", "tflite", "openvino")
PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "ai-edge-litert", "openvino", "nncf")
TRAIN, HELD_OUT, CALIBRATION, EVALUATION = 512, 128, 64, 128
TO_NHWC = (0, 2, 3, 1)


def data() -> Data:
    """A little of the example's data."""
    with np.load(EXAMPLE / "data.npz", allow_pickle=False) as arrays:
        images: dict[str, NDArray[np.float32]] = {
            part: ((arrays[f"{part}_image"] / 255 - 0.2860) / 0.3530).astype(np.float32) for part in ("eval", "calib", "train")
        }
        labels = {part: arrays[f"{part}_labels"].astype(np.int64) for part in ("eval", "train")}
    both = TRAIN + HELD_OUT
    return Data(
        {"image": images["eval"][:EVALUATION]},
        {"image": images["calib"][:CALIBRATION]},
        labels["eval"][:EVALUATION],
        {"image": TO_NHWC},
        Samples({"image": images["train"][:TRAIN]}, labels["train"][:TRAIN]),
        Samples({"image": images["train"][TRAIN:both]}, labels["train"][TRAIN:both]),
        "classification",
    )


def made(lenet: TorchSource, samples: Data, cache: Path) -> dict[tuple[str, str], str]:
    """The artifact's sha256, or the fault's code, by recipe and format."""
    context = Context(cache, run_model)
    source = Source("lenet", training.exported(lenet, samples, cache), EXAMPLE / "model.tflite", lenet)
    laid = Bench({"lenet": Dataset(cache, "", {}, samples, random=False)}, {"lenet": source}, {}, {}, context)
    asked = [replace(recipes.get(name), floor_pp=None) for name in recipes.names()]
    orders = [laid.order("lenet", recipe, format_) for recipe in asked for format_ in FORMATS]
    found = laid.build(orders, Local())
    return {(order.recipe.name, order.format): one.artifact.sha256 if isinstance(one, Variant) else one.code for order, one in found}


def main() -> None:
    """Makes everything twice and writes the table."""
    machine = results.describe(PACKAGES)
    samples = data()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "lenet.pt")
        torch.save(compression.state(EXAMPLE / "model.onnx"), weights)
        lenet = TorchSource(Path(networks.__file__), "LeNet5", weights)
        first, second = (made(lenet, samples, Path(folder, name)) for name in ("first", "second"))
    lines = ["| recipe | " + " | ".join(FORMATS) + " |", "|---" * (1 + len(FORMATS)) + "|"]
    for name in recipes.names():
        lines.append(f"| {name} | " + " | ".join(told(first[name, one], second[name, one]) for one in FORMATS) + " |")
    results.write("determinism", machine, "\n".join(lines))


def told(first: str, second: str) -> str:
    """What two sha256, or the reasons for having none, say."""
    if len(first) < len("0" * 64) and first == second:
        return f"none ({first})"
    return "same bytes" if first == second else "different"


if __name__ == "__main__":
    main()
