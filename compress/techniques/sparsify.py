"""Unstructured, block and N:M pruning with training: weights become zero and stay zero, the shape stays."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from compress.techniques import Params, TrainingTechnique
from compress.techniques.train import Epochs, LearningRate

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session

Side = Annotated[int, Field(ge=1, le=1024)]


class SparsifyParams(Params):
    """Which weights become zero, and how the others are trained on."""

    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """The share of the weights of convolutions, linear and recurrent layers that become zero; of `n:m` it is 1 - n/m."""
    criterion: Literal["magnitude", "obd", "random"] = "magnitude"
    """What makes a weight important; see `Sparsify`."""
    granularity: Literal["element", "block", "n:m"] = "element"
    """Single weights, blocks of them, or all but n of m that follow each other along the inputs."""
    scope: Literal["network", "layer"] = "network"
    """Whether `sparsity` is of all layers together or of each."""
    block: tuple[Side, Side] = (4, 4)
    """Outputs x inputs of a block; those at the edge are smaller."""
    n: Side = 2
    m: Side = 4
    iterations: Annotated[int, Field(ge=1, le=100)] = 1
    """In how many steps, each closer to the target by a cubic schedule; between two of them it is trained for `epochs_between`."""
    epochs_between: Epochs = 1
    epochs: Epochs = 3
    """Of training after the last step."""
    learning_rate: LearningRate = 1e-3
    samples: Annotated[int, Field(ge=1)] = 256
    """How many training samples obd looks at."""

    @model_validator(mode="after")
    def _some_remain(self) -> Self:
        if self.granularity == "n:m" and self.n >= self.m:
            raise ValueError("n must be less than m")
        if self.granularity == "n:m" and "sparsity" in self.model_fields_set and abs(self.sparsity - 1 + self.n / self.m) > 1e-9:
            raise ValueError(f"{self.n} of {self.m} is a sparsity of {1 - self.n / self.m:g}, leave `sparsity` out")
        return self


class Sparsify(TrainingTechnique[SparsifyParams]):
    """Sets the least important weights to zero and holds them there while the others are trained; the file is smaller once coded.

    magnitude: Learning both Weights and Connections for Efficient Neural Networks (Han, Pool, Tran, Dally, 2015); with scope network
    layers are compared by Layer-adaptive Sparsity for the Magnitude-based Pruning (Lee, Park, Mo, Ahn, Shin, 2021). obd: weight
    squared x the diagonal of the Fisher information, Optimal Brain Damage (LeCun, Denker, Solla, 1990). random: for comparison.
    iterations: the cubic schedule of To Prune, or Not to Prune (Zhu, Gupta, 2017). n:m: Accelerating Sparse Deep Neural Networks
    (Mishra, Latorre, Pool, Stosic, Stosic, Venkatesh, Yu, Micikevicius, 2021), along a convolution's input channels; inputs that are
    left over at the end stay.
    """

    def train(self, model: "nn.Module", params: SparsifyParams, session: "Session") -> "nn.Module":
        """The same module with zeros; raises FaultError `unsupported_op` where no weight becomes one."""
        from compress.training.pruning_weights import sparsify

        return sparsify(model, params, session)


TECHNIQUES = (Sparsify("sparsify", params=SparsifyParams, strength="sparsity"),)
