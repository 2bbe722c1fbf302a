"""What a training step works with: the samples as tensors, the task's loss and score, the float model as a teacher."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agent.schema import FaultError
from compress.records import Samples
from compress.training import tasks
from compress.training.export import ordered

SEED = 0
BATCH = 128
EVALUATION_BATCH = 512


@dataclass(frozen=True, slots=True)
class Split:
    """Samples as tensors: `inputs` in the order of the module's forward, samples on axis 0; `labels` None where there are none."""

    inputs: tuple[Tensor, ...]
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def take(self, rows: Tensor) -> "Split":
        """The samples of these rows."""
        return Split(tuple(one[rows] for one in self.inputs), None if self.labels is None else self.labels[rows])

    def batches(self, size: int) -> Iterator["Split"]:
        """All samples in their order, `size` at a time."""
        for rows in torch.arange(len(self)).split(size):
            yield self.take(rows)


class Session:
    """`teacher` is the float model as it came, in eval mode and without gradients. `score` looks at the held-out samples only.

    `note` is for a reader of the manifest, `tell` for its figures under the step's name. `code` is what the model's file defines.
    """

    def __init__(self, model: nn.Module, task: str, train: Samples | None, held_out: Samples | None, calibration: Samples | None) -> None:
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)
        self.notes: list[str] = []
        self.told: dict[str, dict[str, object]] = {}
        self.step = ""
        self.code: ModuleType | None = None
        self._train, self._held_out, self._calibration = train, held_out, calibration
        self._names = ordered(model, list((calibration or Samples({}, None)).feeds))
        self.task = tasks.get(task, self.train if train else None)

    @property
    def train(self) -> Split:
        """The samples to learn from; raises FaultError `bad_data` where there are none."""
        return self._split(self._train, "training", "train_")

    @property
    def held_out(self) -> Split:
        """The samples that choices look at; raises FaultError `bad_data` where there are none."""
        return self._split(self._held_out, "held-out", "held_")

    @property
    def calibration(self) -> Split:
        """The samples for ranges and statistics, without labels."""
        return self._split(self._calibration, "calibration", "calib_")

    def example(self) -> dict[str, Tensor]:
        """One sample by input name, batch 1."""
        return dict(zip(self._names, self.calibration.take(torch.arange(1)).inputs, strict=True))

    def loss(self, outputs: Tensor, batch: Split) -> Tensor:
        """The task's loss, a scalar; where there are no labels, how far the outputs are from the teacher's.

        A model's file that defines `loss(outputs, labels)` is trained by that.
        """
        own = getattr(self.code, "loss", None)
        return self.task.loss(outputs, batch, self.teacher) if own is None or batch.labels is None else own(outputs, batch.labels)

    @torch.inference_mode()
    def score(self, model: nn.Module, split: Split | None = None) -> float:
        """The task's metric on the held-out samples (or on `split`), higher is better; the module is in eval mode afterwards."""
        split = split or self.held_out
        return self.task.score(outputs(model, split), split, lambda: outputs(self.teacher, split))

    def note(self, text: str) -> None:
        """Leave a sentence for the manifest."""
        self.notes.append(text)

    def tell(self, **figures: object) -> None:
        """Leave figures (JSON-ready) for the manifest."""
        self.told.setdefault(self.step, {}).update(figures)

    def _split(self, samples: Samples | None, what: str, prefix: str) -> Split:
        if samples is None:
            raise FaultError(
                "bad_data", f"there are no {what} samples", f"add arrays with the prefix {prefix} to the data file", "compress"
            )
        labels = None if samples.labels is None else torch.as_tensor(_native(samples.labels))
        return Split(tuple(torch.as_tensor(samples.feeds[name]) for name in self._names), labels)


def _native(labels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Whole numbers as int64: torch computes with no unsigned ones, and reads no foreign byte order."""
    return labels.astype(np.int64) if labels.dtype.kind in "iu" else labels.astype(labels.dtype.newbyteorder("="))


@torch.inference_mode()
def outputs(model: nn.Module, split: Split) -> Tensor:
    """The module's first output for every sample, float32, samples on axis 0; the module is in eval mode afterwards."""
    model.eval()
    return torch.cat([first(model(*batch.inputs)) for batch in split.batches(EVALUATION_BATCH)])


def first(found: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The first of what a module gives."""
    return found if isinstance(found, Tensor) else found[0]


Loss = Callable[[nn.Module, Split], Tensor]
