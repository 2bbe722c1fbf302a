"""Quantisers of activations, one for the input of each layer: ranges from what was seen or learned, and what is left of them in the end."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.training.quantisation_weights import LEAST_SCALE, round_through, signs, straight_through

MOMENTUM = 0.05
"""The share of a batch in the running range."""


@dataclass(frozen=True, slots=True)
class Range:
    """What an activation was seen to be: the ends (0 between them) and the mean magnitude."""

    low: float
    high: float
    mean: float


def observed(values: Tensor, percentile: float) -> Range:
    """The range of a batch: without the tails beyond the percentile (100: none); 99.9 leaves out 0.1 % of the values at each end."""
    flat = values.detach().float().flatten()
    cut = max(1, round(flat.numel() * (100 - percentile) / 100))
    low = float(flat.kthvalue(cut).values) if percentile < 100 else float(flat.min())
    high = float(flat.kthvalue(flat.numel() - cut + 1).values) if percentile < 100 else float(flat.max())
    return Range(min(low, 0.0), max(high, 0.0), float(flat.abs().mean()))


def joined(ranges: Iterable[Range]) -> Range:
    """The range that holds all of them; the mean of their means."""
    every = list(ranges)
    return Range(min(one.low for one in every), max(one.high for one in every), sum(one.mean for one in every) / len(every))


@dataclass(frozen=True, slots=True)
class Grid:
    """Integers `low`..`high` with zero among them, for an activation of so many bits."""

    low: int
    high: int

    @staticmethod
    def of(seen: Range, bits: int, symmetric: bool) -> "Grid":
        """Symmetric: -limit..limit. Else 2 ** bits integers, of which negative ones stand for the negative share of the range."""
        if symmetric:
            limit = max(1, 2 ** (bits - 1) - 1)
            return Grid(-limit, limit)
        steps = 2**bits - 1
        below = round(steps * -seen.low / max(seen.high - seen.low, LEAST_SCALE))
        return Grid(-below, steps - below)

    def scale(self, seen: Range) -> float:
        """The step with which the grid covers the range."""
        needed = [end / at for end, at in ((seen.low, self.low), (seen.high, self.high)) if at]
        return max(*needed, LEAST_SCALE)


class ActivationQuantiser(nn.Module):
    """Fake quantisation: float in, float on the grid out. `scale` is the step."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def scale(self) -> Tensor:
        """The step, a scalar."""
        raise NotImplementedError

    def forward(self, values: Tensor) -> Tensor:
        """The nearest values of the grid; the gradient passes within its range."""
        scale = self.scale()
        return round_through((values / scale).clamp(self.grid.low, self.grid.high)) * scale


class RunningRange(ActivationQuantiser):
    """The range is a running mean of the smallest and largest value, or percentile, of each batch that it is trained on."""

    ends: Tensor

    def __init__(self, seen: Range, bits: int, symmetric: bool, percentile: float) -> None:
        super().__init__(Grid.of(seen, bits, symmetric))
        self.percentile = percentile
        self.register_buffer("ends", torch.tensor([seen.low, seen.high]))

    def scale(self) -> Tensor:
        """The step with which the grid covers the range."""
        return torch.tensor(self.grid.scale(Range(float(self.ends[0]), float(self.ends[1]), 0)))

    def forward(self, values: Tensor) -> Tensor:
        """As its base; in training the range follows first."""
        if self.training:
            seen = observed(values, self.percentile)
            self.ends.lerp_(torch.tensor([seen.low, seen.high]), MOMENTUM)
        return super().forward(values)


class LearnedStep(ActivationQuantiser):
    """LSQ: the step is learned, its logarithm as in `quantisation_weights.LearnedStep`.

    Esser et al., "Learned Step Size Quantization", 2020.
    """

    start: Tensor

    def __init__(self, seen: Range, bits: int, symmetric: bool, percentile: float) -> None:
        super().__init__(Grid.of(seen, bits, symmetric))
        reach = max(self.grid.high, -self.grid.low)
        self.register_buffer("start", torch.tensor(max(2 * seen.mean / reach**0.5, LEAST_SCALE)))
        self.log_ratio = nn.Parameter(torch.zeros(()))

    def scale(self) -> Tensor:
        """The learned step."""
        return self.start * self.log_ratio.exp()


