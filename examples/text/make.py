"""Makes the example from seeds: python -m examples.text.make, with the `train` extra."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from examples import making
from examples.text import net

NAMES, GOOD, BAD, NOT, BUT, FILLERS = range(1, 7), range(7, 13), range(13, 19), (19, 20), 21, range(22, net.WORDS)


def sentence(generator: np.random.Generator) -> tuple[list[int], int]:
    """`name (not) opinion but name (not) opinion` among fillers, and its label: whether each opinion is good, `not` turning it round."""
    words: list[int] = []
    label = 0
    for clause in range(2):
        good, denied = generator.integers(0, 2, 2)
        words += [generator.choice(NAMES)] + [generator.choice(NOT)] * int(denied) + [generator.choice(GOOD if good else BAD)]
        words += [BUT] * (clause == 0)
        label += (1 + clause) * int(good != denied)
    while len(words) < net.LENGTH:
        words.insert(generator.integers(0, len(words) + 1), generator.choice(FILLERS))
    if generator.random() < 0.08:
        words[generator.integers(0, net.LENGTH)] = 0  # an unknown word, which may be the one that counts
    return [int(word) for word in words], label


def main() -> None:
    """Trains the network and writes its files."""
    generator = np.random.default_rng(7)

    def draw(_part: str, size: int) -> dict[str, NDArray[Any]]:
        words, labels = zip(*(sentence(generator) for _ in range(size)), strict=True)
        return {"words": np.array(words, np.int64), "labels": np.array(labels, np.uint8)}

    torch.manual_seed(7)
    making.make(net.Encoder(), net, making.parts(draw, train=4000, held=300, eval=500, calib=100), epochs=25, learning_rate=2e-3)


if __name__ == "__main__":
    main()
