"""What a model's first output means by the suite's `task`: the labels that go with it, and the metric that scores it.

Every score is from 0 to 1, higher is better. Samples are on axis 0 of outputs, labels and inputs.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError
from compress import detections, ranking, transcripts

Array = NDArray[np.generic]
Weights = NDArray[np.float64]
CODE = "python:"

MOST_PAIRED = 2000
"""Samples of which every pair is compared: two million pairs."""


@dataclass(frozen=True, slots=True)
class Scored:
    """`value` of the metric, and further `figures` by name, such as the equal error rate.

    `of(weights)` is the value when each sample counts so often (float64, one weight a sample), NaN where the metric is undefined: for a
    bootstrap over samples. `each` is 1 or 0 a sample where the metric is a share of them. Either is None where there is no such thing.
    """

    value: float
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    of: Callable[[Weights], float] | None = None
    each: Weights | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """`metric`: its name in tables; `form`: what labels have to be, in words, and whether these are (of any number of samples)."""

    metric: str
    form: str
    fits: Callable[[Array], bool]
    score: Callable[[Array, Array, Array | None], Scored]


def find(name: str) -> Task:
    """The task of that name; `none` with labels is a classification, `python:/file.py:function` calls what its owner wrote."""
    if name.startswith(CODE):
        return Task("score", "an array with the samples on its first axis", lambda labels: labels.ndim > 0, _owned(name))
    return TASKS[name]


def check(name: str, labels: Array, samples: int) -> None:
    """Raises ValueError that says what labels of the task have to be, for those that are not, or not one a sample."""
    task = find(name)
    if labels.ndim == 0 or len(labels) != samples or not task.fits(labels):
        raise ValueError(f"are {labels.dtype} of shape {list(labels.shape)}, there are {samples} samples; give {task.form}")


def score(name: str, outputs: Array, labels: Array, inputs: Array | None = None) -> Scored:
    """The task's metric of a model's first output; `inputs`: the first input, as the model was fed, for what it reconstructs.

    Raises FaultError `bad_data` for labels that are not the task's or that leave the metric undefined, `bad_model` for other outputs.
    """
    try:
        check(name, labels, len(outputs))
    except ValueError as error:
        raise FaultError("bad_data", f"labels {error}", "mend the data file, or `task:` in the suite", "verify") from None
    return find(name).score(outputs, labels, inputs)


def digest(name: str) -> str:
    """What the metric depends on besides outputs and labels: the name, and of an own one the sha256 of its file."""
    if not name.startswith(CODE):
        return name
    return f"{name} {hashlib.sha256(file_of(name)[0].read_bytes()).hexdigest()}"


def file_of(name: str) -> tuple[Path, str]:
    """The file and the function of `python:/file.py:function`."""
    path, _, function = name.removeprefix(CODE).rpartition(":")
    return Path(path), function


def _classification(outputs: Array, labels: Array, inputs: Array | None) -> Scored:  # noqa: ARG001
    """Top-1: the share of samples whose largest logit is at the label's index; top-5 beside it where there are more than five."""
    logits = outputs.reshape(len(labels), -1).astype(np.float64)
    right = (logits.argmax(axis=1) == labels).astype(np.float64)
    best = np.argsort(-logits, axis=1)[:, :5].astype(np.int64)
    figures = {"top5": float(np.mean(np.equal(best, labels[:, None]).any(axis=1)))} if logits.shape[1] > 5 else {}
    return Scored(float(right.mean()), figures, lambda weights: float(weights @ right / weights.sum()), right)


def _detection(outputs: Array, labels: Array, inputs: Array | None) -> Scored:  # noqa: ARG001
    if outputs.ndim != 3 or outputs.shape[2] < 6:
        raise _not_outputs(outputs, "[samples, boxes, 5 + classes]: centre x, centre y, width, height, objectness, class probabilities")
    mean_precision = detections.mean_average_precision(outputs.astype(np.float64), labels.astype(np.float64))
    return _whole(mean_precision, len(labels), "there are no objects in the labels")


def _embedding(outputs: Array, labels: Array, inputs: Array | None) -> Scored:  # noqa: ARG001
    """ROC-AUC of the cosine similarity for telling pairs of one identity from other pairs; beside it the equal error rate.

    All pairs of the first `MOST_PAIRED` samples.
    """
    vectors = outputs.reshape(len(labels), -1)[:MOST_PAIRED].astype(np.float64)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    first, second = np.triu_indices(len(vectors), 1)
    curve = ranking.Curve((vectors @ vectors.T)[first, second], labels[first] == labels[second])
    return _ranked(curve, lambda weights: weights[first] * weights[second], len(labels), "two samples of one identity and of two")


