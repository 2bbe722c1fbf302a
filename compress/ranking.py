"""How well a score tells two kinds of items apart: area under the ROC curve, and the equal error rate."""

import numpy as np
from numpy.typing import NDArray


class Curve:
    """The ROC curve of scores (1-D) by which positives (bool, the same length) should be the higher ones; sorted once, weighed often."""

    def __init__(self, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        values, self._group = np.unique(scores, return_inverse=True)
        self._groups, self._positive = len(values), positive

    def area(self, weights: NDArray[np.float64] | None = None) -> float:
        """The probability that a positive has the higher score, ties counting half; NaN without positives or negatives.

        Source: Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve (1982): it is the Wilcoxon statistic.
        """
        positives, negatives = self._counts(weights)
        pairs = positives.sum() * negatives.sum()
        below = np.cumsum(negatives) - negatives / 2
        return float(positives @ below / pairs) if pairs else float("nan")

    def equal_error_rate(self) -> float:
        """Where the share of positives refused equals that of negatives accepted, on the line between thresholds; NaN as `area`."""
        positives, negatives = self._counts(None)
        if not positives.sum() or not negatives.sum():
            return float("nan")
        refused = np.concatenate([[0.0], np.cumsum(positives) / positives.sum()])
        accepted = 1 - np.concatenate([[0.0], np.cumsum(negatives) / negatives.sum()])
        gap = refused - accepted
        at = int(np.argmax(gap >= 0))  # at 0 it is -1, at the end 1
        share = -gap[at - 1] / (gap[at] - gap[at - 1])
        return float(refused[at - 1] + share * (refused[at] - refused[at - 1]))

    def _counts(self, weights: NDArray[np.float64] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weights = np.ones(len(self._positive)) if weights is None else weights
        counts = [np.bincount(self._group, weights * kind, self._groups).astype(np.float64) for kind in (self._positive, ~self._positive)]
        return counts[0], counts[1]
