"""Makes the example from seeds: python -m examples.images.make, with the `train` extra and the Debian package dataset-fashion-mnist."""

import gzip
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from compress.records import Samples
from examples import making
from examples.images import net

DATASET = Path("/usr/share/datasets/fashion-mnist")
MEAN, STD = 0.2860, 0.3530
TRAINED, HELD = 24_000, 2_000


def read(stem: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The images of `train` or `t10k` as the network is fed, [n, 1, 28, 28], and their labels."""
    images, labels = (gzip.decompress((DATASET / f"{stem}-{kind}-ubyte.gz").read_bytes()) for kind in ("images-idx3", "labels-idx1"))
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return ((pixels / np.float32(255) - MEAN) / STD).astype(np.float32), np.frombuffer(labels, np.uint8, offset=8)


def main() -> None:
    """Trains the network on 24,000 of the 60,000 training images and writes its files."""
    images, labels = read("train")
    rows = np.random.default_rng(8).permutation(len(labels))[: TRAINED + HELD]
    train, held = (Samples({"image": images[part]}, labels[part]) for part in (rows[:TRAINED], rows[TRAINED:]))
    torch.manual_seed(8)
    making.make(net.MobileNetV2(), net, None, epochs=4, learning_rate=6e-3, learning=(train, held))


if __name__ == "__main__":
    main()
