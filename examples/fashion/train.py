"""Makes the example: trains LeNet-5 on Fashion-MNIST and writes model.onnx, model.tflite and data.npz.

Needs the `train` extra and the Debian package dataset-fashion-mnist.
"""

import argparse
import copy
import gzip
import shutil
import subprocess
import tempfile
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uv
from numpy.typing import NDArray
from torch import Tensor, nn

MEAN, STD = 0.2860, 0.3530  # of the 60,000 training images scaled to 0..1
BATCH = 128


@dataclass(frozen=True, slots=True)
class Samples:
    """`images`: uint8 [n, 1, 28, 28]; `labels`: uint8 [n], 0 to 9."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def take(self, rows: NDArray[np.int64]) -> "Samples":
        """The samples of these rows, in their order."""
        return Samples(self.images[rows], self.labels[rows])


@dataclass(frozen=True, slots=True)
class Split:
    """Fashion-MNIST: 55,000 images to train on, 5,000 to choose the epoch by, and the 10,000 test images."""

    train: Samples
    held_out: Samples
    test: Samples


class LeNet5(nn.Sequential):
    """LeNet-5 with 6-16-120-84 channels, ReLU and max pooling: [n, 1, 28, 28] -> logits [n, 10]; 61,706 parameters."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(400, 120),
                relu3=nn.ReLU(),
                fc2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                fc3=nn.Linear(84, 10),
            )
        )


def read_samples(folder: Path, stem: str) -> Samples:
    """The images and labels of `stem` (train or t10k) from the gzipped IDX files of the Debian package."""
    images = gzip.decompress((folder / f"{stem}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
    return Samples(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28), np.frombuffer(labels, np.uint8, offset=8))


def read_split(folder: Path, rng: np.random.Generator) -> Split:
    """Fashion-MNIST with 5,000 of its training images, drawn by `rng`, held out; the others are in random order."""
    train = read_samples(folder, "train")
    held_out, rest = np.split(rng.permutation(len(train.labels)), [5_000])
    return Split(train.take(rest), train.take(held_out), read_samples(folder, "t10k"))


def normalised(images: NDArray[np.uint8]) -> Tensor:
    """The images as the model's input, float32."""
    return (torch.tensor(images).float() / 255 - MEAN) / STD


@torch.inference_mode()
def accuracy(model: nn.Module, samples: Samples) -> float:
    """The share of samples whose highest logit is their label."""
    model.eval()
    return float((model(normalised(samples.images)).argmax(1).numpy() == samples.labels).mean())


def train(split: Split, epochs: int) -> LeNet5:
    """LeNet-5 after the epoch that was best on the held-out images; AdamW, learning rate 0.002 falling to zero as a cosine."""
    model = LeNet5()
    images, labels = normalised(split.train.images), torch.from_numpy(split.train.labels).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = -(-len(labels) // BATCH) * epochs
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, weights = 0.0, copy.deepcopy(model.state_dict())
    for epoch in range(1, epochs + 1):
        model.train()
        for rows in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
        score = accuracy(model, split.held_out)
        print(f"epoch {epoch}: held-out accuracy {score:.4f}")
        if score > best:
            best, weights = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return model


def export_onnx(model: nn.Module, path: Path) -> None:
    """Writes the model as ONNX opset 13 with batch 1: `image` float32 [1, 1, 28, 28] -> `logits` float32 [1, 10]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs opset 18
        torch.onnx.export(
            model.eval(),
            (torch.zeros(1, 1, 28, 28),),
            path,
            input_names=["image"],
            output_names=["logits"],
            opset_version=13,
            dynamo=False,
        )


def export_tflite(onnx_file: Path, path: Path, interpreter: Path) -> None:
    """Writes the ONNX model as float32 TFLite, NHWC; `interpreter` is a Python >= 3.12, for onnx2tf."""
    with tempfile.TemporaryDirectory() as folder:
        tool = [uv.find_uv_bin(), "tool", "run", "--python", str(interpreter), "--from", "onnx2tf==2.6.9", "onnx2tf"]
        options = ["-tb", "flatbuffer_direct", "-n"]
        subprocess.run([*tool, "-i", str(onnx_file), "-o", folder, *options], check=True)
        shutil.copyfile(Path(folder) / f"{onnx_file.stem}_float32.tflite", path)


def write_data(split: Split, rng: np.random.Generator, path: Path) -> Samples:
    """Writes data.npz and gives its evaluation samples: 1,000 test images; beside them 200 and 4,000 training images."""
    evaluation = split.test.take(rng.permutation(len(split.test.labels))[:1_000])
    parts = {"eval": evaluation, "calib": split.train.take(np.arange(200)), "train": split.train.take(np.arange(200, 4_200))}
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        arrays |= {f"{name}_image": part.images, f"{name}_labels": part.labels}
    np.savez_compressed(path, **arrays)
    return evaluation


def main() -> None:
    """Trains, exports and prints the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="a Python 3.12 or newer, for the conversion to TFLite")
    parser.add_argument("--dataset", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    split = read_split(args.dataset, rng)
    model = train(split, args.epochs)
    evaluation = write_data(split, rng, args.out / "data.npz")
    export_onnx(model, args.out / "model.onnx")
    export_tflite(args.out / "model.onnx", args.out / "model.tflite", args.python)
    print(f"parameters {sum(weights.numel() for weights in model.parameters()):,}")
    for name, samples in {"held-out": split.held_out, "test": split.test, "evaluation": evaluation}.items():
        print(f"{name} accuracy {accuracy(model, samples):.4f} of {len(samples.labels):,}")


if __name__ == "__main__":
    main()
