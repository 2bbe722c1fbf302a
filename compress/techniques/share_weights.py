"""Trained quantisation: the weights of a layer share few values, which are trained on."""

from typing import TYPE_CHECKING

from compress.techniques import Params, TrainingTechnique
from compress.techniques.deep_coding import Bits
from compress.techniques.train import Epochs, LearningRate

if TYPE_CHECKING:
    from torch import nn

    from compress.training.session import Session


class ShareWeightsParams(Params):
    """How many values the weights of a layer share, and how these are trained."""

    conv_bits: Bits = 8
    """A convolution has a codebook of at most 2 ** conv_bits values other than zero."""
    fc_bits: Bits = 5
    """The same for fully connected layers."""
    epochs: Epochs = 3
    learning_rate: LearningRate = 5e-4


class ShareWeights(TrainingTechnique[ShareWeightsParams]):
    """Clusters each layer's weights by k-means and trains the cluster centres; weights that are zero stay zero.

    A centre's gradient is the sum of its weights' gradients. Fits before deep-coding, whose codebooks then hold these values exactly where
    the export keeps them (it folds BatchNorm into convolutions). Han, Mao and Dally, Deep Compression: Compressing Deep Neural Networks
    with Pruning, Trained Quantization and Huffman Coding, 2016.
    """

    def train(self, model: "nn.Module", params: ShareWeightsParams, session: "Session") -> "nn.Module":
        """The same module, its weights shared; raises FaultError `unsupported_op` without linear or convolution layers."""
        from compress.training import weight_sharing
        from compress.training.loop import fit

        with weight_sharing.shared(model, params.conv_bits, params.fc_bits) as entries:
            before = session.score(model)
            scores = fit(model, session, params.epochs, params.learning_rate, weight_decay=0.0)
        session.tell(values=entries, clustered=before, held_out=scores)
        return model


TECHNIQUES = (ShareWeights("share-weights", params=ShareWeightsParams),)
