"""Product quantisation of weights: subvectors of a codebook, permuted before and fine-tuned after."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from math import ceil, gcd, log2, prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from agent.schema import FaultError
from compress.training.loop import fit
from compress.training.quantisation_layers import Layer, executed
from compress.training.quantisation_permutation import CONVOLUTIONS, links, search
from compress.training.session import SEED, Session, outputs

if TYPE_CHECKING:
    from compress.techniques.permute_quantise import PermuteQuantiseParams

ROUNDS = 25
LEAST_PER_CODEWORD = 4
"""A codebook has no more codewords than a quarter of the subvectors, else it is no smaller than they are (Martinez et al. 2021)."""

SAME = 1e-4
CODE_BYTES = 2
"""Of a codebook's number: half precision, as in the paper."""


class Codebook(nn.Module):
    """A parametrisation: whatever the weight was, it consists of the codebook's subvectors now. `codes`: which one, [n]."""

    codes: Tensor

    def __init__(self, codebook: Tensor, codes: Tensor, shape: torch.Size) -> None:
        super().__init__()
        self.codebook = nn.Parameter(codebook)
        self.register_buffer("codes", codes)
        self.shape = shape

    def forward(self, weight: Tensor) -> Tensor:
        """The weight; a codeword's gradient is the sum of its places'."""
        return self.codebook[self.codes].reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Coded:
    """A layer's codes; `length`: numbers in a subvector."""

    layer: Layer
    codewords: int
    subvectors: int
    length: int
    error: float

    @property
    def size_bytes(self) -> int:
        """Of its codes and its codebook in half precision."""
        return ceil(self.subvectors * ceil(log2(max(2, self.codewords))) / 8) + self.codewords * self.length * CODE_BYTES


def train(model: nn.Module, params: "PermuteQuantiseParams", session: Session) -> nn.Module:
    """The module with its weights coded; raises FaultError `unsupported_op` where no layer has enough of them."""
    layers = [one for one in executed(model, session.calibration.take(torch.arange(1)).inputs) if _is_codable(one, params)]
    if not layers:
        message = "no Linear or convolution has so many weights that a codebook is smaller"
        raise FaultError("unsupported_op", message, "use subvectors that are shorter, or less codewords", "compress")
    permuted = permute(model, params, session)
    coded = [encode(one, params) for one in layers]
    before = session.score(model)
    scores = fit(model, session, params.epochs, params.learning_rate, weight_decay=0)
    for one in coded:
        parametrize.remove_parametrizations(one.layer.module, "weight", leave_parametrized=True)
    told = {one.layer.name: {"codewords": one.codewords, "subvector": one.length, "relative_error": round(one.error, 4)} for one in coded}
    size_bytes = sum(one.size_bytes for one in coded)
    weights = sum(one.subvectors * one.length for one in coded)
    session.tell(held_out=scores, coded_only=before, permuted=permuted, layers=told, coded_bytes=size_bytes, weights=weights)
    session.note(f"codes and codebooks of {weights} weights would take {size_bytes} bytes; no runtime's file stores them so")
    return model


def permute(model: nn.Module, params: "PermuteQuantiseParams", session: Session) -> int:
    """Permutes channels where it helps and the outputs stay the same; gives how many layers' inputs were."""
    before = outputs(model, session.calibration)
    generator = torch.Generator().manual_seed(SEED)
    count = 0
    for link in links(model) if params.swaps else []:
        weight, length = link.consumer.weight.detach(), subvector(link.consumer, params.subvector)
        if length == prod(weight.shape[2:]):  # each kernel by itself, whose order does not matter
            continue
        order = search(weight.flatten(1), link.channels, length, params.swaps, generator)
        link.permute(order)
        after = outputs(model, session.calibration)
        if float((after - before).abs().max()) > SAME * max(1.0, float(before.abs().max())):
            link.permute(order.argsort())
        else:
            count += 1
    return count


def subvector(layer: Any, wanted: int) -> int:
    """The length of a layer's subvectors: whole kernels of as many input channels as `wanted` numbers hold, and divide all of them."""
    kernel = prod(layer.weight.shape[2:])
    channels = max(1, wanted // kernel)
    return kernel * gcd(channels, layer.weight.shape[1])


def encode(layer: Layer, params: "PermuteQuantiseParams") -> Coded:
    """Finds a codebook and the codes, and puts them in the weight's place."""
    module: Any = layer.module
    weight = module.weight.detach()
    length = subvector(module, params.subvector)
    vectors = weight.reshape(-1, length)
    codebook, codes = k_means(vectors, min(params.codewords, len(vectors) // LEAST_PER_CODEWORD))
    error = float((codebook[codes] - vectors).square().sum() / vectors.square().sum().clamp_min(1e-12))
    parametrize.register_parametrization(module, "weight", Codebook(codebook, codes, weight.shape))
    return Coded(layer, len(codebook), len(vectors), length, error)


def k_means(vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A codebook [count, length] and the nearest codeword of each vector [n, length]: k-means++, then Lloyd's iterations.

    A codeword that nothing is nearest to moves to the vector that is farthest from its own.
    """
    generator = torch.Generator().manual_seed(SEED)
    codebook = vectors[torch.randint(len(vectors), (1,), generator=generator)]
    distance = (vectors - codebook).square().sum(1)
    while len(codebook) < count:
        chances = distance if float(distance.sum()) > 0 else torch.ones_like(distance)
        added = vectors[torch.multinomial(chances, 1, generator=generator)]
        codebook = torch.cat([codebook, added])
        distance = torch.minimum(distance, (vectors - added).square().sum(1))
    codes = _nearest(vectors, codebook)
    for _ in range(ROUNDS):
        sums = torch.zeros_like(codebook).index_add_(0, codes, vectors)
        counts = torch.bincount(codes, minlength=count)
        codebook = sums / counts.clamp_min(1)[:, None]
        far = (vectors - codebook[codes]).square().sum(1).argsort(descending=True)
        unused = (counts == 0).nonzero().flatten()
        codebook[unused] = vectors[far[: len(unused)]]
        before, codes = codes, _nearest(vectors, codebook)
        if torch.equal(before, codes):
            break
    return codebook.clone(), codes


def _nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    return torch.cat([torch.cdist(part, codebook).argmin(1) for part in vectors.split(8192)])


def _is_codable(layer: Layer, params: "PermuteQuantiseParams") -> bool:
    module: Any = layer.module
    if not isinstance(module, (nn.Linear, *CONVOLUTIONS)) or not layer.fed:
        return False
    return module.weight.numel() // subvector(module, params.subvector) >= params.codewords
