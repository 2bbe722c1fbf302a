"""Makes the example from seeds: python -m examples.machines.make, with the `train` extra."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from examples import making
from examples.machines import net

FRAMES, BANDS = 5, 32


def window(generator: np.random.Generator, *, broken: bool) -> NDArray[np.float64]:
    """Five frames x 32 bands of a motor: harmonics that rise and fall with the load; broken, one is off, weak, or it rattles."""
    bands, time = np.arange(BANDS), np.arange(FRAMES)[:, None]
    speed, load = generator.uniform(4.0, 6.0), generator.uniform(0.4, 1.0)
    wobble = generator.uniform(0, 0.3) * np.sin(generator.uniform(0, 6.3) + time)
    heard = np.full((FRAMES, BANDS), 0.15)
    fault = generator.integers(0, 3) if broken else -1
    for order in range(1, 6):
        strength = load * [0.8, 0.5, 0.6, 0.3, 0.4][order - 1]
        place = order * (speed + wobble) + (generator.choice([-1, 1]) * 1.0 if fault == 0 and order == 3 else 0)
        strength = strength * (0.35 if fault == 1 and order == 1 else 1)
        heard = heard + strength * np.exp(-(((bands - place) / 0.9) ** 2))
    if fault == 2:
        heard[generator.integers(0, FRAMES)] += generator.uniform(0.05, 0.2)
    return (heard + generator.normal(0, 0.05, heard.shape)).ravel()


def main() -> None:
    """Trains the network on sound machines alone and writes its files."""
    generator = np.random.default_rng(5)

    def draw(part: str, size: int) -> dict[str, NDArray[Any]]:
        labels = np.arange(size) % 2 if part in ("held", "eval") else np.zeros(size)
        return {
            "window": making.pictures(np.stack([window(generator, broken=bool(one)) for one in labels])),
            "labels": labels.astype(np.uint8),
        }

    torch.manual_seed(5)
    making.make(net.Autoencoder(), net, making.parts(draw, train=2500, held=300, eval=600, calib=100), epochs=30, learning_rate=3e-3)


if __name__ == "__main__":
    main()
