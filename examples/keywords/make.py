"""Makes the example from seeds: python -m examples.keywords.make, with the `train` extra."""

import numpy as np
import torch
from numpy.typing import NDArray

from examples import making
from examples.keywords import net

FRAMES, BANDS = 49, 10


def keyword(generator: np.random.Generator, kind: int) -> NDArray[np.float64]:
    """49 frames x 10 bands: two chirps whose slopes and order make the keyword, somewhere in noise, at any tempo and loudness."""
    slopes = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)] + [(2, -2)]
    time, bands = np.arange(FRAMES)[:, None], np.arange(BANDS)[None]
    heard = generator.normal(0, 0.2, (FRAMES, BANDS)) + 0.25
    length = generator.uniform(9, 14)
    start = generator.uniform(2, FRAMES - 2 * length - 4)
    for slope in slopes[kind]:
        middle = generator.uniform(3.5, 5.5)
        centre = middle + slope * generator.uniform(1.5, 2.8) * ((time - start) / length - 0.5)
        heard += generator.uniform(0.45, 0.8) * np.exp(-(((bands - centre) / 0.9) ** 2)) * ((time >= start) & (time < start + length))
        start += length + generator.uniform(0, 4)
    return heard


def main() -> None:
    """Trains the network and writes its files."""
    generator = np.random.default_rng(1)

    def draw(_part: str, size: int) -> dict[str, NDArray[np.uint8]]:
        labels = generator.integers(0, net.KEYWORDS, size).astype(np.uint8)
        return {"features": making.pictures(np.stack([keyword(generator, kind) for kind in labels]))[:, None], "labels": labels}

    torch.manual_seed(1)
    making.make(net.DsCnn(), net, making.parts(draw, train=1600, held=200, eval=400, calib=100), epochs=14, learning_rate=4e-3)


if __name__ == "__main__":
    main()