class Pact(ActivationQuantiser):
    """PACT: where to clip is learned, only by what is clipped.

    Choi et al., "PACT: Parameterized Clipping Activation for Quantized Neural Networks", 2018. An input with negative values, which PACT
    does not know, is clipped at the other end in proportion.
    """

    def __init__(self, seen: Range, bits: int, symmetric: bool, percentile: float) -> None:
        super().__init__(Grid.of(seen, bits, symmetric))
        self.reach = max(self.grid.high, -self.grid.low)
        self.clip = nn.Parameter(torch.tensor(self.grid.scale(seen) * self.reach))

    def scale(self) -> Tensor:
        """The clipping value over its integer."""
        return self.clip.abs().clamp_min(LEAST_SCALE) / self.reach

    def forward(self, values: Tensor) -> Tensor:
        """Clipped, then rounded to the grid."""
        scale = self.scale()
        clipped = torch.minimum(torch.maximum(values, self.grid.low * scale), self.grid.high * scale)
        return straight_through((clipped.detach() / scale.detach()).round() * scale.detach(), clipped)


class Sign(nn.Module):
    """One bit for what has both signs: -a or a, where a is learned, at first the mean magnitude.

    Rastegari et al., "XNOR-Net", 2016. The gradient passes within -2a..2a.
    """

    start: Tensor

    def __init__(self, seen: Range) -> None:
        super().__init__()
        self.register_buffer("start", torch.tensor(max(seen.mean, LEAST_SCALE)))
        self.log_ratio = nn.Parameter(torch.zeros(()))

    def scale(self) -> Tensor:
        """The magnitude."""
        return self.start * self.log_ratio.exp()

    def forward(self, values: Tensor) -> Tensor:
        """-a or a."""
        scale = self.scale()
        reach = 2 * float(scale.detach())
        return straight_through(signs(values) * scale, values.clamp(-reach, reach))


class Rounded(nn.Module):
    """What is left after training: the grid with a fixed step, in operators that every runtime has (Div, Clip, Round, Mul)."""

    def __init__(self, scale: float, grid: Grid) -> None:
        super().__init__()
        self.scale, self.grid = scale, grid

    def forward(self, values: Tensor) -> Tensor:
        """The nearest values of the grid; in training its gradient passes."""
        scaled = (values / self.scale).clamp(self.grid.low, self.grid.high)
        return (round_through(scaled) if self.training else scaled.round()) * self.scale


class SignOnly(nn.Module):
    """What is left of Sign."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, values: Tensor) -> Tensor:
        """-scale or scale; in training its gradient passes within twice that."""
        value = torch.where(values >= 0, self.scale, -self.scale)
        return straight_through(value, values.clamp(-2 * self.scale, 2 * self.scale)) if self.training else value


METHODS: dict[str, type[RunningRange] | type[LearnedStep] | type[Pact]] = {
    "minmax": RunningRange,
    "percentile": RunningRange,
    "lsq": LearnedStep,
    "pact": Pact,
}


def quantiser(method: str, seen: Range, bits: int, symmetric: bool, percentile: float) -> nn.Module:
    """The quantiser for an activation with this range; one bit is 0 and a where it has no negative values, else -a and a."""
    if bits == 1 and (symmetric or seen.low < 0):
        return Sign(seen)
    return METHODS[method](seen, bits, symmetric, percentile if method == "percentile" else 100.0)


@torch.no_grad()
def fixed(trained: nn.Module) -> nn.Module:
    """The same in few operators, without parameters."""
    if isinstance(trained, Sign):
        return SignOnly(float(trained.scale()))
    assert isinstance(trained, ActivationQuantiser)  # noqa: S101 - `quantiser` made it
    return Rounded(float(trained.scale()), trained.grid)
