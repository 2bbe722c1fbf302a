"""Exchanges the layers of a torch module."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections import Counter
from collections.abc import Mapping

from torch import nn


def own_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers without children by name, without those that are there twice or share a weight with another one."""
    layers: dict[str, nn.Module] = {name: one for name, one in model.named_modules(remove_duplicate=False) if not any(one.children())}
    uses = Counter(id(weight) for layer in layers.values() for weight in layer.parameters())
    return {name: layer for name, layer in layers.items() if all(uses[id(weight)] == 1 for weight in layer.parameters())}


def exchanged(model: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """The same module with these layers, by the names of those they replace; in the same mode."""
    for name, layer in layers.items():
        layer.train(model.training)
        if not name:
            return layer
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    return model
