"""Training with quantisation in the forward pass: prepare a module, train it, put its weights on their grids for good."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from agent.schema import FaultError
from compress.training import quantisation_activations as activations
from compress.training import quantisation_weights as weights
from compress.training.distillation import from_teacher, soft_targets
from compress.training.loop import fit
from compress.training.quantisation_layers import Layer, executed, fold_batch_norm
from compress.training.session import EVALUATION_BATCH, Session, Split

if TYPE_CHECKING:
    from compress.techniques.qat import QatParams

INPUT = "input_quantiser"
FLOAT_BITS = 32
ENDS_BITS = 8
LOW_BITS = 4
"""Below this many bits the first and the last layer keep 8, unless it is said otherwise."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a layer is quantised with; `axis` None: one scale for all its weights; `block`: one for so many inputs of an output, or 0."""

    layer: Layer
    weight_bits: int
    activation_bits: int
    weight_method: str
    activation_method: str
    axis: int | None
    block: int

    @property
    def granularity(self) -> str:
        """What a scale covers."""
        return "block" if self.block else "tensor" if self.axis is None else "channel"


def train(model: nn.Module, params: "QatParams", session: Session) -> nn.Module:
    """The module with its weights on their grids; raises FaultError `unsupported_op` where it has no layer to quantise."""
    example = session.calibration.take(torch.arange(1)).inputs
    if params.fold_batch_norm == "before":
        _tell_folded(fold_batch_norm(model, example), session)
    chosen = choices(executed(model, example), params)
    hooks = prepare(model, chosen, session.calibration, params)
    loss = from_teacher(session, session.teacher, soft_targets(params.temperature), params.alpha) if params.alpha else None
    scores = fit(model, session, params.epochs, params.learning_rate, loss=loss)
    finish(chosen, hooks, keep_activations=params.activation_bits < ENDS_BITS)
    if params.fold_batch_norm == "after":
        _tell_folded(fold_batch_norm(model, example), session)
    session.tell(held_out=scores, layers={one.layer.name: _told(one) for one in chosen})
    _note(params, session)
    return model


def choices(layers: Sequence[Layer], params: "QatParams") -> list[Choice]:
    """What each layer is quantised with; raises FaultError `unsupported_op` without layers."""
    if not layers:
        message = "there is no Linear, convolution, recurrent or attention layer to quantise"
        raise FaultError("unsupported_op", message, "leave the step out", "compress")
    low = min(params.weight_bits, params.activation_bits) < LOW_BITS
    ends = params.first_last_bits or (ENDS_BITS if low else 0)
    return [_choice(layer, params, ends if at in (0, len(layers) - 1) else 0) for at, layer in enumerate(layers)]


def _choice(layer: Layer, params: "QatParams", ends: int) -> Choice:
    weight_bits = ends or params.weight_bits
    activation_bits = FLOAT_BITS if params.activation_bits == FLOAT_BITS or not layer.fed else ends or params.activation_bits
    own_method = params.weight_method == "auto" or weight_bits != params.weight_bits
    weight_method = _weight_method(weight_bits) if own_method else params.weight_method
    own_method = params.activation_method == "auto"
    activation_method = ("lsq" if activation_bits <= LOW_BITS else "minmax") if own_method else params.activation_method
    per_tensor = params.granularity == "tensor" or (params.granularity == "auto" and layer.is_matrix)
    block = params.block if params.granularity == "block" and layer.is_matrix else 0
    return Choice(layer, weight_bits, activation_bits, weight_method, activation_method, None if per_tensor else layer.axis, block)


def _weight_method(bits: int) -> str:
    return "binary" if bits == 1 else "lsq" if bits <= LOW_BITS else "minmax"


@dataclass(slots=True)
class Hooks:
    """Handles of the hooks that training needs: those on inputs, and those that nothing needs afterwards."""

    inputs: list[RemovableHandle] = field(default_factory=list[RemovableHandle])
    others: list[RemovableHandle] = field(default_factory=list[RemovableHandle])


