"""Importance of channels by what the next layers read of them: activations, and the error without them."""
# torch is typed in part, torch-pruning not at all.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.training.pruning_layers import Convolution, hooked
from compress.training.session import BATCH, SEED, Split

POSITIONS = 10
"""Of a convolution's output that the reconstruction error is taken at, per sample, drawn at random."""

Means = dict[nn.Module, Tensor]
Grams = dict[nn.Module, Tensor]


def activations(model: nn.Module, coupled: Sequence[Any], split: Split, of: Callable[[Tensor], Tensor]) -> Means:
    """The mean over samples and positions of a function of the activations that each reading layer sees, by its input channels."""
    means: Means = {}

    def add(module: nn.Module, values: Tensor) -> None:
        mean = of(_channels_last(module, values)).mean(0)
        means[module] = means[module] + mean if module in means else mean

    _observe(model, coupled, split, add)
    return means


def by_channel(group: Any, found: Means) -> Tensor:
    """Values by input channel of the group's readers, averaged by the channel of the group's first layer."""
    total, count = torch.zeros(len(group[0].idxs)), torch.zeros(len(group[0].idxs))
    for module, read, roots in _readers(group):
        total.index_add_(0, roots, found[module][read])
        count.index_add_(0, roots, torch.ones(len(roots)))
    return total / count.clamp(min=1)


def greedy_order(gram: Tensor) -> Tensor:
    """Channels (int64 [n]) in the order of removal in which the squared error 1' G 1 over the removed ones grows least each time."""
    cost, order = gram.diagonal().clone(), []
    for _ in range(len(gram)):
        channel = int(cost.argmin())
        order.append(channel)
        cost += 2 * gram[channel]
        cost[channel] = torch.inf
    return torch.tensor(order)


def gram(group: Any, grams: Grams) -> Tensor:
    """G [channels, channels] of the group, the sum over its readers: entry (i, j) is the product of what i and j contribute."""
    width = len(group[0].idxs)
    total = torch.zeros(width, width)
    for module, read, roots in _readers(group):
        place = torch.zeros(len(read), width).index_put_((torch.arange(len(read)), roots), torch.ones(1))
        total += place.T @ grams[module][read][:, read] @ place
    return total


def grams(model: nn.Module, coupled: Sequence[Any], split: Split) -> Grams:
    """By reading layer: sum over sampled positions and outputs of the products of its input channels' contributions.

    With P the inputs of the kernel at the positions and W its weights, that is (P'P) * (W'W), summed over the kernel's taps.
    """
    generator = torch.Generator().manual_seed(SEED)
    products: Grams = {}

    def add(module: nn.Module, values: Tensor) -> None:
        rows = _patches(module, values)
        rows = rows[torch.randperm(len(rows), generator=generator)[: POSITIONS * len(values)]]
        products[module] = products[module] + rows.T @ rows if module in products else rows.T @ rows

    _observe(model, coupled, split, add)
    return {module: _summed_taps(module, product) for module, product in products.items()}


def _summed_taps(module: nn.Module, product: Tensor) -> Tensor:
    weights = _read_weights(module)
    outputs, channels = weights.shape[:2]
    flat = weights.reshape(outputs, -1)
    taps = flat.shape[1] // channels
    return (product * (flat.T @ flat)).view(channels, taps, channels, taps).sum((1, 3))


def _read_weights(module: nn.Module) -> Tensor:
    """The weights [outputs, input channels, taps] that read, zero between the groups of a grouped convolution."""
    weights: Tensor = module.weight.detach()  # type: ignore[assignment]
    if isinstance(module, nn.Linear):
        return weights[:, :, None]
    if module.transposed:  # type: ignore[truthy-function]
        return weights.flatten(1).T[:, :, None]
    parts = weights.flatten(2).chunk(module.groups)  # type: ignore[arg-type]
    taps = parts[0].shape[2]
    return torch.stack([torch.block_diag(*(part[:, :, tap] for part in parts)) for tap in range(taps)], 2)


def _patches(module: nn.Module, values: Tensor) -> Tensor:
    """What a layer's kernel sees: float [positions, input channels x taps]."""
    if isinstance(module, nn.Linear) or module.transposed:
        return _channels_last(module, values)
    channels, kernel = values.shape[1], tuple(module.kernel_size)  # type: ignore[arg-type]
    taps = math.prod(kernel)
    pick = torch.eye(taps).view(taps, 1, *kernel).repeat(channels, *[1] * (len(kernel) + 1))
    convolve = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}[len(kernel)]
    seen = convolve(values, pick, None, module.stride, module.padding, module.dilation, channels)  # type: ignore[arg-type]
    return seen.transpose(0, 1).flatten(1).T


def _channels_last(module: nn.Module, values: Tensor) -> Tensor:
    """A layer's inputs as float [positions, channels]."""
    return values.flatten(0, -2) if isinstance(module, nn.Linear) else values.transpose(0, 1).flatten(1).T


@torch.no_grad()
def _observe(model: nn.Module, coupled: Sequence[Any], split: Split, see: Callable[[nn.Module, Tensor], None]) -> None:
    """Shows what the readers of all groups are given, batch by batch."""
    readers = list({module: None for group in coupled for module, _, _ in _readers(group)})

    def show(module: nn.Module, given: tuple[Tensor, ...], _found: Tensor) -> None:
        see(module, given[0])

    with hooked([(module, show) for module in readers]):
        for batch in split.batches(BATCH):
            model(*batch.inputs)


def _readers(group: Any) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
    """The layers that read a group's channels: each with its input channels and, for each of those, the channel of the group."""
    for item in group.items:
        module = item.dep.target.module
        is_layer = isinstance(module, nn.Linear) or (isinstance(module, Convolution) and module.groups != module.out_channels)
        if is_layer and item.dep.handler.__name__ == "prune_in_channels":
            yield module, torch.tensor(item.idxs), torch.tensor(item.root_idxs)
