"""Makes the example from seeds: python -m examples.faces.make, with the `train` extra."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from examples import making
from examples.faces import net

SIDE = 24
TRAINED, HELD, EVALUATED = 90, 12, 30


def face(generator: np.random.Generator, identity: NDArray[np.float64]) -> NDArray[np.float64]:
    """24 x 24: an identity's 14 blobs (place, size, brightness), moved, scaled, lit from a side and noisy."""
    grid = np.linspace(-1, 1, SIDE)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    scale, (left, up) = generator.uniform(0.85, 1.15), generator.uniform(-0.14, 0.14, 2)
    tilt = generator.uniform(-0.25, 0.25)
    u = (x * np.cos(tilt) - y * np.sin(tilt)) * scale + left
    v = (x * np.sin(tilt) + y * np.cos(tilt)) * scale + up
    seen = 0.5 + sum(b * np.exp(-((u - a) ** 2 + (v - c) ** 2) / (2 * s * s)) for a, c, s, b in identity)
    light = generator.uniform(-0.25, 0.25) * x + generator.uniform(-0.25, 0.25) * y + generator.uniform(-0.1, 0.1)
    return generator.uniform(0.7, 1.2) * (seen - 0.5) + 0.5 + light + generator.normal(0, 0.16, (SIDE, SIDE))


def main() -> None:
    """Trains the network and writes its files; identities of one part are in no other."""
    generator = np.random.default_rng(2)
    common = [(-0.4, -0.3, 0.15, -0.3), (0.4, -0.3, 0.15, -0.3), (0, 0.45, 0.2, -0.25), (0, 0, 0.7, 0.3)]
    count = TRAINED + HELD + EVALUATED
    own = np.stack(
        [*generator.uniform(-0.8, 0.8, (2, count, 10)), generator.uniform(0.1, 0.3, (count, 10)), generator.normal(0, 0.22, (count, 10))],
        -1,
    )
    identities = np.concatenate([np.tile(common, (count, 1, 1)) + generator.normal(0, 0.03, (count, 4, 4)) * [1, 1, 0.3, 1], own], axis=1)
    first = {"train": (0, TRAINED), "calib": (0, TRAINED), "held": (TRAINED, HELD), "eval": (TRAINED + HELD, EVALUATED)}

    def draw(part: str, size: int) -> dict[str, NDArray[Any]]:
        start, number = first[part]
        labels = start + generator.permutation(size) % number
        return {
            "face": making.pictures(np.stack([face(generator, identities[one]) for one in labels]))[:, None],
            "labels": labels.astype(np.int16),
        }

    torch.manual_seed(2)
    making.make(net.MobileFaceNet(), net, making.parts(draw, train=1800, held=180, eval=300, calib=100), epochs=12, learning_rate=4e-3)


if __name__ == "__main__":
    main()
