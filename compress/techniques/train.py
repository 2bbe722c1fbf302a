"""Training on: the plain loop as a step of its own, for what a step before it lost."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from compress.techniques import Params, TrainingTechnique

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session

Epochs = Annotated[int, Field(ge=0, le=1000)]
LearningRate = Annotated[float, Field(gt=0, le=1)]


class FineTuneParams(Params):
    """How long, and how fast."""

    epochs: Epochs = 3
    learning_rate: LearningRate = 1e-3


class FineTune(TrainingTechnique[FineTuneParams]):
    """Trains the whole module on, and keeps the epoch that is best on the held-out samples."""

    def train(self, model: "nn.Module", params: FineTuneParams, session: "Session") -> "nn.Module":
        """The same module, trained."""
        from compress.training.loop import fit

        session.tell(held_out=fit(model, session, params.epochs, params.learning_rate))
        return model


TECHNIQUES = (FineTune("fine-tune", params=FineTuneParams),)
