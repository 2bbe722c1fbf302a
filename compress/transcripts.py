"""Sequences of symbols: decoded from a network's outputs, and compared."""

from itertools import groupby

import numpy as np
from numpy.typing import NDArray

BLANK = 0


def best_path(outputs: NDArray[np.generic]) -> list[list[int]]:
    """The symbols of each sample of [samples, steps, symbols]: the highest at each step, repetitions taken once, blanks left out.

    Source: Graves et al., Connectionist Temporal Classification (2006), best path decoding.
    """
    return [[int(symbol) for symbol, _ in groupby(path) if symbol != BLANK] for path in outputs.argmax(axis=2)]


def unpadded(labels: NDArray[np.generic]) -> list[list[int]]:
    """The symbols of each row, without the negative numbers that fill it up."""
    return [[int(symbol) for symbol in row if symbol >= 0] for row in labels.astype(np.int64)]


def edit_distance(found: list[int], wanted: list[int]) -> int:
    """The least number of symbols to insert, delete or replace.

    Source: Wagner and Fischer, The String-to-String Correction Problem (1974).
    """
    row = list(range(len(wanted) + 1))
    for at, symbol in enumerate(found, start=1):
        before, row[0] = row[0], at
        for column, other in enumerate(wanted, start=1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (symbol != other))
    return row[-1]
