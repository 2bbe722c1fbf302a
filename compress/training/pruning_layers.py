"""What of a torch module can be made narrower, and the surgery: torch-pruning's dependency graph keeps coupled layers consistent.

DepGraph: Towards Any Structural Pruning (Fang, Ma, Song, Mi, Wang, 2023).
"""
# torch is typed in part, torch-pruning not at all.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeArgument=false

import copy
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Inputs = tuple[Tensor, ...]
Removal = Mapping[str, Sequence[int]]
"""Channels to take away, by the name of a layer."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Channels of the module `name`, with those that are coupled to it by additions, normalisations and depthwise convolutions.

    `blocks`: of a grouped convolution or normalisation, which loses the same channels in each of its groups. A unit is what can go:
    one channel of each block.
    """

    name: str
    width: int
    blocks: int

    @property
    def units(self) -> int:
        """How many units there are."""
        return self.width // self.blocks

    def channels(self, units: Sequence[int]) -> list[int]:
        """The channels of these units."""
        return sorted(unit + block * self.units for unit in units for block in range(self.blocks))


def graph(model: nn.Module, inputs: Inputs) -> Any:
    """torch-pruning's DependencyGraph of the module, traced with the inputs."""
    return torch_pruning.DependencyGraph().build_dependency(model.eval(), list(inputs), verbose=False)


def groups(dependencies: Any) -> Iterator[tuple[str, Any]]:
    """Its groups of coupled channels, each by the name of the module that it starts from."""
    names = {module: name for name, module in dependencies.model.named_modules()}
    for group in dependencies.get_all_groups(root_module_types=(*Convolution, nn.Linear)):
        yield names[group[0].dep.target.module], group


def layers(model: nn.Module, inputs: Inputs) -> tuple[Layer, ...]:
    """The layers that can lose channels, from the input to the output.

    Each is tried: those without which the module does not run, or gives outputs of another shape, are not among them.
    """
    found = [Layer(name, len(group[0].idxs), _blocks(group)) for name, group in groups(graph(copy.deepcopy(model), inputs))]
    shapes = output_shapes(model, inputs)
    return tuple(layer for layer in reversed(found) if layer.units > 1 and _is_free(model, inputs, layer, shapes))


def cut(model: nn.Module, inputs: Inputs, removal: Removal) -> nn.Module:
    """A copy of the module without these channels."""
    narrow = copy.deepcopy(model)
    dependencies = graph(narrow, inputs)
    for name, channels in removal.items():
        if channels:
            module = narrow.get_submodule(name)
            remove = dependencies.get_pruner_of_module(module).prune_out_channels
            dependencies.get_pruning_group(module, remove, list(channels)).prune()
    narrow.zero_grad()
    return narrow


def widths(model: nn.Module) -> dict[str, int]:
    """The number of output channels of every convolution and linear layer, by its name."""
    return {name: _width(one) for name, one in model.named_modules() if isinstance(one, (*Convolution, nn.Linear))}


@contextmanager
def hooked(pairs: Sequence[tuple[nn.Module, Any]]) -> Generator[None]:
    """Calls each function with (module, inputs, outputs) after its module's forward."""
    handles = [module.register_forward_hook(hook) for module, hook in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def output_shapes(model: nn.Module, inputs: Inputs) -> list[torch.Size]:
    """Of all outputs."""
    found = model.eval()(*inputs)
    return [one.shape for one in ([found] if isinstance(found, Tensor) else found)]


def _width(module: nn.Module) -> int:
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels  # type: ignore[return-value]


def _blocks(group: Any) -> int:
    """Into how many equal parts the channels fall that have to lose the same ones."""
    counts = [1]
    for item in group.items:
        module = item.dep.target.module
        if isinstance(module, nn.GroupNorm):
            counts.append(module.num_groups)
        elif isinstance(module, Convolution) and module.groups != module.out_channels:
            counts.append(module.groups)
    return math.lcm(*counts)


def _is_free(model: nn.Module, inputs: Inputs, layer: Layer, shapes: Sequence[torch.Size]) -> bool:
    try:
        return output_shapes(cut(model, inputs, {layer.name: layer.channels([0])}), inputs) == shapes
    except (RuntimeError, ValueError, IndexError, AssertionError):  # what the owner's forward makes of one channel less
        return False
