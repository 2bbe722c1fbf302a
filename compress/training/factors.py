"""Layers as products of smaller ones: truncated SVD, Tucker-2, CP and spatial SVD.

Every first factor has a bias of zeros: without one a Linear becomes a MatMul, which collapses in int8 on TFLite.
"""
# torch and tensorly are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
WINDOW = ("kernel_size", "stride", "padding", "dilation")
CP_RANKS = 8
OWN_SHARE = 1e-4
"""How much directions count that the samples do not show but the weights have."""

ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layer at these ranks: its parameters, and what it keeps: the share of the weights' squared norm, or a score."""

    ranks: tuple[int, ...]
    parameters: int
    quality: float


class Decomposition(Protocol):
    """A way to factorise one layer."""

    kind: str

    def parameters(self, ranks: tuple[int, ...]) -> int:
        """How many parameters it has at these ranks."""
        ...

    def candidates(self) -> list[Candidate]:
        """What there is to choose from, from little to much."""
        ...

    def build(self, ranks: tuple[int, ...]) -> nn.Module:
        """The layers that replace it."""
        ...


@dataclass(frozen=True, slots=True)
class Moments:
    """Of what a layer gives over all samples and places: mean [outputs] and covariance [outputs, outputs], float64."""

    mean: Tensor
    covariance: Tensor


class Svd:
    """A Linear or a convolution as one to fewer outputs, and one with kernel 1: W ~ U (U'W).

    U: the left singular vectors, which gives the best approximation of its rank (Eckart and Young, 1936); or with `given` the principal
    directions of what the layer gives, the bias making up for what is lost on average (Zhang, Zou, He and Sun, Accelerating Very Deep
    Convolutional Networks for Classification and Detection, 2016). Channels between the two are scaled to be alike.
    """

    kind = "svd"

    def __init__(self, layer: nn.Linear | Conv, given: Moments | None = None) -> None:
        self.layer = layer
        self.weight = layer.weight.detach().flatten(1).double()
        self.outputs, self.inputs = self.weight.shape
        self.mean = None if given is None else given.mean
        if given is None:
            self.directions, self.values, _ = torch.linalg.svd(self.weight, full_matrices=False)
        else:
            own = self.weight @ self.weight.T
            joint = given.covariance / given.covariance.trace().clamp_min(1e-300) + OWN_SHARE * own / own.trace().clamp_min(1e-300)
            squares, vectors = torch.linalg.eigh(joint)
            self.directions, self.values = vectors.flip(1), squares.flip(0).clamp_min(0).sqrt()

    def parameters(self, ranks: tuple[int, ...]) -> int:
        """Of both factors, with the zero bias between them."""
        return ranks[0] * (self.inputs + self.outputs + 1) + (self.outputs if self._is_biased else 0)

    def candidates(self) -> list[Candidate]:
        """Every rank."""
        return by_rank(self, energies(self.values))

    def build(self, ranks: tuple[int, ...]) -> nn.Module:
        """Two layers of the same kind; kernel, stride, padding and dilation go to the first."""
        rank, directions = ranks[0], self.directions[:, : ranks[0]]
        if isinstance(self.layer, nn.Linear):
            first, second = nn.Linear(self.inputs, rank), nn.Linear(rank, self.outputs, bias=self._is_biased)
        else:
            first = conv(self.layer, self.layer.in_channels, rank, **window(self.layer))
            second = conv(self.layer, rank, self.outputs, bias=self._is_biased)
        scale = self.values[:rank].sqrt() if self.mean is None else self.values[:rank].clamp_min(1e-6 * self.values[0])
        fill(first, directions.T @ self.weight / scale.clamp_min(1e-30)[:, None], None)
        fill(second, directions * scale, self._bias(directions))
        return nn.Sequential(first, second)

    @property
    def _is_biased(self) -> bool:
        return self.mean is not None or biases(self.layer) > 0

    def _bias(self, directions: Tensor) -> Tensor | None:
        bias = self.layer.bias.detach().double() if isinstance(self.layer.bias, Tensor) else None
        if self.mean is None:
            return bias
        lost = self.mean if bias is None else self.mean - bias
        return self.mean - directions @ (directions.T @ lost)


