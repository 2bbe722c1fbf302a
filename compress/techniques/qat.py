"""Quantisation-aware training: bit widths of weights and activations of their own, down to one."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from compress.techniques import Params, TrainingTechnique
from compress.techniques.train import Epochs, LearningRate

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session

FITTING = {
    "auto": (1, 2, 3, 4, 6, 8),
    "minmax": (2, 3, 4, 6, 8),
    "lsq": (2, 3, 4, 6, 8),
    "dorefa": (2, 3, 4, 6, 8),
    "binary": (1,),
    "ternary": (2,),
    "trained-ternary": (2,),
    "loss-aware": (1, 2, 3, 4),
}
"""The bits of weights that each method has a grid for."""


class QatParams(Params):
    """The grids, how their ranges come about, and how long it trains."""

    weight_bits: Literal[1, 2, 3, 4, 6, 8] = 8
    activation_bits: Literal[1, 2, 4, 6, 8, 32] = 8
    """Of each layer's input; 32: float. Recurrent and attention layers keep float inputs."""
    first_last_bits: Literal[2, 4, 8] | None = None
    """Of the first and the last layer that run; None: 8 where weights or activations have fewer than 4 bits, else as the others."""
    weight_method: Literal["auto", "minmax", "lsq", "dorefa", "binary", "ternary", "trained-ternary", "loss-aware"] = "auto"
    """auto: minmax from 6 bits on, lsq below, binary for 1 bit. What stores weights in 8 or 4 bits finds minmax grids again, others not."""
    activation_method: Literal["auto", "minmax", "percentile", "lsq", "pact"] = "auto"
    """auto: minmax from 6 bits on, lsq below."""
    granularity: Literal["auto", "channel", "tensor", "block"] = "auto"
    """What a scale of weights covers; auto: a channel of a convolution, and the whole of any other layer, as int8 TFLite has it; block: a
    channel of a convolution, and so many inputs of an output of any other layer, as int4 ONNX has it."""
    block: Annotated[int, Field(ge=16, le=1024)] = 32
    symmetric_activations: bool = False
    percentile: Annotated[float, Field(ge=90, lt=100)] = 99.9
    """Of activation_method percentile: the share of values that the range has at each end, in percent."""
    fold_batch_norm: Literal["before", "after"] = "before"
    """When BatchNorm is merged into the layer before it; after: it trains too, and scales per channel take its factors up."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The weight of the float model's softened class probabilities, which are learned from too; the rest is the task's own loss. Mishra,
    Marr, "Apprentice: Using Knowledge Distillation Techniques To Improve Low-Precision Network Accuracy", 2018."""
    temperature: Annotated[float, Field(ge=1, le=100)] = 4.0
    epochs: Epochs = 3
    learning_rate: LearningRate = 1e-3

    @model_validator(mode="after")
    def _check(self) -> Self:
        fitting = FITTING[self.weight_method]
        if self.weight_bits not in fitting:
            known = ", ".join(map(str, fitting))
            raise ValueError(f"weight_method {self.weight_method} is for weight_bits {known}, not {self.weight_bits}")
        if self.weight_method == "loss-aware" and self.granularity == "block":
            raise ValueError("weight_method loss-aware has no scales per block")
        if self.fold_batch_norm == "after" and self.granularity not in ("channel", "block"):
            raise ValueError("fold_batch_norm after wants granularity channel: factors of channels leave no grid of the whole tensor")
        return self


class Qat(TrainingTechnique[QatParams]):
    """Trains with rounded weights and activations in the forward pass, gradients straight through (Jacob et al., "Quantization and
    Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018); gives a float module with weights on the grid.

    The methods and their papers are in `compress.training.quantisation_weights` and `quantisation_activations`. Activations of 8 bits are
    left to an `int8-static` that follows; below, Clip and Round stay in the model, so that every runtime computes what was trained.
    """

    def train(self, model: "nn.Module", params: QatParams, session: "Session") -> "nn.Module":
        """The same module, its weights on their grids; raises FaultError `unsupported_op` where it has no layer to quantise."""
        from compress.training import quantisation

        return quantisation.train(model, params, session)


TECHNIQUES = (Qat("qat", params=QatParams),)
