"""Permutations of channels that a network does not notice: the outputs of a layer and the inputs of the next one alike."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.ELU)
PASSING = (*ELEMENTWISE, *POOLS, *ADAPTIVE, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)
FUNCTIONS = (torch.relu, functional.relu, functional.max_pool2d, functional.avg_pool2d, torch.flatten, torch.sigmoid, torch.tanh)
METHODS = ("relu", "flatten", "contiguous", "sigmoid", "tanh")


@dataclass(frozen=True, slots=True)
class Link:
    """A consumer whose input channels are the output channels of the producer; `between`: layers with parameters for each channel."""

    producer: Any
    between: tuple[Any, ...]
    consumer: Any

    @property
    def channels(self) -> int:
        """How many there are."""
        return self.producer.weight.shape[0]

    def permute(self, order: Tensor) -> None:
        """Puts channel order[i] at place i: rows of the producer, columns of the consumer (a column block for each, behind a Flatten)."""
        for layer in (self.producer, *self.between):
            for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
                if tensor.dim():  # BatchNorm counts its batches in a scalar
                    tensor.data = tensor.data[order].contiguous()
        weight = self.consumer.weight
        parts = weight.data.reshape(weight.shape[0], self.channels, -1)
        weight.data = parts[:, order].reshape(weight.shape).contiguous()


def links(model: nn.Module) -> list[Link]:
    """The links of a module that torch.fx can trace, none otherwise: each layer runs once, and nothing else reads what is between them."""
    try:
        graph = fx.Tracer().trace(model)
    except Exception:  # noqa: BLE001 - it runs its owner's code with stand-ins for tensors, which may raise anything
        return []
    modules: dict[Any, nn.Module] = dict(model.named_modules())
    runs = [node.target for node in graph.nodes if node.op == "call_module"]
    found = [_link(node, modules) for node in graph.nodes if node.op == "call_module" and _is_weighted(modules[node.target])]
    once = {id(modules[name]) for name in runs if runs.count(name) == 1}
    return [link for link in found if link and all(id(one) in once for one in (link.producer, *link.between, link.consumer))]


def _link(node: Any, modules: dict[Any, nn.Module]) -> Link | None:
    """Walks back from a consumer over what treats each channel alike."""
    consumer, between = modules[node.target], list[nn.Module]()
    at = node.args[0]
    while isinstance(at, fx.Node) and len(at.users) == 1:
        module = modules[at.target] if at.op == "call_module" else None
        if module is not None and _is_weighted(module):
            producer: Any = module
            wanted: Any = consumer
            whole = wanted.weight.shape[1] % producer.weight.shape[0] == 0
            return Link(producer, tuple(between), consumer) if whole else None
        if module is not None and _is_channelwise(module):
            between.append(module)
        elif not _passes(at, module):
            return None
        at = at.args[0]
    return None


def _is_weighted(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, CONVOLUTIONS) and module.groups == 1)


def _is_channelwise(module: nn.Module) -> bool:
    depthwise = isinstance(module, CONVOLUTIONS) and module.groups == module.in_channels == module.out_channels
    return depthwise or isinstance(module, NORMS)


def _passes(node: Any, module: nn.Module | None) -> bool:
    if module is not None:
        return isinstance(module, PASSING)
    return (node.op == "call_method" and node.target in METHODS) or (node.op == "call_function" and node.target in FUNCTIONS)


def search(weight: Tensor, channels: int, length: int, swaps: int, generator: torch.Generator) -> Tensor:
    """An order of the channels under which subvectors of `length` along the inputs spread less: local search by swaps.

    `weight`: [outputs, inputs], inputs in `channels` blocks. What is made small is the log-determinant of the subvectors' covariance, which
    bounds what a codebook loses (Martinez et al. 2021).
    """
    blocks = weight.reshape(len(weight), channels, -1)
    order = torch.arange(channels)
    least = spread(blocks[:, order].reshape(-1, length))
    for first, second in torch.randint(channels, (swaps, 2), generator=generator).tolist():
        tried = order.clone()
        tried[[first, second]] = order[[second, first]]
        found = spread(blocks[:, tried].reshape(-1, length))
        if found < least:
            order, least = tried, found
    return order


def spread(subvectors: Tensor) -> float:
    """The log-determinant of the covariance of [n, length]; a little is added to the diagonal, as they may lie in a plane."""
    covariance = torch.cov(subvectors.double().T).reshape(subvectors.shape[1], -1)
    trace = float(covariance.trace())
    return float(torch.logdet(covariance + 1e-6 * max(trace, 1e-12) * torch.eye(len(covariance), dtype=torch.double)))
