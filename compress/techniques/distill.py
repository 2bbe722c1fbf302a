"""Distillation: a student learns from the model, from its fellow students, or from the generation before it."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from compress.techniques import Params, TrainingTechnique
from compress.techniques.train import LearningRate

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session


class DistillParams(Params):
    """The student, its teacher, and what brings them together."""

    mode: Literal["offline", "online", "self"] = "offline"
    """The teacher: the model, the other students of a cohort, or the model and then each generation for the next."""
    loss: Literal["kl", "mse", "hint", "cosine"] = "kl"
    """Softened probabilities, logits (or embeddings), softened probabilities and a layer's features, or embeddings by their direction."""
    width: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of its channels that every layer of the student has."""
    student: str = ""
    """A factory in the source's file that makes the student, in the place of a thinner model."""
    initialise: Literal["teacher", "random"] = "teacher"
    """A thinner student's weights: those of the channels that stay, or new ones."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The weight of the teacher; the rest is the task's own loss."""
    temperature: Annotated[float, Field(ge=1, le=100)] = 4.0
    hint: tuple[str, str] | None = None
    """The layers, the teacher's and the student's, whose features `loss: hint` brings together; the middle one without."""
    students: Annotated[int, Field(ge=2, le=8)] = 2
    """How many learn together in `mode: online`; the best is kept."""
    generations: Annotated[int, Field(ge=1, le=10)] = 1
    """How many there are in `mode: self`; the best is kept."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 10
    learning_rate: LearningRate = 1e-3
    compare: bool = False
    """Whether to train the same student without a teacher too, and tell its scores."""

    @model_validator(mode="after")
    def _is_whole(self) -> "DistillParams":
        if self.mode == "online" and self.loss == "hint":
            raise ValueError("hints come from a teacher, which mode: online has not")
        if self.hint and self.loss != "hint":
            raise ValueError("layers for hints go with loss: hint")
        return self


class Distill(TrainingTechnique[DistillParams]):
    """A smaller module that is taught by the model: what it gains over training without is told on `compare`, never taken for granted.

    Offline with softened probabilities (Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015), logits (Ba and
    Caruana, Do Deep Nets Really Need to be Deep?, 2014), hints (Romero et al., FitNets: Hints for Thin Deep Nets, 2015) or embeddings;
    online (Zhang, Xiang, Hospedales and Lu, Deep Mutual Learning, 2018); self (Furlanello et al., Born-Again Neural Networks, 2018).
    """

    def train(self, model: "nn.Module", params: DistillParams, session: "Session") -> "nn.Module":
        """The student; raises FaultError: `unsupported_op` where no layer can be narrower, `bad_model` for a wrong factory or hint."""
        from compress.training.distillation import distilled

        return distilled(model, params, session)


TECHNIQUES = (Distill("distill", params=DistillParams),)
