"""What a torch module costs: its parameters, and the multiply-accumulates of one inference."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from compress.training.session import Session, first


def parameters(model: nn.Module) -> int:
    """The number of its weights and biases."""
    return sum(one.numel() for one in model.parameters())


@torch.inference_mode()
def macs(model: nn.Module, session: Session) -> int:
    """Multiply-accumulates of one sample in convolutions, linear and recurrent layers; the module is in eval mode afterwards."""
    counts: list[int] = []

    def hook(count: Callable[[Any, Tensor, Tensor], int]) -> Callable[[Any, tuple[Tensor, ...], Any], None]:
        return lambda layer, inputs, found: counts.append(count(layer, inputs[0], first(found)))

    kinds = [(one, count) for one in model.modules() for kinds, count in _COUNTS if isinstance(one, kinds)]
    hooks = [one.register_forward_hook(hook(count)) for one, count in kinds]
    try:
        model.eval()(*session.example().values())
    finally:
        for one in hooks:
            one.remove()
    return sum(counts)


def figures(model: nn.Module, session: Session) -> dict[str, float]:
    """Parameters, multiply-accumulates and held-out score, to tell."""
    return {"parameters": parameters(model), "macs": macs(model, session), "score": session.score(model)}


def _dense(layer: Any, _inputs: Tensor, outputs: Tensor) -> int:
    return outputs.numel() * prod(layer.weight.shape[1:])


def _transposed(layer: Any, inputs: Tensor, _outputs: Tensor) -> int:
    return inputs.numel() * prod(layer.weight.shape[1:])


def _recurrent(layer: Any, inputs: Tensor, _outputs: Tensor) -> int:
    return inputs.numel() // inputs.shape[-1] * sum(one.numel() for one in layer.parameters() if one.dim() > 1)


_COUNTS = (
    ((nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d), _dense),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _transposed),
    ((nn.RNNBase,), _recurrent),
)
