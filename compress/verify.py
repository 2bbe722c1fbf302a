"""Compares what an artifact gives with what its float source gives on the same samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError
from compress import tasks

SQNR_LIMIT_DB = 200.0
"""Bound of `Drift.sqnr_db` either way, so that it is finite: +200 for equal outputs (float32 rounding alone gives about 140)."""

MIN_SQNR_DB = 5.0
"""Below this the error is more than half as large as the signal (10 ** (-5 / 20) = 0.56): the artifact gives something else."""

MAX_ACCURACY_DROP = 0.20
"""Where there are labels, outputs may drift further as long as accuracy falls by no more than this share."""

_NEXT = "leave the recipe out for it; if it ran on random inputs, give real ones (`data:` in the suite) first"


@dataclass(frozen=True, slots=True)
class Drift:
    """How far outputs are from the reference's: METHOD.md's three figures, always finite."""

    sqnr_db: float
    cosine: float
    max_abs: float


@dataclass(frozen=True, slots=True)
class Verification:
    """What the comparison gave. The accuracies are the values (0 to 1) of the task's metric, None without labels.

    `metric` is its name, `figures` what the task tells beside it, such as the equal error rate.
    """

    drift: Drift
    accuracy: float | None
    reference_accuracy: float | None
    samples: int
    metric: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


def drift(reference: NDArray[np.generic], outputs: NDArray[np.generic]) -> Drift:
    """Signal-to-quantisation-noise ratio 10 log10(sum ref^2 / sum (ref - out)^2) in dB, cosine similarity, largest absolute difference.

    All over every value of both arrays, in float64. Equal arrays give `SQNR_LIMIT_DB`. Only the number of values has to agree.
    Raises FaultError `verification` for NaN or infinity and for a different number of values.
    """
    expected, got = _finite(reference, "the reference's"), _finite(outputs, "the artifact's")
    if expected.size != got.size:
        raise FaultError("verification", f"{got.size} output values where the reference has {expected.size}", "", "verify")
    error = expected - got
    signal, noise = float(expected @ expected), float(error @ error)
    norms = float(np.linalg.norm(expected) * np.linalg.norm(got))
    cosine = float(expected @ got) / norms if norms else float(signal == float(got @ got))
    return Drift(_decibels(signal, noise), float(np.clip(cosine, -1, 1)), float(np.abs(error).max(initial=0.0)))


def verify(
    reference: Mapping[str, NDArray[np.generic]],
    outputs: Mapping[str, NDArray[np.generic]],
    labels: NDArray[np.generic] | None,
    task: str = "classification",
    inputs: NDArray[np.generic] | None = None,
) -> Verification:
    """The worst drift of any output, and the task's metric of the first one; raises FaultError `verification` for garbage.

    That is NaN or infinity, outputs of another number or size, or an SQNR below `MIN_SQNR_DB` unless the metric shows that it still
    works. `inputs`: the first input, for what reconstructs it. Also raises what `tasks.score` raises.
    """
    pairs = _paired(reference, outputs)
    drifts = [drift(expected, got) for expected, got in pairs]
    worst = Drift(min(d.sqnr_db for d in drifts), min(d.cosine for d in drifts), max(d.max_abs for d in drifts))
    before, after = (
        (None, None) if labels is None else (tasks.score(task, one.reshape(pairs[0][0].shape), labels, inputs) for one in pairs[0])
    )
    metric = None if labels is None else tasks.find(task).metric
    fell_by = None if before is None or after is None else before.value - after.value
    if worst.sqnr_db < MIN_SQNR_DB and (fell_by is None or fell_by > MAX_ACCURACY_DROP):
        seen = f"SQNR {worst.sqnr_db:.1f} dB, cosine {worst.cosine:.3f}"
        seen += "" if before is None or after is None else f", {metric} {after.value:.3f} against {before.value:.3f}"
        raise FaultError("verification", f"its outputs are not those of the float model: {seen}", _NEXT, "verify")
    scores = (after and after.value, before and before.value)
    return Verification(worst, *scores, len(pairs[0][0]), metric, after.figures if after else {})


def _paired(
    reference: Mapping[str, NDArray[np.generic]], outputs: Mapping[str, NDArray[np.generic]]
) -> list[tuple[NDArray[np.generic], NDArray[np.generic]]]:
    """By name where the names agree, else in order: converters rename outputs but keep their order."""
    if len(reference) != len(outputs) or not reference:
        raise FaultError("verification", f"{len(outputs)} outputs where the reference has {len(reference)}", "", "verify")
    if set(reference) == set(outputs):
        return [(reference[name], outputs[name]) for name in reference]
    return list(zip(reference.values(), outputs.values(), strict=True))


def _finite(values: NDArray[np.generic], whose: str) -> NDArray[np.float64]:
    flat = values.astype(np.float64).ravel()
    if not np.isfinite(flat).all():
        raise FaultError("verification", f"{whose} outputs hold NaN or infinity", _NEXT, "verify")
    return flat


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return SQNR_LIMIT_DB
    if signal == 0.0:
        return -SQNR_LIMIT_DB
    return float(np.clip(10 * np.log10(signal / noise), -SQNR_LIMIT_DB, SQNR_LIMIT_DB))
