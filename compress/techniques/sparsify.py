"""Unstructured, block and N:M pruning with training: weights become zero and stay zero, the shape stays."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from compress.techniques import TrainingTechnique
from compress.techniques.onnx_sparsify import SparsifyParams
from compress.techniques.train import Epochs, LearningRate

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session


class TrainedSparsifyParams(SparsifyParams):
    """Which weights become zero, and how the others are trained on."""

    criterion: Literal["magnitude", "obd", "random"] = "magnitude"
    """What makes a weight important; see `Sparsify`."""
    iterations: Annotated[int, Field(ge=1, le=100)] = 1
    """In how many steps, each closer to the target by a cubic schedule; between two of them it is trained for `epochs_between`."""
    epochs_between: Epochs = 1
    epochs: Epochs = 3
    """Of training after the last step."""
    learning_rate: LearningRate = 1e-3
    samples: Annotated[int, Field(ge=1)] = 256
    """How many training samples obd looks at."""


class Sparsify(TrainingTechnique[TrainedSparsifyParams]):
    """Sets the least important weights to zero and holds them there while the others are trained; the file is smaller once coded.

    magnitude: Learning both Weights and Connections for Efficient Neural Networks (Han, Pool, Tran, Dally, 2015); with scope network
    layers are compared by Layer-adaptive Sparsity for the Magnitude-based Pruning (Lee, Park, Mo, Ahn, Shin, 2021). obd: weight
    squared x the diagonal of the Fisher information, Optimal Brain Damage (LeCun, Denker, Solla, 1990). random: for comparison.
    iterations: the cubic schedule of To Prune, or Not to Prune (Zhu, Gupta, 2017). n:m: Accelerating Sparse Deep Neural Networks
    (Mishra, Latorre, Pool, Stosic, Stosic, Venkatesh, Yu, Micikevicius, 2021), along a convolution's input channels; inputs that are
    left over at the end stay.
    """

    def train(self, model: "nn.Module", params: TrainedSparsifyParams, session: "Session") -> "nn.Module":
        """The same module with zeros; raises FaultError `unsupported_op` where no weight becomes one."""
        from compress.training.pruning_weights import sparsify

        return sparsify(model, params, session)


TECHNIQUES = (Sparsify("sparsify", params=TrainedSparsifyParams, strength="sparsity"),)
