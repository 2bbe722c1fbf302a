"""What follows from a launch's outputs: the task's metric, and how far they are from the float reference's."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError
from compress import tasks, verify
from compress.original import kind_of
from controller.collect import Collected, Samples
from controller.dataset import Dataset
from controller.session import Job

References = Mapping[tuple[str, str], NDArray[np.float32]]
"""By model and kind: the float model's first output for every evaluation sample."""

RESAMPLES = 200
SEED = 20


def derive(collected: Collected, job: Job, references: References) -> list[Samples]:
    """Give what `_quality` tells and the drifts of a launch that evaluated; nothing for one that did not."""
    found = collected.samples.get("output_0")
    reference = references.get((job.cell.model, kind_of(job.cell.format)))
    if found is None or reference is None:
        return []
    outputs = found.array.reshape(len(found.array), -1).astype(np.float64)
    flat = reference.reshape(len(reference), -1).astype(np.float64)[: len(outputs)]
    if outputs.shape != flat.shape:
        raise FaultError("bad_model", f"{job.artifact.files[0].name} gives {outputs.shape}, the reference {flat.shape}", "check the model")
    derived = _quality(outputs.reshape(-1, *reference.shape[1:]), kind_of(job.cell.format), job.dataset)
    drift = verify.drift(flat, outputs)
    values = {"drift_sqnr_db": ("dB", drift.sqnr_db), "drift_cosine": ("1", drift.cosine), "drift_max_abs": ("1", drift.max_abs)}
    return derived + [Samples(name, unit, np.array([value])) for name, (unit, value) in values.items()]


def _quality(outputs: NDArray[np.float64], kind: str, dataset: Dataset) -> list[Samples]:
    """`correct` (0 or 1 per sample) where the metric is a share of samples, else the metric by its name and what stands beside it.

    The metric's values are its own, then that of `RESAMPLES` draws of as many samples with replacement: the same draws for every cell, so
    that differences are paired (Efron, Bootstrap Methods, 1979). An own metric has none.
    """
    data, n = dataset.data, len(outputs)
    if data.labels is None:
        return []
    name = next(iter(data.eval_feeds))
    inputs = np.asarray(data.eval_feeds[name])[:n]
    turned = inputs.transpose(data.transpose[name]) if kind == "tflite" and data.transpose.get(name) else inputs
    scored = tasks.score(data.task, outputs, data.labels[:n], turned)
    if scored.each is not None:
        return [Samples("correct", "1", scored.each)]
    draws = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    resampled = [] if scored.of is None else [scored.of(weights) for weights in draws]
    values = np.array([scored.value, *(value for value in resampled if not np.isnan(value))])
    beside = [Samples(figure, "1", np.array([value])) for figure, value in scored.figures.items()]
    return [Samples(tasks.find(data.task).metric, "1", values), *beside]
