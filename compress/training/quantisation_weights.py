"""Quantisers of weights: each gives weights on its grid, exactly, and lets gradients through to the float weights behind them.

All are parametrisations of `torch.nn.utils.parametrize`: float weights in, weights of the same shape on the grid out. `axis` is the one
that has a scale for each index (the output channels); None: one scale for the whole tensor.
"""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from torch import Tensor, nn

LEAST_SCALE = 1e-12
TWN_THRESHOLD = 0.7
TTQ_THRESHOLD = 0.05
BETA2, EPSILON = 0.999, 1e-8
ALTERNATIONS = 10


def straight_through(value: Tensor, source: Tensor) -> Tensor:
    """`value` to the last bit; its gradient goes to `source` unchanged, besides what `value` itself depends on.

    Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
    """
    return value + (source - source.detach())


def round_through(values: Tensor) -> Tensor:
    """The nearest integers, halves to even, with the gradient of the identity."""
    return straight_through(values.detach().round(), values)


class WeightQuantiser(nn.Module):
    """What the quantisers share: the axes that a scale covers."""

    def __init__(self, weight: Tensor, bits: int, axis: int | None) -> None:
        super().__init__()
        self.bits = bits
        self.covered = [at for at in range(weight.dim()) if at != axis]

    @property
    def limit(self) -> int:
        """The largest integer of the symmetric grid, such as 127."""
        return 2 ** (self.bits - 1) - 1

    def peak(self, values: Tensor) -> Tensor:
        """The largest magnitude under each scale."""
        return values.detach().abs().amax(self.covered, keepdim=True).clamp_min(LEAST_SCALE)

    def mean(self, values: Tensor) -> Tensor:
        """The mean magnitude under each scale."""
        return values.abs().mean(self.covered, keepdim=True).clamp_min(LEAST_SCALE)


class MinMax(WeightQuantiser):
    """Symmetric integers -limit..limit, the largest magnitude at the end: the grid that post-training quantisers derive again.

    Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper", 2018.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """The weights on the grid; the gradient is the identity's."""
        scale = self.peak(weight) / self.limit
        return round_through(weight / scale).clamp(-self.limit, self.limit) * scale


class LearnedStep(WeightQuantiser):
    """LSQ: the step size is learned with the weights, and what is outside the range is clipped.

    Esser et al., "Learned Step Size Quantization", 2020. Its logarithm is what is learned, for Adam's steps have no regard to a
    parameter's size; LSQ's gradient scale is left out, which Adam divides away.
    """

    start: Tensor

    def __init__(self, weight: Tensor, bits: int, axis: int | None) -> None:
        super().__init__(weight, bits, axis)
        self.register_buffer("start", 2 * self.mean(weight.detach()) / self.limit**0.5)
        self.log_ratio = nn.Parameter(torch.zeros_like(self.start))

    def forward(self, weight: Tensor) -> Tensor:
        """The weights on the grid of 2 ** bits integers."""
        scale = self.start * self.log_ratio.exp()
        return round_through((weight / scale).clamp(-self.limit - 1, self.limit)) * scale


class DoReFa(WeightQuantiser):
    """2 ** bits levels without zero, equidistant over the range of tanh(w), brought back to the weights' largest magnitude.

    Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients", 2016; there the range stays
    -1 to 1, which a network that was trained before would not survive.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """The weights on the grid."""
        levels = 2**self.bits - 1
        bent = torch.tanh(weight)
        unit = bent / (2 * self.peak(bent)) + 0.5
        return (round_through(unit * levels) * (2 / levels) - 1) * self.peak(weight)


class Binary(WeightQuantiser):
    """Signs times the mean magnitude.

    Courbariaux, Bengio, David, "BinaryConnect: Training Deep Neural Networks with binary weights during propagations", 2015, and
    Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks", 2016 (the scale).
    """

    def forward(self, weight: Tensor) -> Tensor:
        """The weights on two values; no gradient from the sign where a weight is beyond -1..1."""
        return straight_through(signs(weight), weight.clamp(-1, 1)) * self.mean(weight)


class Ternary(WeightQuantiser):
    """-a, 0 and a: zero up to 0.7 of the mean magnitude, a is the mean magnitude of the others.

    Li, Zhang, Liu, "Ternary Weight Networks", 2016.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """The weights on three values; the gradient is the identity's."""
        magnitudes = weight.detach().abs()
        kept = (magnitudes > TWN_THRESHOLD * self.mean(magnitudes)).to(weight.dtype)
        count = kept.sum(self.covered, keepdim=True).clamp_min(1)
        scale = (magnitudes * kept).sum(self.covered, keepdim=True) / count
        return straight_through(scale * kept * signs(weight), weight)


