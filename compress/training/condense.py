"""CondenseNet's learned group convolutions: each group of filters learns which input channels it needs."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import torch
from torch import Tensor, nn

from compress.techniques.compact import CondenseParams
from compress.training import cost
from compress.training.compact import convolutions, none_fits, taught
from compress.training.factors import fill
from compress.training.loop import fit
from compress.training.session import Session, Split
from compress.training.surgery import exchanged


class LearnedGroups(nn.Module):
    """A convolution, and for each group of consecutive filters the input channels that it still sees (`seen`, [groups, inputs])."""

    seen: Tensor

    def __init__(self, layer: nn.Conv2d, groups: int, factor: int) -> None:
        super().__init__()
        self.layer = layer
        self.groups, self.share = groups, layer.in_channels // factor
        self.register_buffer("seen", torch.ones(groups, layer.in_channels, dtype=torch.bool))

    def forward(self, images: Tensor) -> Tensor:
        """As the layer, without what is not seen."""
        return torch.func.functional_call(self.layer, {"weight": self.masked()}, (images,))

    def masked(self) -> Tensor:
        """The weights, zero where a group does not see a channel."""
        return self.layer.weight * self.seen.repeat_interleave(self.layer.out_channels // self.groups, 0)[:, :, None, None]

    def lasso(self) -> Tensor:
        """The sum over groups and channels of the norm of the weights between them."""
        return self._by_group(self.layer.weight.square()).clamp_min(1e-12).sqrt().sum()

    def stage(self) -> None:
        """Each group gives up another share of the channels: those with the smallest weights (L1) among what it sees."""
        sums = self._by_group(self.layer.weight.detach().abs()).masked_fill(~self.seen, torch.inf)
        self.seen.scatter_(1, sums.argsort(dim=1, stable=True)[:, : self.share], False)

    def condensed(self) -> nn.Module:
        """The selection of channels, and the grouped convolution that gives the same."""
        index = torch.cat([row.nonzero().flatten() for row in self.seen])
        layer, kept = self.layer, len(index) // self.groups
        options = (layer.stride, layer.padding, layer.dilation, self.groups, layer.bias is not None)
        grouped = nn.Conv2d(len(index), layer.out_channels, layer.kernel_size, *options)  # pyright: ignore[reportArgumentType]
        rows = index.reshape(self.groups, kept).repeat_interleave(layer.out_channels // self.groups, 0)
        picked = layer.weight.detach().flatten(2).gather(1, rows[:, :, None].expand(-1, -1, layer.weight[0, 0].numel()))
        fill(grouped, picked, layer.bias)
        return nn.Sequential(Channels(index), grouped)

    def _by_group(self, weights: Tensor) -> Tensor:
        """Sums [groups, inputs] over a group's filters and their taps."""
        return weights.reshape(self.groups, -1, *weights.shape[1:]).sum((1, 3, 4))


class Channels(nn.Module):
    """Some of the channels, in this order; one may be there several times."""

    index: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)

    def forward(self, images: Tensor) -> Tensor:
        """[n, channels, ...] -> [n, len(index), ...]."""
        return images.index_select(1, self.index)


def condensed(model: nn.Module, params: CondenseParams, session: Session) -> nn.Module:
    """The module with condensed convolutions; raises FaultError `unsupported_op` where none divides into the groups."""
    before = cost.figures(model, session)
    layers = {
        name: LearnedGroups(layer, params.groups, params.factor)
        for name, layer in convolutions(model, params.layers, whole=lambda one: _divides(one, params)).items()
    }
    if not layers:
        raise none_fits(f"no convolution has filters for {params.groups} groups and channels for a factor of {params.factor}")
    model = exchanged(model, layers)
    plain = taught(params, session)

    def with_lasso(net: nn.Module, batch: Split) -> Tensor:
        return plain(net, batch) + params.lasso * torch.stack([one.lasso() for one in layers.values()]).sum()

    stages = params.factor - 1
    scores: list[list[float]] = []
    for _ in range(stages):
        scores.append(fit(model, session, max(1, params.epochs // (2 * stages)), params.learning_rate, loss=with_lasso))
        for one in layers.values():
            one.stage()
    model = exchanged(model, {name: one.condensed() for name, one in layers.items()})
    scores.append(fit(model, session, max(1, params.epochs // 2), params.learning_rate, loss=plain))
    session.tell(layers=sorted(layers), before=before, after=cost.figures(model, session), held_out=scores)
    return model


def _divides(layer: nn.Conv2d, params: CondenseParams) -> bool:
    return layer.in_channels % params.factor == 0 and layer.out_channels % params.groups == 0
