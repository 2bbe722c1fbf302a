"""Makes the example from seeds: python -m examples.gestures.make, with the `train` extra."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from examples import making
from examples.gestures import net

FRAMES, SIDE = 8, 16


def clip(generator: np.random.Generator, kind: int) -> NDArray[np.float64]:
    """8 frames of 16 x 16: a hand that goes left, right, up, down, circles either way, nears or leaves, before noise and another blob."""
    time = np.linspace(-1, 1, FRAMES)
    angle = generator.uniform(0, 6.3) + 2.2 * time
    still = np.zeros(FRAMES)
    reach = generator.uniform(2.5, 4.5)
    ways = [
        (-time, still),
        (time, still),
        (still, -time),
        (still, time),
        (np.cos(angle), np.sin(angle)),
        (np.sin(angle), np.cos(angle)),
        (still, still),
        (still, still),
    ]
    across, down = ways[kind]
    size = 1.8 + (1.0 * time if kind == 6 else -1.0 * time if kind == 7 else still)
    x0, y0 = generator.uniform(6, 10, 2)
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    sway = generator.normal(0, 0.4, (2, FRAMES))
    frames = [
        np.exp(-((x - x0 - reach * a - u) ** 2 + (y - y0 - reach * b - v) ** 2) / (2 * s * s))
        for a, b, s, u, v in zip(across, down, size, *sway, strict=True)
    ]
    x1, y1, (dx, dy) = *generator.uniform(0, SIDE, 2), generator.uniform(-3, 3, 2)
    other = [np.exp(-((x - x1 - dx * t) ** 2 + (y - y1 - dy * t) ** 2) / 4) for t in time]
    return 0.3 + generator.uniform(0.2, 0.5) * np.stack(frames) + 0.3 * np.stack(other) + generator.normal(0, 0.15, (FRAMES, SIDE, SIDE))


def main() -> None:
    """Trains the network and writes its files."""
    generator = np.random.default_rng(6)

    def draw(_part: str, size: int) -> dict[str, NDArray[Any]]:
        labels = generator.integers(0, net.GESTURES, size).astype(np.uint8)
        return {"clip": making.pictures(np.stack([clip(generator, kind) for kind in labels]))[:, None], "labels": labels}

    torch.manual_seed(6)
    making.make(net.C3d(), net, making.parts(draw, train=800, held=100, eval=200, calib=40), epochs=15, learning_rate=3e-3)


if __name__ == "__main__":
    main()