class TrainedTernary(WeightQuantiser):
    """-n, 0 and p, where n and p are learned: zero up to 0.05 of the largest magnitude.

    Zhu et al., "Trained Ternary Quantization", 2017.
    """

    start: Tensor

    def __init__(self, weight: Tensor, bits: int, axis: int | None) -> None:
        super().__init__(weight, bits, axis)
        self.register_buffer("start", self.mean(weight.detach()))
        self.log_positive = nn.Parameter(torch.zeros_like(self.start))
        self.log_negative = nn.Parameter(torch.zeros_like(self.start))

    def forward(self, weight: Tensor) -> Tensor:
        """The weights on three values; a weight's gradient is scaled by the value that stands for it, by 1 at zero."""
        least = TTQ_THRESHOLD * self.peak(weight)
        positive, negative = (weight > least).to(weight.dtype), (weight < -least).to(weight.dtype)
        up, down = self.start * self.log_positive.exp(), self.start * self.log_negative.exp()
        slope = (up * positive + down * negative + (1 - positive - negative)).detach()
        return straight_through(up * positive - down * negative, weight * slope)


class LossAware(WeightQuantiser):
    """The grid that changes the loss least: each weight's error counts by the loss's curvature there, Adam's second moment.

    Hou, Yao, Kwok, "Loss-aware Binarization of Deep Networks", 2017 (1 bit), and Hou, Kwok, "Loss-aware Weight Quantization of Deep
    Networks", 2018 (2 bits: -a, 0, a; more bits: equidistant). The optimiser's step is the proximal Newton step, `forward` its projection.
    """

    second_moment: Tensor
    updates: Tensor

    def __init__(self, weight: Tensor, bits: int, axis: int | None) -> None:
        super().__init__(weight, bits, axis)
        self.register_buffer("second_moment", torch.zeros_like(weight))
        self.register_buffer("updates", torch.zeros(()))

    def observe(self, gradient: Tensor) -> None:
        """Takes the gradient of one update into the second moment."""
        self.second_moment.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        self.updates += 1

    def curvature(self) -> Tensor:
        """The square root of the second moment, as Adam has it; ones before the first update."""
        correction = 1 - BETA2**self.updates
        return (self.second_moment / correction).sqrt() + EPSILON if self.updates > 0 else torch.ones_like(self.second_moment)

    def forward(self, weight: Tensor) -> Tensor:
        """The weights on the grid with the least weighted squared error; the gradient is the identity's."""
        with torch.no_grad():
            value = project(weight, self.curvature(), self.bits, self.covered)
        return straight_through(value, weight)


class Blocked(nn.Module):
    """Another quantiser over blocks of a matrix's inputs: each block of each output has a scale; the last one may be shorter."""

    def __init__(self, weight: Tensor, bits: int, block: int, method: "type[WeightQuantiser]") -> None:
        super().__init__()
        self.block = block
        self.inner = method(self.rows(weight), bits, 0)

    def rows(self, weight: Tensor) -> Tensor:
        """The blocks, [outputs * blocks, block], filled up with zeros."""
        missing = -weight.shape[1] % self.block
        return nn.functional.pad(weight, (0, missing)).reshape(-1, self.block)

    def forward(self, weight: Tensor) -> Tensor:
        """The weights on the grids of their blocks."""
        return self.inner(self.rows(weight)).reshape(len(weight), -1)[:, : weight.shape[1]]


def project(weight: Tensor, curvature: Tensor, bits: int, covered: list[int]) -> Tensor:
    """scale * integers that make sum(curvature * (weight - scale * integers) ** 2) small over the axes `covered`.

    For one bit (signs) that is the minimum; else integers and scale are chosen in turn, which never makes it larger.
    """
    if bits == 1:
        grid = signs(weight)
        return grid * _fitted(weight, grid, curvature, covered)
    limit = 2 ** (bits - 1) - 1
    scale = 1.5 * weight.abs().mean(covered, keepdim=True).clamp_min(LEAST_SCALE) / limit ** (2 / 3)  # near the best for normal weights
    grid = weight
    for _ in range(ALTERNATIONS):
        grid = (weight / scale).round().clamp(-limit, limit)
        scale = _fitted(weight, grid, curvature, covered)
    return grid * scale


def _fitted(weight: Tensor, grid: Tensor, curvature: Tensor, covered: list[int]) -> Tensor:
    """The scale of least weighted squares."""
    weighted = curvature * grid
    squares = (weighted * grid).sum(covered, keepdim=True)
    return ((weighted * weight).sum(covered, keepdim=True) / squares.clamp_min(LEAST_SCALE)).clamp_min(LEAST_SCALE)


def signs(values: Tensor) -> Tensor:
    """-1 or 1, 1 for zero; no gradient."""
    return torch.where(values.detach() >= 0, 1.0, -1.0)


METHODS: dict[str, type[WeightQuantiser]] = {
    "minmax": MinMax,
    "lsq": LearnedStep,
    "dorefa": DoReFa,
    "binary": Binary,
    "ternary": Ternary,
    "trained-ternary": TrainedTernary,
    "loss-aware": LossAware,
}
