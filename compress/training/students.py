"""Students: a module made thinner, or one that its owner wrote."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any

import torch
from torch import Tensor, nn

from agent.schema import FaultError
from compress.training import cost
from compress.training.pruning_layers import cut, layers
from compress.training.session import Session, first


def thinner(model: nn.Module, width: float, session: Session, *, seed: int, fresh: bool = False, drawn: bool = False) -> nn.Module:
    """A copy in which every layer that can be narrower has this share of its channels.

    Those with the largest weights (L1) stay, or `drawn` ones; for a width of 1 all. `fresh`: with new random weights. Raises FaultError
    `unsupported_op` where none can go.
    """
    inputs = tuple(session.example().values())
    generator = torch.Generator().manual_seed(seed)
    removal = {
        one.name: one.channels(_least(model.get_submodule(one.name), one.units, one.blocks, width, generator if drawn else None))
        for one in (layers(model, inputs) if width < 1 else ())
    }
    student = cut(model, inputs, removal).requires_grad_(True)
    if width < 1 and cost.parameters(student) == cost.parameters(model):
        message = "no layer of the module can be made narrower"
        raise FaultError("unsupported_op", message, "write the student yourself, and give its factory as `student:`", "compress")
    return renewed(student, seed) if fresh else student


def renewed(model: nn.Module, seed: int) -> nn.Module:
    """The same module with new random weights, where its layers have a way to draw them."""
    torch.manual_seed(seed)
    for layer in model.modules():
        renew: Any = getattr(layer, "reset_parameters", None)
        if renew is not None:
            renew()
    return model


def written(factory: str, session: Session, seed: int) -> nn.Module:
    """What this factory of the source's file makes; raises FaultError `bad_model` for one that gives other outputs than the model."""
    torch.manual_seed(seed)
    make: Any = getattr(session.code, factory, None)
    if make is None:
        raise FaultError("bad_model", f"the source's file has no {factory!r}", "write the student's factory beside the model's", "compress")
    inputs = session.example().values()
    try:
        student: nn.Module = make()
        found, wanted = (first(one.eval()(*inputs)).shape for one in (student, session.teacher))
    except Exception as error:
        message = f"{factory}() gives no student: {type(error).__name__}: {error}"
        raise FaultError("bad_model", message[:300], "correct the factory", "compress") from error
    if found != wanted:
        message = f"{factory}() gives outputs of shape {tuple(found)}, the model {tuple(wanted)}"
        raise FaultError("bad_model", message, "let the student have the model's inputs and outputs", "compress")
    return student


def _least(layer: nn.Module, units: int, blocks: int, width: float, generator: torch.Generator | None) -> list[int]:
    """The units that go: at least one stays."""
    gone = units - max(1, round(width * units))
    if generator is not None:
        return torch.randperm(units, generator=generator)[:gone].tolist()
    weight: Any = layer.weight
    transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    sums: Tensor = (weight.transpose(0, 1) if transposed else weight).detach().abs().flatten(1).sum(1)
    return sums.reshape(blocks, -1).sum(0).argsort(stable=True)[:gone].tolist()
