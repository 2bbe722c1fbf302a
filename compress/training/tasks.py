"""What a model is trained for: the loss to learn by, and the score (higher is better) to choose by."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from compress import tasks as metrics
from compress import transcripts

if TYPE_CHECKING:
    from compress.training.session import Split


class Task(Protocol):
    """A loss and a score."""

    def loss(self, outputs: Tensor, batch: "Split", teacher: nn.Module) -> Tensor:
        """A scalar to be made small."""
        ...

    def score(self, outputs: Tensor, split: "Split", reference: Callable[[], Tensor]) -> float:
        """How good the outputs are, higher is better; `reference` gives the teacher's."""
        ...


class Classification:
    """Cross-entropy; the share of samples whose highest logit is their label's."""

    def loss(self, outputs: Tensor, batch: "Split", teacher: nn.Module) -> Tensor:
        """The mean cross-entropy."""
        assert batch.labels is not None  # noqa: S101 - `get` saw to it
        return nn.functional.cross_entropy(outputs.reshape(len(outputs), -1), batch.labels.long())

    def score(self, outputs: Tensor, split: "Split", reference: Callable[[], Tensor]) -> float:
        """The accuracy, 0 to 1."""
        assert split.labels is not None  # noqa: S101 - `get` saw to it
        return float((outputs.reshape(len(outputs), -1).argmax(1) == split.labels).double().mean())


class Imitation:
    """Without labels: the mean squared difference from the float model's outputs; the SQNR against them in dB."""

    def loss(self, outputs: Tensor, batch: "Split", teacher: nn.Module) -> Tensor:
        """The mean squared difference."""
        from compress.training.session import first

        with torch.no_grad():
            wanted = first(teacher(*batch.inputs))
        return nn.functional.mse_loss(outputs, wanted)

    def score(self, outputs: Tensor, split: "Split", reference: Callable[[], Tensor]) -> float:
        """The signal-to-quantisation-noise ratio in dB."""
        from compress.verify import drift

        return drift(reference().numpy(), outputs.numpy()).sqnr_db


class Measured(Imitation):
    """The task's metric of `compress.tasks`, and a loss that goes with it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def loss(self, outputs: Tensor, batch: "Split", teacher: nn.Module) -> Tensor:
        """By the task's loss of LOSSES; where it has none, as far from the float model's outputs as can be told."""
        wanted = LOSSES.get(self.name)
        fits = self.name != "anomaly" or _rebuilds(outputs, batch)
        return wanted(outputs, batch) if wanted and fits else super().loss(outputs, batch, teacher)

    def score(self, outputs: Tensor, split: "Split", reference: Callable[[], Tensor]) -> float:
        """The metric, 0 to 1; by how little a reconstruction is wrong (negative) where no sample is labelled an anomaly."""
        if self.name == "anomaly" and _rebuilds(outputs, split) and (split.labels is None or not split.labels.any()):
            return -float(_reconstruction(outputs, split))
        assert split.labels is not None  # noqa: S101 - `get` saw to it
        return metrics.score(self.name, outputs.numpy(), split.labels.numpy(), split.inputs[0].numpy()).value


def _rebuilds(outputs: Tensor, batch: "Split") -> bool:
    """Whether the outputs are the input again, and no score of it."""
    return outputs.numel() == batch.inputs[0].numel()


def _reconstruction(outputs: Tensor, batch: "Split") -> Tensor:
    """The mean squared difference from the input."""
    return nn.functional.mse_loss(outputs, batch.inputs[0].reshape(outputs.shape))


def _identities(outputs: Tensor, batch: "Split") -> Tensor:
    """Each sample's others of its identity against all others, by cosine similarity at temperature 0.1.

    Source: Khosla et al., Supervised Contrastive Learning (2020).
    """
    assert batch.labels is not None  # noqa: S101 - `get` saw to it
    vectors = nn.functional.normalize(outputs.reshape(len(outputs), -1))
    itself = torch.eye(len(vectors), dtype=torch.bool)
    logits = (vectors @ vectors.T / TEMPERATURE).masked_fill(itself, float("-inf"))
    same = (batch.labels[:, None] == batch.labels[None]) & ~itself
    chances = nn.functional.log_softmax(logits, dim=1).masked_fill(~same, 0)
    return -(chances.sum(1) / same.sum(1).clamp(min=1))[same.any(1)].sum() / max(1, int(same.any(1).sum()))


def _transcript(outputs: Tensor, batch: "Split") -> Tensor:
    """Connectionist temporal classification (Graves et al., 2006), blank 0."""
    assert batch.labels is not None  # noqa: S101 - `get` saw to it
    lengths = (batch.labels >= 0).sum(1)
    steps = torch.full((len(outputs),), outputs.shape[1])
    chances = nn.functional.log_softmax(outputs, dim=2).transpose(0, 1)
    return nn.functional.ctc_loss(chances, batch.labels.clamp(min=0).long(), steps, lengths, blank=transcripts.BLANK, zero_infinity=True)


TEMPERATURE = 0.1
LOSSES = {"anomaly": _reconstruction, "embedding": _identities, "sequence": _transcript}
"""Detection has none that fits every head: the model's file defines `loss(outputs, labels)`, see Session.loss."""


def get(name: str, train: "Split | None") -> Task:
    """The task of that name; without labels to learn from it is to imitate the float model."""
    if train is None or (train.labels is None and name != "anomaly"):
        return Imitation()
    return Classification() if name in ("none", "classification") else Measured(name)
