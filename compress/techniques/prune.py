"""Structured pruning: whole channels and neurons go, and the model really gets narrower."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from compress.techniques import Params, TrainingTechnique
from compress.techniques.train import Epochs, LearningRate

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session

Criterion = Literal[
    "l1",
    "l2",
    "lamp",
    "fpgm",
    "taylor",
    "hessian",
    "batchnorm-scale",
    "activation",
    "apoz",
    "next-activation",
    "reconstruction",
    "random",
]
Scope = Literal["sensitivity", "uniform", "global"]
Size = Literal["parameters", "macs", "channels"]


class PruneParams(Params):
    """How much goes, what goes first, and how the rest is trained on."""

    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Which share of `of` goes at least."""
    of: Size = "parameters"
    """What the ratio is a share of: parameters, multiply-accumulates, or output channels of the layers that can lose some."""
    parameters: Annotated[int, Field(ge=1)] | None = None
    """Instead of a ratio: how many parameters may be left."""
    macs: Annotated[int, Field(ge=1)] | None = None
    """Instead of a ratio: how many multiply-accumulates of one inference may be left."""
    criterion: Criterion = "l2"
    """What makes a channel important; see `Prune`."""
    scope: Scope = "sensitivity"
    """How the loss of channels is spread over the layers; see `Prune`."""
    round_to: Annotated[int, Field(ge=1, le=64)] = 1
    """What stays of a layer that loses channels is a multiple of this, as the hardware likes it: 4, 8."""
    iterations: Annotated[int, Field(ge=1, le=100)] = 1
    """In how many cuts; between two of them it is trained for `epochs_between`, unless `epochs` is 0, and scores are found anew."""
    epochs_between: Epochs = 1
    epochs: Epochs = 10
    """Of fine-tuning after the last cut."""
    learning_rate: LearningRate = 2e-3
    samples: Annotated[int, Field(ge=1)] = 1024
    """How many held-out samples sensitivities look at, and how many training or calibration samples a criterion."""
    recalibrate: bool = True
    """Whether BatchNorm statistics are taken anew from the calibration samples after each cut."""
    sparsity_epochs: Epochs = 2
    """Of training with a penalty on BatchNorm's scales before the first cut, with criterion batchnorm-scale only."""
    sparsity_penalty: Annotated[float, Field(ge=0, le=1)] = 1e-4
    """Of the sum of the scales' absolute values."""
    from_scratch: bool = False
    """Whether the narrow shape is also trained from random weights for as many epochs; the better one is kept, both scores are told."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if len(self.model_fields_set & {"ratio", "parameters", "macs"}) > 1:
            raise ValueError("ratio, parameters and macs are different ways to say how much goes: give one of them")
        return self


class Prune(TrainingTechnique[PruneParams]):
    """Removes the least important channels of convolutions and neurons of linear layers, then fine-tunes.

    Coupled layers (residual additions, depthwise and grouped convolutions, concatenations) lose the same channels, the outputs keep
    their shape, no layer loses its last channel: DepGraph: Towards Any Structural Pruning (Fang, Ma, Song, Mi, Wang, 2023).

    Criteria. l1: Pruning Filters for Efficient ConvNets (Li, Kadav, Durdanovic, Samet, Graf, 2017); l2: the same with squares. lamp:
    Layer-adaptive Sparsity for the Magnitude-based Pruning (Lee, Park, Mo, Ahn, Shin, 2021). fpgm: Filter Pruning via Geometric Median
    (He, Liu, Wang, Hu, Yang, 2019). taylor: Importance Estimation for Neural Network Pruning (Molchanov, Mallya, Tyree, Frosio, Kautz,
    2019). hessian: Optimal Brain Damage (LeCun, Denker, Solla, 1990) by channels. batchnorm-scale: Learning Efficient Convolutional
    Networks through Network Slimming (Liu, Li, Shen, Huang, Yan, Zhang, 2017). apoz: Network Trimming (Hu, Peng, Tai, Tang, 2016);
    activation: the mean magnitude instead. reconstruction: ThiNet (Luo, Wu, Lin, 2017). next-activation: how much each neuron alone
    moves what the next layer gives. random: for comparison.

    Scopes. sensitivity: each layer is cut alone to several widths, the held-out loss is measured, and those steps are taken first that
    cost the least loss for what they save. global: all channels compete by their scores. uniform: every layer loses the same share.
    from_scratch: Rethinking the Value of Network Pruning (Liu, Sun, Zhou, Huang, Darrell, 2019).
    """

    def train(self, model: "nn.Module", params: PruneParams, session: "Session") -> "nn.Module":
        """The narrower module; raises FaultError `unsupported_op` where nothing can go or the target is out of reach."""
        from compress.training.pruning import prune

        return prune(model, params, session)


TECHNIQUES = (Prune("prune", params=PruneParams, strength="ratio"),)
