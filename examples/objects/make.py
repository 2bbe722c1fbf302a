"""Makes the example from seeds: python -m examples.objects.make, with the `train` extra."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from examples import making
from examples.objects import net

SIDE, MOST = 32, 3


def scene(generator: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """32 x 32 with one to three discs, rectangles or triangles, which may cover one another, and labels [3, 5], class -1 for none."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    image = np.full((SIDE, SIDE), generator.uniform(0.3, 0.7))
    labels = np.full((MOST, 5), -1, np.float32)
    for at in range(generator.integers(1, MOST + 1)):
        kind, (width, height) = generator.integers(0, net.KINDS), generator.uniform(6, 13, 2)
        left, top = generator.uniform(0, SIDE - width), generator.uniform(0, SIDE - height)
        u, v = (x - left) / width, (y - top) / height
        inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        shapes = [(u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25, inside, inside & (np.abs(u - 0.5) <= v / 2)]
        image[shapes[kind]] += generator.choice([-1, 1]) * generator.uniform(0.15, 0.4)
        labels[at] = kind, (left + width / 2) / SIDE, (top + height / 2) / SIDE, width / SIDE, height / SIDE
    return image + generator.normal(0, 0.08, image.shape), labels


def main() -> None:
    """Trains the network and writes its files."""
    generator = np.random.default_rng(3)

    def draw(_part: str, size: int) -> dict[str, NDArray[Any]]:
        images, labels = zip(*(scene(generator) for _ in range(size)), strict=True)
        return {"image": making.pictures(np.stack(images))[:, None], "labels": np.stack(labels)}

    torch.manual_seed(3)
    making.make(net.Yolo(), net, making.parts(draw, train=1200, held=150, eval=250, calib=60), epochs=25, learning_rate=5e-3)


if __name__ == "__main__":
    main()
