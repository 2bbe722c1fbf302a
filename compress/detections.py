"""Detected objects: non-maximum suppression, matching with the true ones, and mean average precision at IoU 0.5."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST_CONFIDENCE = 0.001
OVERLAP = 0.5


def mean_average_precision(outputs: Floats, labels: Floats) -> Callable[[Floats], float]:
    """What gives mAP@0.5 when each sample counts so often; NaN without objects.

    `outputs`: [samples, boxes, 5 + classes], centre x, centre y, width, height, objectness and class probabilities; `labels`: [samples,
    objects, 5], class (-1: none), centre x, centre y, width, height. Average precision is the area under the precision-recall curve made
    monotone, over all points. Source: Everingham et al., The PASCAL Visual Object Classes Challenge (2010), as of 2010.
    """
    truths, found = [one[one[:, 0] >= 0] for one in labels], [suppressed(one) for one in outputs]
    classes = np.unique(np.concatenate([one[:, 0] for one in truths]))
    curves = [_precision_of(kind, truths, found) for kind in classes]

    def value(weights: Floats) -> float:
        precisions = [one for one in (curve(weights) for curve in curves) if not np.isnan(one)]
        return float(np.mean(precisions)) if precisions else float("nan")

    return value


def suppressed(boxes: Floats) -> Floats:
    """The detections among the boxes of one sample, [detections, 6], most confident first: class, confidence, and the box.

    A box is of its likeliest class; of those of one class that overlap by more than `OVERLAP` only the most confident is left.
    """
    kinds = boxes[:, 5:].argmax(axis=1)
    confidences = boxes[:, 4] * boxes[:, 5:].max(axis=1)
    order = [at for at in np.argsort(-confidences, kind="stable") if confidences[at] > LEAST_CONFIDENCE]
    overlaps = overlap(boxes[:, :4], boxes[:, :4])
    kept: list[int] = []
    for at in order:
        if all(kinds[at] != kinds[other] or overlaps[at, other] <= OVERLAP for other in kept):
            kept.append(int(at))
    return np.column_stack([kinds[kept], confidences[kept], boxes[kept, :4]])


def overlap(first: Floats, second: Floats) -> Floats:
    """Intersection over union of each box [n, 4] with each of [m, 4], as centre x, centre y, width, height: [n, m]."""
    low = np.maximum((first[:, :2] - first[:, 2:] / 2)[:, None], (second[:, :2] - second[:, 2:] / 2)[None])
    high = np.minimum((first[:, :2] + first[:, 2:] / 2)[:, None], (second[:, :2] + second[:, 2:] / 2)[None])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    both = np.prod(first[:, 2:], axis=1)[:, None] + np.prod(second[:, 2:], axis=1)[None] - common
    return common / np.maximum(both, 1e-12)


def _precision_of(kind: float, truths: list[Floats], found: list[Floats]) -> Callable[[Floats], float]:
    """What gives the average precision of one class."""
    hits = [(sample, *hit) for sample, (true, one) in enumerate(zip(truths, found, strict=True)) for hit in _matched(kind, true, one)]
    hits.sort(key=lambda hit: -hit[1])
    samples, right = np.array([hit[0] for hit in hits], np.int64), np.array([hit[2] for hit in hits], np.bool_)
    objects = np.array([np.count_nonzero(one[:, 0] == kind) for one in truths], np.float64)

    def value(weights: Floats) -> float:
        there = float(weights @ objects)
        if there == 0:
            return float("nan")
        counts = weights[samples]
        true = np.cumsum(counts * right)
        precision = true / np.maximum(np.cumsum(counts), 1e-12)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.sum(np.diff(true, prepend=0.0) * envelope) / there)

    return value


def _matched(kind: float, truths: Floats, found: Floats) -> list[tuple[float, bool]]:
    """Each detection of a class with its confidence, and whether it is right: the object that it overlaps most is free, and by enough."""
    wanted, got = truths[truths[:, 0] == kind, 1:], found[found[:, 0] == kind]
    overlaps, taken, matched = overlap(got[:, 2:], wanted), set[int](), list[tuple[float, bool]]()
    for row, confidence in enumerate(got[:, 1]):
        best = int(overlaps[row].argmax()) if len(wanted) else -1
        right = best >= 0 and overlaps[row, best] >= OVERLAP and best not in taken
        taken |= {best} if right else set()
        matched.append((float(confidence), bool(right)))
    return matched