def _anomaly(outputs: Array, labels: Array, inputs: Array | None) -> Scored:
    """ROC-AUC of an output of one value a sample, or of the mean squared difference from the input; beside it the equal error rate."""
    flat = outputs.reshape(len(labels), -1).astype(np.float64)
    if flat.shape[1] > 1:
        if inputs is None or inputs[0].size != flat.shape[1]:
            raise _not_outputs(outputs, "one value a sample, or as many as its input has")
        flat = np.square(flat - inputs.reshape(len(labels), -1).astype(np.float64)).mean(axis=1, keepdims=True)
    return _ranked(ranking.Curve(flat[:, 0], labels == 1), lambda weights: weights, len(labels), "both normal samples (0) and others (1)")


def _sequence(outputs: Array, labels: Array, inputs: Array | None) -> Scored:  # noqa: ARG001
    """1 - error rate (0 for a rate above 1) of CTC's best path, blank 0; beside it the error rate."""
    if outputs.ndim != 3:
        raise _not_outputs(outputs, "[samples, steps, symbols]")
    wanted = transcripts.unpadded(labels)
    lengths = np.array([len(one) for one in wanted], np.float64)
    pairs = zip(transcripts.best_path(outputs), wanted, strict=True)
    errors = np.array([transcripts.edit_distance(found, one) for found, one in pairs], np.float64)

    def value(weights: Weights) -> float:
        total = float(weights @ lengths)
        return max(0.0, 1 - float(weights @ errors) / total) if total else float("nan")

    return _whole(value, len(labels), "there are no symbols in the labels", {"error_rate": float(errors.sum() / max(1.0, lengths.sum()))})


def _ranked(curve: ranking.Curve, weigh: Callable[[Weights], Weights], samples: int, needs: str) -> Scored:
    eer = curve.equal_error_rate()
    return _whole(lambda weights: curve.area(weigh(weights)), samples, f"it takes {needs}", {"eer": eer})


def _whole(value: Callable[[Weights], float], samples: int, undefined: str, figures: Mapping[str, float] | None = None) -> Scored:
    found = value(np.ones(samples))
    if np.isnan(found):
        raise FaultError("bad_data", f"the labels leave the metric undefined: {undefined}", "mend the data file", "verify")
    return Scored(found, figures or {}, value)


def _owned(name: str) -> Callable[[Array, Array, Array | None], Scored]:
    from compress import own_metric

    return lambda outputs, labels, inputs: Scored(own_metric.score(*file_of(name), outputs, labels))  # noqa: ARG005


def _not_outputs(outputs: Array, form: str) -> FaultError:
    message = f"the first output is of shape {list(outputs.shape)}, the task takes {form}"
    return FaultError("bad_model", message, "correct `task:` in the suite, or the model", "verify")


def _whole_numbers(labels: Array) -> bool:
    return labels.ndim == 1 and labels.dtype.kind in "iu"


def _flags(labels: Array) -> bool:
    return labels.ndim == 1 and labels.dtype.kind in "iub" and bool(np.isin(labels, (0, 1)).all())


def _boxes(labels: Array) -> bool:
    return labels.ndim == 3 and labels.shape[2] == 5 and labels.dtype.kind == "f" and bool(np.isfinite(labels).all())


def _symbols(labels: Array) -> bool:
    return labels.ndim == 2 and labels.dtype.kind == "i"


CLASSES = Task("accuracy", "one whole number a sample", _whole_numbers, _classification)

TASKS: Mapping[str, Task] = {
    "none": CLASSES,
    "classification": CLASSES,
    "detection": Task("map50", "floats [samples, objects, 5]: class (-1: no object), centre x, y, width, height", _boxes, _detection),
    "embedding": Task("roc_auc", "one whole number a sample, its identity", _whole_numbers, _embedding),
    "anomaly": Task("roc_auc", "0 or 1 a sample, 1 for an anomaly", _flags, _anomaly),
    "sequence": Task(
        "sequence_accuracy", "signed whole numbers [samples, symbols], symbols from 1 on, -1 behind them", _symbols, _sequence
    ),
}
"""By the suite's name. Detection boxes may be in any unit, the same in outputs and labels."""
