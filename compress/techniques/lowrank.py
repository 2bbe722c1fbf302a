"""Low rank with training: layers as products of smaller ones, and trained on."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from compress.techniques import Params, TrainingTechnique
from compress.techniques.train import Epochs, LearningRate

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session

Share = Annotated[float, Field(gt=0, lt=1)]
Rank = Annotated[int, Field(ge=1)]


class LowRankParams(Params):
    """One of `ratio`, `energy` and `rank` says how far; without any, half of the parameters go."""

    ratio: Share | None = None
    """The share of the layers' parameters to do without: those whose absence costs the least quality, over all layers."""
    energy: Annotated[float, Field(gt=0, le=1)] | None = None
    """The share of its weights' squared norm that each layer keeps at least."""
    rank: Rank | dict[str, Rank] | None = None
    """The rank of every layer, or of layers by name, which are then the only ones."""
    by: Literal["energy", "sensitivity"] = "energy"
    """The quality that `ratio` pays with: the energy of each layer, or the held-out score with that layer alone factorised."""
    conv: Literal["tucker", "cp", "spatial", "channel"] = "tucker"
    """What is made of convolutions: `channel` is one to fewer channels and one with kernel 1. Those with kernel 1 become two of them."""
    weighting: Literal["activations", "none"] = "activations"
    """Whether linear layers, kernels of 1 and `conv: channel` keep most of what they give for training samples, or of their weights."""
    recurrent: Literal["input", "all"] = "input"
    """Of RNN, GRU and LSTM the weights from the input, or those from step to step too: these are unrolled over the sequence."""
    layers: tuple[str, ...] = ()
    """The only layers to look at; all without."""
    epochs: Epochs = 3
    learning_rate: LearningRate = 1e-3

    @model_validator(mode="after")
    def _one_measure(self) -> "LowRankParams":
        if sum(one is not None for one in (self.ratio, self.energy, self.rank)) > 1:
            raise ValueError("give one of ratio, energy and rank")
        return self


class LowRank(TrainingTechnique[LowRankParams]):
    """Layers as products of smaller ones, where that has fewer parameters; then all is trained on.

    Linear layers by truncated SVD (Xue, Li and Gong, Restructuring of Deep Neural Network Acoustic Models, 2013), by what they give
    rather than by their weights (Zhang, Zou, He and Sun, Accelerating Very Deep Convolutional Networks for Classification and Detection,
    2016). Convolutions by Tucker-2 (Kim et al., Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile
    Applications, 2016), CP (Lebedev et al., Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition, 2015) or spatial
    SVD (Jaderberg, Vedaldi and Zisserman, Speeding up Convolutional Neural Networks with Low Rank Expansions, 2014). Recurrent layers by
    SVD (Prabhavalkar et al., On the Compression of Recurrent Neural Networks with an Application to LVCSR, 2016).
    """

    def train(self, model: "nn.Module", params: LowRankParams, session: "Session") -> "nn.Module":
        """The same module with factors in the place of layers; raises FaultError `unsupported_op` where none gains."""
        from compress.training.lowrank import factorised

        return factorised(model, params, session)


TECHNIQUES = (LowRank("lowrank", params=LowRankParams, strength="ratio"),)
