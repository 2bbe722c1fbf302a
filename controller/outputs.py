"""What follows from a launch's outputs: which samples were right, and how far they are from the float reference's."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError
from compress import verify
from compress.original import kind_of
from controller.collect import Collected, Samples
from controller.session import Job

References = Mapping[tuple[str, str], NDArray[np.float32]]
"""By model and kind: the float model's first output for every evaluation sample."""


def derive(collected: Collected, job: Job, references: References) -> list[Samples]:
    """Give correct (0 or 1 per sample) and the drifts of a launch that evaluated; nothing for one that did not."""
    found = collected.samples.get("output_0")
    reference = references.get((job.cell.model, kind_of(job.cell.format)))
    if found is None or reference is None:
        return []
    outputs = found.array.reshape(len(found.array), -1).astype(np.float64)
    flat = reference.reshape(len(reference), -1).astype(np.float64)[: len(outputs)]
    if outputs.shape != flat.shape:
        raise FaultError("bad_model", f"{job.artifact.files[0].name} gives {outputs.shape}, the reference {flat.shape}", "check the model")
    derived: list[Samples] = []
    labels = job.dataset.data.labels
    if labels is not None:
        correct = outputs.argmax(axis=1) == labels[: len(outputs)]
        derived.append(Samples("correct", "1", correct.astype(np.float64)))
    drift = verify.drift(flat, outputs)
    values = {"drift_sqnr_db": ("dB", drift.sqnr_db), "drift_cosine": ("1", drift.cosine), "drift_max_abs": ("1", drift.max_abs)}
    return derived + [Samples(name, unit, np.array([value])) for name, (unit, value) in values.items()]
