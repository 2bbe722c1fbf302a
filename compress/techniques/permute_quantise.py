"""Permute, quantise, fine-tune: the weights of a layer as subvectors of a small codebook."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from compress.techniques import Params, TrainingTechnique
from compress.techniques.train import Epochs, LearningRate

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session


class PermuteQuantiseParams(Params):
    """The codebooks, how long an order of channels is looked for, and how long they are fine-tuned."""

    subvector: Annotated[int, Field(ge=1, le=256)] = 8
    """Numbers in a subvector: along the inputs of a Linear, whole kernels of a convolution, at least one."""
    codewords: Annotated[int, Field(ge=2, le=4096)] = 256
    """Subvectors in a layer's codebook, at most a quarter of those that it has; a layer with fewer than `codewords` stays as it is."""
    swaps: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Exchanges of two channels that are tried for each layer; 0: nothing is permuted."""
    epochs: Epochs = 3
    learning_rate: LearningRate = 1e-3


class PermuteQuantise(TrainingTechnique[PermuteQuantiseParams]):
    """Permutes channels so that subvectors of weights are alike, which changes no output; codes them by k-means; trains the codebooks.

    Permuting works where torch.fx can trace the module. Martinez et al., "Permute, Quantize, and Fine-tune: Efficient Compression of Neural
    Networks", 2021; its annealed k-means is plain k-means++ here. What a file of codes would take is told, the model itself is float.
    """

    def train(self, model: "nn.Module", params: PermuteQuantiseParams, session: "Session") -> "nn.Module":
        """The same module, its weights from codebooks; raises FaultError `unsupported_op` where no layer has enough of them."""
        from compress.training import quantisation_products

        return quantisation_products.train(model, params, session)


TECHNIQUES = (PermuteQuantise("permute-quantise-finetune", params=PermuteQuantiseParams),)
