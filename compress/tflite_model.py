"""Reads and writes TFLite files as objects, and tells what is in them."""

import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError, TensorSpec
from compress import model_file

Table = Any
"""An object of ai_edge_litert's generated classes, whose own annotations are wrong: text is bytes, lists are never None."""

_DTYPES = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_PARSE_ERRORS = (struct.error, AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


def read(path: Path) -> Table:
    """The whole model as a mutable object, external buffers brought in; raises FaultError `bad_model` that names the file."""
    from ai_edge_litert import schema_py_generated

    schema: Any = schema_py_generated
    content = model_file.read(path)
    try:
        if content[4:8] != b"TFL3":
            raise ValueError("no TFL3 mark")
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        for buffer in model.buffers:
            if buffer.offset:
                buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        _check_indices(model)
    except _PARSE_ERRORS as error:
        raise FaultError("bad_model", f"{path.name}: not a whole TFLite file ({error})", "export or copy the model again", "load") from None
    return model


def write(model: Table, path: Path) -> None:
    """Writes the model with all weights inside it: tflite-runtime 2.14 reads no external buffers."""
    from ai_edge_litert.tools import flatbuffer_utils

    serialise: Any = flatbuffer_utils.convert_object_to_bytearray
    path.write_bytes(serialise(model))


def inputs(path: Path) -> list[TensorSpec]:
    """What the first graph is fed; a dimension without a fixed size is -1. Raises FaultError `bad_model`."""
    graph = read(path).subgraphs[0]
    specs: list[TensorSpec] = []
    for at in graph.inputs:
        tensor = graph.tensors[at]
        shape = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        specs.append(TensorSpec(text(tensor.name), indices(shape), _DTYPES.get(type_name(tensor), "object")))
    return specs


def parameters(path: Path) -> int:
    """The number of constant floating-point values."""
    model = read(path)
    floating = [tensor for graph in model.subgraphs for tensor in graph.tensors if type_name(tensor) in ("FLOAT32", "FLOAT16")]
    return sum(prod(indices(tensor.shape)) for tensor in floating if constant(model, tensor) is not None)


def output_names(model: Table) -> list[bytes]:
    """The names of the first graph's outputs."""
    graph = model.subgraphs[0]
    return [graph.tensors[at].name for at in graph.outputs]


def signature_inputs(model: Table) -> tuple[str, dict[str, str]]:
    """The key of the first graph's SignatureDef, and its name for each input by the tensor's name."""
    signature = next(entry for entry in model.signatureDefs if entry.subgraphIndex == 0)
    tensors = model.subgraphs[0].tensors
    return text(signature.signatureKey), {text(tensors[entry.tensorIndex].name): text(entry.name) for entry in signature.inputs}


def operator_names(model: Table) -> set[str]:
    """The built-in operators that its graphs use."""
    return {operator_name(model, operator) for graph in model.subgraphs for operator in graph.operators}


def has_weights(model: Table, kind: str) -> bool:
    """Whether any constant is of a type, such as INT8."""
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    return any(type_name(tensor) == kind and constant(model, tensor) is not None for tensor in tensors)


def operator_name(model: Table, operator: Table) -> str:
    """What the operator is called; old files have the deprecated code only."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return next((name for name, value in vars(BuiltinOperator).items() if value == number), str(number))


def type_name(tensor: Table) -> str:
    """The tensor's type, as FLOAT32."""
    from ai_edge_litert.schema_py_generated import TensorType

    return next((name for name, value in vars(TensorType).items() if value == tensor.type), str(tensor.type))


def constant(model: Table, tensor: Table) -> NDArray[np.uint8] | None:
    """A constant's bytes; None for what is computed."""
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else np.asarray(data, np.uint8)


def indices(values: Any) -> list[int]:
    """A list of numbers that the file may leave out."""
    return [] if values is None else [int(at) for at in values]


def text(name: bytes | None) -> str:
    """A name that the file may leave out."""
    return (name or b"").decode("utf-8", "replace")


def _check_indices(model: Table) -> None:
    if not model.subgraphs:
        raise ValueError("no graph")
    for graph in model.subgraphs:
        used = [*graph.inputs, *graph.outputs]
        for operator in graph.operators:
            used += [at for at in (*indices(operator.inputs), *indices(operator.outputs)) if at != -1]
            _ = model.operatorCodes[operator.opcodeIndex]
        if any(at not in range(len(graph.tensors)) for at in used):
            raise ValueError("an operator refers to a tensor that is not there")
        if any(tensor.buffer not in range(len(model.buffers)) for tensor in graph.tensors):
            raise ValueError("a tensor refers to a buffer that is not there")