class Spatial:
    """A k x l Conv2d as k x 1 and then 1 x l (Jaderberg, Vedaldi and Zisserman, Speeding up CNNs with low rank expansions, 2014)."""

    kind = "spatial"

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer
        self.outputs, self.inputs, self.height, self.width = layer.weight.shape
        matrix = layer.weight.detach().double().permute(1, 2, 0, 3).flatten(2).flatten(0, 1)  # [inputs x height, outputs x width]
        self.left, self.values, self.right = torch.linalg.svd(matrix, full_matrices=False)

    def parameters(self, ranks: tuple[int, ...]) -> int:
        """Of both convolutions."""
        return ranks[0] * (self.inputs * self.height + self.outputs * self.width + 1) + biases(self.layer)

    def candidates(self) -> list[Candidate]:
        """Every rank."""
        return by_rank(self, energies(self.values))

    def build(self, ranks: tuple[int, ...]) -> nn.Module:
        """The vertical convolution, with its share of stride, padding and dilation, and the horizontal one."""
        rank, (vertical, horizontal) = ranks[0], (one_axis(self.layer, 0), one_axis(self.layer, 1))
        first = conv(self.layer, self.inputs, rank, **vertical)
        second = conv(self.layer, rank, self.outputs, bias=biases(self.layer) > 0, **horizontal)
        root = self.values[:rank].sqrt()
        fill(first, (self.left[:, :rank] * root).T.reshape(rank, self.inputs, self.height, 1), None)
        turned = (self.right[:rank].T * root).reshape(self.outputs, self.width, rank)
        fill(second, turned.permute(0, 2, 1).unsqueeze(2), self.layer.bias)
        return nn.Sequential(first, second)


class Tucker:
    """A convolution as 1 x 1, k x k, 1 x 1 with fewer channels within (Kim et al., Compression of Deep Convolutional Neural Networks
    for Fast and Low Power Mobile Applications, 2016): Tucker-2 by higher-order orthogonal iteration.
    """

    kind = "tucker"

    def __init__(self, layer: Conv) -> None:
        self.layer = layer
        self.weight = layer.weight.detach().double()
        self.outputs, self.inputs = self.weight.shape[:2]
        self.taps = prod(layer.kernel_size)

    def parameters(self, ranks: tuple[int, ...]) -> int:
        """Of the three convolutions; `ranks`: channels after and before the k x k one."""
        after, before = ranks
        return before * (self.inputs + 1) + after * (before * self.taps + 1) + self.outputs * after + biases(self.layer)

    def candidates(self) -> list[Candidate]:
        """The ranks at which both modes keep the same share of the squared norm."""
        modes = [energies(torch.linalg.svdvals(self.weight.transpose(0, mode).flatten(1))) for mode in (0, 1)]
        found = {tuple(at_least(mode, level) for mode in modes): level for level in sorted({*modes[0], *modes[1]}, reverse=True)}
        possible = {ranks: level for ranks, level in found.items() if max(ranks) <= min(ranks) * self.taps}
        return sorted(
            (Candidate(ranks, self.parameters(ranks), level) for ranks, level in possible.items()), key=lambda one: one.parameters
        )

    def build(self, ranks: tuple[int, ...]) -> nn.Module:
        """Three convolutions; the middle one keeps kernel, stride, padding and dilation."""
        from tensorly.decomposition import partial_tucker

        (core, (left, right)), _ = partial_tucker(self.weight.numpy(), list(ranks), modes=[0, 1], n_iter_max=ITERATIONS)
        after, before = ranks
        layers = [
            conv(self.layer, self.inputs, before),
            conv(self.layer, before, after, **window(self.layer)),
            conv(self.layer, after, self.outputs, bias=biases(self.layer) > 0),
        ]
        for one, weight, bias in zip(layers, (tensor(right).T, tensor(core), tensor(left)), (None, None, self.layer.bias), strict=True):
            fill(one, weight, bias)
        return nn.Sequential(*layers)


