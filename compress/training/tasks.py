"""What a model is trained for: the loss to learn by, and the score (higher is better) to choose by."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

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


def get(name: str, train: "Split | None") -> Task:
    """The task of that name; without labels to learn from it is to imitate the float model."""
    labelled = train is not None and train.labels is not None
    return Classification() if labelled and name in ("none", "classification") else Imitation()
