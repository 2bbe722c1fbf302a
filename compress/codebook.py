"""Codebooks: k-means of a tensor's weights, where zeros stay zeros and need no entry."""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 100

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]


def share(weights: Floats, entries: int) -> tuple[NDArray[np.float32], Labels]:
    """At most `entries` values, ascending, and for each weight (flat) 0 where it is zero, else 1 + the index of its value.

    Weights that have no more values than that keep them exactly. Else k-means from values spread evenly between the smallest and the
    largest weight, which keeps the rare large ones (Han, Mao and Dally, Deep Compression, 2016, section 3.2: linear initialisation).
    """
    flat = weights.astype(np.float64).ravel()
    values = flat[flat != 0]
    found = np.unique(values)
    if len(found) > entries:
        found = _k_means(np.sort(values), entries)
    centres = np.unique(found.astype(np.float32))
    labels = np.zeros(flat.size, np.int64)
    if values.size:
        labels[flat != 0] = 1 + _nearest(values, centres.astype(np.float64))
    return centres, labels


def values(centres: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """The weights (flat) that the labels stand for."""
    return np.concatenate([np.zeros(1, np.float32), centres])[labels]


def _k_means(ordered: NDArray[np.float64], entries: int) -> NDArray[np.float64]:
    """Lloyd's algorithm on sorted numbers: the clusters are runs of them. Empty clusters are dropped."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = np.linspace(ordered[0], ordered[-1], entries, dtype=np.float64)
    for _ in range(ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        moved = _means(sums, np.concatenate([[0], ends, [len(ordered)]]))
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _means(sums: NDArray[np.float64], edges: NDArray[np.integer]) -> NDArray[np.float64]:
    """The mean of each run that is not empty, from the running sums at its edges."""
    sizes = np.diff(edges)
    return np.diff(sums[edges])[sizes > 0] / sizes[sizes > 0]


def _nearest(numbers: NDArray[np.float64], centres: NDArray[np.float64]) -> Labels:
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, numbers)
