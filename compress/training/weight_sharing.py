"""Layers whose weights are entries of a codebook, so that training moves the entries."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from agent.schema import FaultError
from compress import codebook
from compress.techniques.deep_coding import CONV_RANK

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class SharedWeight(nn.Module):
    """A weight as a function of its codebook; `labels` as `codebook.share` gives them: 0 is zero and stays so."""

    labels: Tensor

    def __init__(self, centres: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.centres = centres
        self.register_buffer("labels", labels.ravel())
        self.shape = labels.shape

    def forward(self, centres: Tensor) -> Tensor:
        """The weight. Its backward pass adds up the gradients of all weights that share an entry (Deep Compression, equation 3)."""
        return torch.cat([centres.new_zeros(1), centres]).gather(0, self.labels).reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The codebook, which takes the weight's place among the module's parameters."""
        return self.centres


@contextmanager
def shared(model: nn.Module, conv_bits: int, fc_bits: int) -> Generator[Mapping[str, int]]:
    """Makes the codebooks the module's parameters meanwhile; gives how many entries each layer has. Afterwards it has plain weights.

    Raises FaultError `unsupported_op` for a module without linear or convolution layers.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, *CONVOLUTIONS))}
    if not layers:
        raise FaultError("unsupported_op", "share-weights finds no linear or convolution layer", "leave it out", "compress")
    entries: dict[str, int] = {}
    for name, layer in layers.items():
        weight = layer.weight.detach()
        bits = conv_bits if weight.dim() >= CONV_RANK else fc_bits
        centres, labels = codebook.share(weight.numpy(), 2**bits)
        entries[name] = len(centres)
        sharing = SharedWeight(torch.from_numpy(centres), torch.from_numpy(labels).reshape(weight.shape))
        parametrize.register_parametrization(layer, "weight", sharing, unsafe=True)  # it changes the shape: one number an entry
    try:
        yield entries
    finally:
        for layer in layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
