"""Makes the example from seeds: python -m examples.speech.make, with the `train` extra."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from examples import making
from examples.speech import net

FRAMES, BANDS, LONGEST = 30, 12, 5


def utterance(generator: np.random.Generator, voices: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """30 frames x 12 bands: two to five phones of 4 to 6 frames, each its own two formants, gliding into the next, in noise."""
    phones = generator.integers(1, net.PHONES + 1, generator.integers(2, LONGEST + 1))
    labels = np.full(LONGEST, -1, np.int8)
    labels[: len(phones)] = phones
    lengths = generator.integers(4, 7, len(phones))
    formants = np.full((FRAMES, 2), np.nan)
    start = generator.integers(0, FRAMES - lengths.sum() + 1)
    for phone, length in zip(phones, lengths, strict=True):
        formants[start : start + length - 1] = voices[phone - 1] + generator.normal(0, 0.45, 2)
        start += length
    smooth = np.stack([np.convolve(np.nan_to_num(one, nan=-9), [0.25, 0.5, 0.25], "same") for one in formants.T], 1)
    tones = np.exp(-(((np.arange(BANDS)[None, None] - smooth[..., None]) / 0.8) ** 2)).sum(1)
    return 0.25 + 0.6 * tones + generator.normal(0, 0.1, (FRAMES, BANDS)), labels


def main() -> None:
    """Trains the network and writes its files."""
    generator = np.random.default_rng(4)
    voices = np.array([[1, 5], [1, 8], [3, 6], [3, 9], [5, 8], [5, 10], [2, 10], [7, 10]], np.float64)

    def draw(_part: str, size: int) -> dict[str, NDArray[Any]]:
        features, labels = zip(*(utterance(generator, voices) for _ in range(size)), strict=True)
        return {"features": making.pictures(np.stack(features)), "labels": np.stack(labels)}

    torch.manual_seed(4)
    making.make(net.Recogniser(), net, making.parts(draw, train=2400, held=150, eval=250, calib=60), epochs=60, learning_rate=5e-3)


if __name__ == "__main__":
    main()