def prepare(model: nn.Module, chosen: Sequence[Choice], calibration: Split, params: "QatParams") -> Hooks:
    """Puts a quantiser before the layers' inputs, with ranges from the calibration samples, and one over each weight."""
    seen = _ranges(model, [one.layer.module for one in chosen if one.activation_bits < FLOAT_BITS], calibration, params)
    hooks = Hooks()
    for one in chosen:
        module = one.layer.module
        for name in one.layer.weights:
            hooks.others += _parametrise(one, name)
        if isinstance(module, nn.RNNBase):
            hooks.others.append(module.register_forward_pre_hook(_use_quantised))
        if one.activation_bits < FLOAT_BITS:
            settings = one.activation_bits, params.symmetric_activations, params.percentile
            module.add_module(INPUT, activations.quantiser(one.activation_method, seen[module], *settings))
            if not _is_hooked(module):
                hooks.inputs.append(module.register_forward_pre_hook(_quantise_input))
    return hooks


def _parametrise(one: Choice, name: str) -> list[RemovableHandle]:
    weight: Any = getattr(one.layer.module, name)
    method = weights.METHODS[one.weight_method]
    blocked = weights.Blocked(weight, one.weight_bits, one.block, method) if one.block else None
    quantiser = blocked or method(weight, one.weight_bits, one.axis)
    parametrize.register_parametrization(one.layer.module, name, quantiser)
    if not isinstance(quantiser, weights.LossAware):
        return []
    return [weight.register_post_accumulate_grad_hook(lambda updated: quantiser.observe(updated.grad))]  # pyright: ignore[reportUnknownLambdaType]


def _quantise_input(layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """A pre-hook: hooks are part of what is traced for the export."""
    return (getattr(layer, INPUT)(given[0]), *given[1:]) if hasattr(layer, INPUT) else given


def _is_hooked(layer: Any) -> bool:
    """Whether an earlier step has left the hook."""
    return _quantise_input in layer._forward_pre_hooks.values()


def _use_quantised(layer: Any, _given: tuple[Any, ...]) -> None:
    """A pre-hook of recurrent layers, which keep their weights in a list of their own."""
    layer._flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]


@torch.inference_mode()
def _ranges(model: nn.Module, modules: Sequence[nn.Module], split: Split, params: "QatParams") -> dict[nn.Module, activations.Range]:
    """The range of each module's input over the samples."""
    seen: dict[nn.Module, list[activations.Range]] = {module: [] for module in modules}
    percentile = params.percentile if params.activation_method == "percentile" else 100.0

    def observe(module: nn.Module, given: tuple[Any, ...]) -> None:
        seen[module].append(activations.observed(given[0], percentile))

    handles = [module.register_forward_pre_hook(observe) for module in modules]
    model.eval()
    for batch in split.batches(EVALUATION_BATCH):
        model(*batch.inputs)
    for handle in handles:
        handle.remove()
    return {module: activations.joined(ranges) for module, ranges in seen.items()}


def finish(chosen: Sequence[Choice], hooks: Hooks, *, keep_activations: bool) -> None:
    """Leaves plain layers with weights on their grids, and with `keep_activations` the quantisers of activations in their fixed form."""
    for handle in hooks.others if keep_activations else [*hooks.others, *hooks.inputs]:
        handle.remove()
    for one in chosen:
        layer: Any = one.layer.module
        for name in one.layer.weights:
            parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
        if isinstance(layer, nn.RNNBase):
            for name, parameter in list(layer.named_parameters(recurse=False)):
                setattr(layer, name, parameter)  # also in the list of its own
        if one.activation_bits < FLOAT_BITS:
            trained: Any = getattr(layer, INPUT)
            delattr(layer, INPUT)
            if keep_activations:
                layer.add_module(INPUT, activations.fixed(trained))


def _tell_folded(names: Sequence[str], session: Session) -> None:
    if names:
        session.tell(folded_batch_norms=len(names))


def _told(one: Choice) -> dict[str, object]:
    """For the manifest."""
    told: dict[str, object] = {"weight_bits": one.weight_bits, "weights": one.weight_method, "granularity": one.granularity}
    return (
        told
        if one.activation_bits == FLOAT_BITS
        else {**told, "activation_bits": one.activation_bits, "activations": one.activation_method}
    )


def _note(params: "QatParams", session: Session) -> None:
    if params.activation_bits < ENDS_BITS:
        bits = params.activation_bits
        session.note(
            f"activations of {bits} bits are emulated in float by Clip and Round, as no CPU runtime has such arithmetic: no faster"
        )
    elif params.activation_bits == ENDS_BITS:
        session.note("activations were trained in 8 bits; the file has them in float unless int8-static follows")