class Cp:
    """A convolution as 1 x 1, one depthwise convolution along each axis, 1 x 1 (Lebedev et al., Speeding-up Convolutional Neural Networks
    Using Fine-tuned CP-Decomposition, 2015), by alternating least squares.
    """

    kind = "cp"

    def __init__(self, layer: Conv) -> None:
        self.layer = layer
        self.weight: NDArray[np.float64] = layer.weight.detach().double().numpy()

    def parameters(self, ranks: tuple[int, ...]) -> int:
        """Of all its convolutions, the zero biases of all but the last included."""
        axes = self.layer.kernel_size
        return ranks[0] * (sum(self.weight.shape) + 1 + len(axes)) + biases(self.layer)

    def candidates(self) -> list[Candidate]:
        """A few ranks up to where nothing is gained: each takes a decomposition of its own."""
        most = max(1, self.weight.size // (sum(self.weight.shape) + 1 + len(self.layer.kernel_size)))
        ranks = sorted({max(1, most * step // CP_RANKS) for step in range(1, CP_RANKS + 1)})
        kept = np.maximum.accumulate([self._kept(rank) for rank in ranks])
        return [Candidate((rank,), self.parameters((rank,)), float(share)) for rank, share in zip(ranks, kept, strict=True)]

    def build(self, ranks: tuple[int, ...]) -> nn.Module:
        """A convolution 1 x 1, one along each axis, and another 1 x 1."""
        rank, (left, right, *axes) = ranks[0], self._factors(ranks[0])
        layers = [conv(self.layer, self.weight.shape[1], rank)]
        fill(layers[0], tensor(right).T, None)
        for axis, factor in enumerate(axes):
            layers.append(conv(self.layer, rank, rank, groups=rank, **one_axis(self.layer, axis)))
            fill(layers[-1], tensor(factor).T, None)
        layers.append(conv(self.layer, rank, self.weight.shape[0], bias=biases(self.layer) > 0))
        fill(layers[-1], tensor(left), self.layer.bias)
        return nn.Sequential(*layers)

    def _factors(self, rank: int) -> list[NDArray[np.float64]]:
        from tensorly.decomposition import parafac

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it fills up with random vectors where the rank is above an axis's length
            weights, factors = parafac(self.weight, rank, n_iter_max=ITERATIONS, init="svd", random_state=0)
        return [factors[0] * weights, *factors[1:]]

    def _kept(self, rank: int) -> float:
        factors = self._factors(rank)
        axes = "abcde"[: len(factors)]
        whole = np.einsum(",".join(f"{axis}r" for axis in axes) + f"->{axes}", *factors)
        return float(1 - np.square(self.weight - whole).sum() / np.square(self.weight).sum())


def energies(values: Tensor) -> list[float]:
    """The shares of the squared norm that the first 1, 2, ... singular values hold."""
    squares = values.double().square()
    return (squares.cumsum(0) / squares.sum().clamp_min(1e-300)).tolist()


def at_least(shares: Sequence[float], level: float) -> int:
    """The smallest rank that holds this share."""
    return next((at for at, share in enumerate(shares, 1) if share >= level), len(shares))


def by_rank(one: Decomposition, shares: Sequence[float]) -> list[Candidate]:
    """A candidate for each rank, with the share that it keeps."""
    return [Candidate((rank,), one.parameters((rank,)), share) for rank, share in enumerate(shares, 1)]


def biases(layer: nn.Module) -> int:
    """The length of its bias, 0 without one."""
    return layer.bias.numel() if isinstance(layer.bias, Tensor) else 0


def conv(like: Conv, inputs: int, outputs: int, kernel_size: Any = 1, **options: Any) -> Conv:
    """A convolution over as many axes."""
    return type(like)(inputs, outputs, kernel_size, **options)


def window(layer: Conv) -> dict[str, Any]:
    """Kernel, stride, padding and dilation."""
    return {name: getattr(layer, name) for name in WINDOW}


def one_axis(layer: Conv, axis: int) -> dict[str, Any]:
    """Kernel, stride, padding and dilation of a convolution that does the layer's work along one axis only."""

    def only(values: Any, otherwise: int) -> Any:
        return values if isinstance(values, str) else tuple(values[at] if at == axis else otherwise for at in range(len(layer.kernel_size)))

    return {name: only(getattr(layer, name), 0 if name == "padding" else 1) for name in WINDOW}


def tensor(array: NDArray[np.float64]) -> Tensor:
    """The same numbers as a tensor of its own."""
    return torch.from_numpy(np.ascontiguousarray(array))


@torch.no_grad()
def fill(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Sets weight, reshaped to the layer's, and bias, zeros for None."""
    own: Any = layer
    own.weight.copy_(weight.reshape(own.weight.shape))
    if own.bias is not None:
        own.bias.copy_(torch.zeros_like(own.bias) if bias is None else bias)
