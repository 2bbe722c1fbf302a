"""What one inference of a float model costs, and how many of its weights are zero."""
# protobuf messages and flatbuffers have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress import onnx_model, tflite_model
from compress.tflite_model import constant, indices, operator_name, type_name

MATRIX_RANK = 2
"""Weights have at least so many axes; biases and scales do not count as weights."""

UNCOUNTED = ("If", "Loop", "Scan", "Einsum", "Attention", "DeformConv", "IF", "WHILE", "CALL", "SVDF", "CUSTOM")
"""ONNX's and TFLite's operators that compute what is not counted here."""

RECURRENT = ("RNN", "GRU", "LSTM")
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one inference: floating-point parameters, multiply-accumulates (None: a shape is not known), and the share of zero weights."""

    parameters: int
    macs: int | None
    sparsity: float


def of(path: Path, format: str) -> Cost:  # noqa: A002  (the domain's word)
    """The cost of a float model in onnx or tflite; an open batch counts as 1. Raises FaultError `bad_model`."""
    return _tflite(path) if format == "tflite" else _onnx(path)


def _onnx(path: Path) -> Cost:
    from onnx import numpy_helper, shape_inference

    model = onnx_model.parse(path.read_bytes(), path.name)
    graph = shape_inference.infer_shapes(model).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes: dict[str, Sequence[int]] = {name: array.shape for name, array in weights.items()}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.HasField("shape") and 0 not in dims[1:]:
            shapes.setdefault(value.name, [dims[0] or 1, *dims[1:]] if dims else [])
    counts = [_onnx_macs(node, shapes) for node in graph.node]
    return Cost(onnx_model.parameters(path), _sum(counts), _sparsity(weights.values()))


def _onnx_macs(node: Any, shapes: Shapes) -> int | None:
    """A node's multiply-accumulates, 0 for what has none; None where it has some and its shapes are not known."""
    count = _ONNX.get(node.op_type)
    if count is None:
        return None if node.op_type in UNCOUNTED or node.domain not in ("", "ai.onnx") else 0
    try:
        return count(node, shapes)
    except (KeyError, IndexError):
        return None


def _convolution(node: Any, shapes: Shapes) -> int:
    return prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])


def _transposed(node: Any, shapes: Shapes) -> int:
    return prod(shapes[node.input[0]]) * prod(shapes[node.input[1]][1:])


def _gemm(node: Any, shapes: Shapes) -> int:
    is_turned = any(one.name == "transA" and one.i for one in node.attribute)
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if is_turned else 1]


def _matmul(node: Any, shapes: Shapes) -> int:
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _recurrent(node: Any, shapes: Shapes) -> int:
    steps, samples, _ = shapes[node.input[0]]
    return steps * samples * (prod(shapes[node.input[1]]) + prod(shapes[node.input[2]]))


_ONNX: Mapping[str, Callable[[Any, Shapes], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(RECURRENT, _recurrent),
}


def _tflite(path: Path) -> Cost:
    model = tflite_model.read(path)
    counts = [_tflite_macs(model, graph, operator) for graph in model.subgraphs for operator in graph.operators]
    return Cost(tflite_model.parameters(path), _sum(counts), _sparsity(_tflite_weights(model)))


def _tflite_macs(model: Any, graph: Any, operator: Any) -> int | None:
    name = operator_name(model, operator)
    shapes = [indices(graph.tensors[at].shape) for at in indices(operator.inputs) if at != -1]
    output = prod(indices(graph.tensors[operator.outputs[0]].shape))
    if name in ("CONV_2D", "CONV_3D"):
        kernel = shapes[1][1:] if name == "CONV_2D" else shapes[1][:-1]
        return output * prod(kernel)
    if name == "DEPTHWISE_CONV_2D":
        return output * prod(shapes[1][1:3])
    if name == "FULLY_CONNECTED":
        return output * shapes[1][-1]
    if name == "BATCH_MATMUL":
        return output * shapes[0][-2 if operator.builtinOptions.adjX else -1]
    if name == "TRANSPOSE_CONV":
        return prod(shapes[2]) * prod(shapes[1][:3])
    return None if name in UNCOUNTED or name.endswith(("LSTM", "RNN")) else 0


def _tflite_weights(model: Any) -> Iterator[NDArray[Any]]:
    """The constants in full; those in the sparse encoding are left out."""
    kinds = {"FLOAT32": np.dtype("<f4"), "FLOAT16": np.dtype("<f2")}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            content = constant(model, tensor)
            if content is not None and tensor.sparsity is None and type_name(tensor) in kinds:
                yield content.view(kinds[type_name(tensor)]).reshape(indices(tensor.shape))


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _sparsity(arrays: Any) -> float:
    """The share of zeros among the floating-point weights, 0 without any."""
    weights = [array for array in arrays if array.ndim >= MATRIX_RANK and array.dtype.kind == "f"]
    values = sum(array.size for array in weights)
    return sum(array.size - int(np.count_nonzero(array)) for array in weights) / values if values else 0.0
