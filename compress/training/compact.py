"""Convolutions in the place of dense ones: depthwise separable, and Fire modules."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from agent.schema import FaultError
from compress.techniques.compact import CompactParams, TaughtParams
from compress.training import cost
from compress.training.distillation import from_teacher, soft_targets
from compress.training.factors import fill, window
from compress.training.loop import regain
from compress.training.session import Loss, Session
from compress.training.surgery import exchanged, own_layers


def compacted(model: nn.Module, params: CompactParams, session: Session) -> nn.Module:
    """The module with compact convolutions, taught by the float model; raises FaultError `unsupported_op` where none is smaller."""
    before = cost.figures(model, session)

    def smaller(layer: nn.Conv2d) -> nn.Module | None:
        fits = params.kind == "separable" or all(spread % 2 == 0 for spread in _spreads(layer))
        one = (separable(layer) if params.kind == "separable" else Fire(layer, params.squeeze, params.wide)) if fits else None
        return one if one is not None and cost.parameters(one) < cost.parameters(layer) else None

    torch.manual_seed(0)
    layers = {name: one for name, layer in convolutions(model, params.layers).items() if (one := smaller(layer)) is not None}
    if not layers:
        raise none_fits(f"no convolution would have fewer parameters as {params.kind}")
    model = exchanged(model, layers)
    session.tell(layers=sorted(layers), before=before, untrained=session.score(model))
    scores = regain(model, session, params.epochs, params.learning_rate, loss=taught(params, session))
    session.tell(after=cost.figures(model, session), held_out=scores)
    return model


def separable(layer: nn.Conv2d) -> nn.Module:
    """A depthwise convolution and a 1 x 1 one: of each input channel's kernels [outputs, taps] the best approximation of rank 1."""
    outputs, inputs = layer.weight.shape[:2]
    kernels = layer.weight.detach().double().transpose(0, 1).flatten(2)
    left, values, right = torch.linalg.svd(kernels, full_matrices=False)
    root = values[:, :1].sqrt()
    depthwise = nn.Conv2d(inputs, inputs, **window(layer), groups=inputs)
    pointwise = nn.Conv2d(inputs, outputs, 1, bias=layer.bias is not None)
    fill(depthwise, right[:, 0] * root, None)
    fill(pointwise, (left[:, :, 0] * root).T, layer.bias)
    return nn.Sequential(depthwise, pointwise)


class Fire(nn.Module):
    """A squeeze to few channels by 1 x 1 and ReLU, then 1 x 1 and k x k side by side; the same shapes as the layer, new weights."""

    def __init__(self, layer: nn.Conv2d, squeeze: float, wide: float) -> None:
        super().__init__()
        outputs, inputs = layer.weight.shape[:2]
        thin, large = max(1, round(squeeze * outputs)), min(outputs - 1, max(1, round(wide * outputs)))
        wanted = window(layer)
        before = [0, 0] if layer.padding == "valid" else [spread // 2 for spread in _spreads(layer)]
        around: Any = before if isinstance(layer.padding, str) else layer.padding
        off = [spread // 2 - pad for spread, pad in zip(_spreads(layer), around, strict=True)]
        self._crop, beyond = tuple(max(0, one) for one in off), (max(0, -off[0]), max(0, -off[1]))
        self.squeeze = nn.Conv2d(inputs, thin, 1)
        self.small = nn.Conv2d(thin, outputs - large, 1, stride=wanted["stride"], padding=beyond)
        self.large = nn.Conv2d(thin, large, **wanted)

    def forward(self, images: Tensor) -> Tensor:
        """[n, inputs, height, width] -> as the layer."""
        thin = torch.relu(self.squeeze(images))
        top, left = self._crop
        centre = thin[:, :, top : thin.shape[2] - top, left : thin.shape[3] - left]
        return torch.cat([self.small(centre), self.large(thin)], 1)


def convolutions(model: nn.Module, named: tuple[str, ...], *, whole: Callable[[nn.Conv2d], bool] | None = None) -> dict[str, nn.Conv2d]:
    """The dense Conv2d of the module, by name: the `named` ones, or all but the first; raises FaultError `unsupported_op` for other names.

    Dense: in one group, padded by zeros, with a kernel above 1 unless `whole` says which.
    """
    fits = whole or _is_wide
    every = {name: layer for name, layer in own_layers(model).items() if isinstance(layer, nn.Conv2d)}
    found = {name: layer for name, layer in every.items() if layer.groups == 1 and layer.padding_mode == "zeros" and fits(layer)}
    for name in named:
        if name not in found:
            raise none_fits(f"{name!r} is no convolution that can be exchanged; there are {', '.join(found) or 'none'}"[:400])
    first = next(iter(every), "")
    return {name: layer for name, layer in found.items() if (name in named if named else name != first)}


def none_fits(message: str) -> FaultError:
    """The fault of a step that has nothing to act on."""
    return FaultError("unsupported_op", message, "name other layers, or leave the step out", "compress")


def taught(params: TaughtParams, session: Session) -> Loss:
    """The float model's softened probabilities and the task's loss."""
    return from_teacher(session, session.teacher, soft_targets(params.temperature), params.alpha)


def _is_wide(layer: nn.Conv2d) -> bool:
    return prod(layer.kernel_size) > 1


def _spreads(layer: nn.Conv2d) -> list[int]:
    """How far apart the first and last tap are along each axis."""
    return [step * (taps - 1) for step, taps in zip(layer.dilation, layer.kernel_size, strict=True)]
