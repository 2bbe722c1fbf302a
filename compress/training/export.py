"""A torch module as ONNX."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import inspect
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.training import OPSET


def to_onnx(model: nn.Module, example: dict[str, Tensor], path: Path) -> None:
    """Writes it in operator set OPSET with the example's shapes, batch 1; inputs by their names, outputs `output` or `output_0`, ..."""
    model = model.eval()
    names, inputs = list(example), tuple(example.values())
    with torch.inference_mode():
        found = model(*inputs)
    outputs = ["output"] if isinstance(found, Tensor) else [f"output_{at}" for at in range(len(found))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter needs opset 18
        torch.onnx.export(model, inputs, path, input_names=names, output_names=outputs, opset_version=OPSET, dynamo=False)


def ordered(model: nn.Module, names: list[str]) -> list[str]:
    """The names of the inputs in the order of the module's `forward`, as they are where it has others."""
    parameters = list(inspect.signature(model.forward).parameters)
    return sorted(names, key=parameters.index) if set(names) <= set(parameters) else names
