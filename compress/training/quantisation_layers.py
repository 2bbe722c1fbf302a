"""Which layers of a module have weights to quantise, in the order in which they run; BatchNorm merged into the layer before it."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd  # pyright: ignore[reportPrivateUsage]  (it has no public name)
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
QUANTISED = (nn.Linear, *CONVOLUTIONS, nn.RNNBase, nn.MultiheadAttention)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SAME = 1e-3
"""How far outputs may be apart after BatchNorm was merged, relative to the largest: float32 in another order gives 1e-6."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights, and the names of those; `fed`: its input is one tensor, which can be quantised too."""

    name: str
    module: nn.Module
    weights: tuple[str, ...]
    fed: bool

    @property
    def axis(self) -> int:
        """The axis of the output channels."""
        return 1 if isinstance(self.module, _ConvTransposeNd) else 0

    @property
    def is_matrix(self) -> bool:
        """Whether it is no convolution."""
        return not isinstance(self.module, CONVOLUTIONS)


def executed(model: nn.Module, inputs: Sequence[Tensor]) -> list[Layer]:
    """The layers with weights that run on these inputs, in the order of their first run."""
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules() if isinstance(module, QUANTISED)}
    order: dict[nn.Module, None] = {}
    _watch(model, inputs, list(names), lambda module, _given, _got: order.setdefault(module))
    return [layer for module in order for layer in _layers(names[module], module)]


def _layers(name: str, module: nn.Module) -> list[Layer]:
    if isinstance(module, nn.RNNBase):
        return [Layer(name, module, tuple(one for one, _ in module.named_parameters(recurse=False) if one.startswith("weight")), fed=False)]
    if isinstance(module, nn.MultiheadAttention):
        own = tuple(one for one, _ in module.named_parameters(recurse=False) if one.endswith("_weight"))
        return [Layer(name, module, own, fed=False), Layer(f"{name}.out_proj", module.out_proj, ("weight",), fed=False)]
    return [Layer(name, module, ("weight",), fed=True)]


def fold_batch_norm(model: nn.Module, inputs: Sequence[Tensor]) -> list[str]:
    """Merges each BatchNorm into the convolution or Linear whose output it alone is given; gives the names of the merged ones.

    What it was is an Identity then. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2018. Where the outputs would not be the same, such as with a convolution that is read elsewhere too, all stays as it is.
    """
    pairs = _pairs(model, inputs)
    before = _outputs(model, inputs)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with ExitStack() as undo:
        for layer, norm, parent, name in pairs:
            undo.callback(setattr, parent, name, norm)
            undo.callback(setattr, layer, "bias", layer.bias)
            _merge(layer, norm)
            setattr(parent, name, nn.Identity())
        same = all(_is_close(ours, theirs) for ours, theirs in zip(_outputs(model, inputs), before, strict=True))
        if same:
            undo.pop_all()
            return [name for _layer, _norm, _parent, name in pairs]
    model.load_state_dict(state)
    return []


def _merge(layer: Any, norm: Any) -> None:
    """Puts the layer's weights times the norm's scale in place, and a bias."""
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    if isinstance(layer, nn.Linear):
        weight, bias = fuse_linear_bn_weights(layer.weight, layer.bias, *statistics)
    else:
        weight, bias = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics, transpose=isinstance(layer, _ConvTransposeNd))
    with torch.no_grad():
        layer.weight.copy_(weight)
    layer.bias = nn.Parameter(bias.detach().clone())


def _pairs(model: nn.Module, inputs: Sequence[Tensor]) -> list[tuple[Any, Any, nn.Module, str]]:
    """Layer, BatchNorm, and where the latter is: its parent and its name there; each layer and each norm runs once."""
    made: dict[int, nn.Module] = {}
    kept: list[Tensor] = []  # so that no two tensors have one id
    found: list[tuple[nn.Module, nn.Module]] = []
    runs: dict[nn.Module, int] = {}

    def ran(module: nn.Module, given: tuple[Any, ...], got: Any) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, BATCH_NORMS) and id(given[0]) in made:
            found.append((made[id(given[0])], module))
        elif isinstance(got, Tensor):
            made[id(got)] = module
            kept.append(got)

    watched = [one for one in model.modules() if isinstance(one, (nn.Linear, *CONVOLUTIONS)) or _is_foldable(one)]
    _watch(model, inputs, watched, ran)
    places = {child: (parent, name) for parent in model.modules() for name, child in parent.named_children()}
    return [(layer, norm, *places[norm]) for layer, norm in found if runs[layer] == runs[norm] == 1]


def _is_foldable(module: nn.Module) -> bool:
    return isinstance(module, BATCH_NORMS) and module.running_var is not None


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    found = model.eval()(*inputs)
    return [found] if isinstance(found, Tensor) else [one for one in found if isinstance(one, Tensor)]


def _is_close(ours: Tensor, theirs: Tensor) -> bool:
    return float((ours - theirs).abs().max()) <= SAME * max(float(theirs.abs().max()), 1e-6)


def _watch(model: nn.Module, inputs: Sequence[Tensor], modules: Sequence[nn.Module], ran: Callable[[nn.Module, Any, Any], Any]) -> None:
    """Runs the model in eval mode, and calls `ran(module, inputs, output)` after each of the modules did."""

    def told(module: nn.Module, given: Any, got: Any) -> None:
        ran(module, given, got)

    with _hooks([module.register_forward_hook(told) for module in modules]):
        _outputs(model, inputs)


@contextmanager
def _hooks(handles: Sequence[Any]) -> Generator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
