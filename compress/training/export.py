"""A torch module as ONNX."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import inspect
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from agent.schema import FaultError
from compress.training import OPSET


def to_onnx(model: nn.Module, example: dict[str, Tensor], path: Path) -> None:
    """Writes it in operator set OPSET with the example's shapes, batch 1; inputs by their names, outputs `output` or `output_0`, ...

    Raises TypeError for a module that gives anything but tensors.
    """
    model = model.eval()
    names, inputs = list(example), tuple(example.values())
    with torch.inference_mode():
        found = model(*inputs)
    if not isinstance(found, Tensor | tuple | list):
        raise TypeError(f"it gives a {type(found).__name__}, not a tensor or a tuple of them")
    outputs = ["output"] if isinstance(found, Tensor) else [f"output_{at}" for at in range(len(found))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter needs opset 18
        torch.onnx.export(model, inputs, path, input_names=names, output_names=outputs, opset_version=OPSET, dynamo=False)


def ordered(model: nn.Module, names: list[str]) -> list[str]:
    """The names of the inputs in the order of the module's `forward`, as they are where it has others.

    Raises FaultError `bad_data` where one between them is not fed: they are given by position.
    """
    parameters = list(inspect.signature(model.forward).parameters)
    if not set(names) <= set(parameters):
        return names
    taken = parameters[: 1 + max(map(parameters.index, names), default=-1)]
    missing = [name for name in taken if name not in names]
    if missing:
        message = f"the module's forward takes {', '.join(taken)}, and there is no array for {missing[0]}"
        raise FaultError("bad_data", message, f"add eval_{missing[0]} to the data file", "compress")
    return taken
