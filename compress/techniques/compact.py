"""Compact filters: convolutions with fewer weights in the place of dense ones, taught by the model."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from compress.techniques import Params, TrainingTechnique
from compress.techniques.train import LearningRate

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session

Fraction = Annotated[float, Field(ge=0, le=1)]
Epochs = Annotated[int, Field(ge=1, le=1000)]


class TaughtParams(Params):
    """Which convolutions, and how the module is taught afterwards."""

    layers: tuple[str, ...] = ()
    """The only ones to exchange; all but the first without."""
    alpha: Fraction = 0.5
    """The weight of the float model's softened probabilities; the rest is the task's own loss."""
    temperature: Annotated[float, Field(ge=1, le=100)] = 4.0
    epochs: Epochs = 10
    learning_rate: LearningRate = 1e-3


class CompactParams(TaughtParams):
    """What convolutions become."""

    kind: Literal["separable", "fire"] = "separable"
    squeeze: Annotated[float, Field(gt=0, le=1)] = 0.125
    """Of a Fire module: channels after the squeeze, as a share of its outputs."""
    wide: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of a Fire module: the share of its outputs that the large kernel gives; kernel 1 gives the others."""


class CondenseParams(TaughtParams):
    """How many groups, and what each keeps."""

    groups: Annotated[int, Field(ge=2, le=64)] = 4
    factor: Annotated[int, Field(ge=2, le=64)] = 4
    """Each group of filters keeps one in so many input channels."""
    lasso: Annotated[float, Field(ge=0, le=1)] = 1e-5
    """The weight of the group lasso while channels go."""


class Compact(TrainingTechnique[CompactParams]):
    """Convolutions k x k as depthwise k x k and 1 x 1 (Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications, 2017), without an activation between, or as Fire modules (Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x
    fewer parameters and <0.5MB model size, 2016). A depthwise kernel begins as the best one for its input channel; Fire modules learn anew.
    """

    def train(self, model: "nn.Module", params: CompactParams, session: "Session") -> "nn.Module":
        """The same module with other convolutions; raises FaultError `unsupported_op` where none would have fewer parameters."""
        from compress.training.compact import compacted

        return compacted(model, params, session)


class Condense(TrainingTechnique[CondenseParams]):
    """Learned group convolutions (Huang et al., CondenseNet: An Efficient DenseNet using Learned Group Convolutions, 2018).

    In the first half of the epochs each group of filters gives up, in stages, the input channels that it uses least; at the end the
    convolution is a selection of channels and a grouped convolution.
    """

    def train(self, model: "nn.Module", params: CondenseParams, session: "Session") -> "nn.Module":
        """The same module with condensed convolutions; raises FaultError `unsupported_op` where none divides into the groups."""
        from compress.training.condense import condensed

        return condensed(model, params, session)


TECHNIQUES = (Compact("compact", params=CompactParams), Condense("condense", params=CondenseParams))
