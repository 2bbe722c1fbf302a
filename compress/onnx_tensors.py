"""Holds the constants of an ONNX model to what their shapes promise, before anybody makes room for them."""
# protobuf messages have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable, Iterator
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MAX_BYTES = 2**31 - 1
"""The most that a tensor, which is a protobuf message once it is in the model, holds."""

PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
MOST_IN_A_FIELD = 4
"""Values of the narrowest type that one number of a field holds."""


def check(model: "onnx.ModelProto") -> None:
    """Raises ValueError for a tensor whose shape is negative or promises more than it holds, and for a sparse one that is too large."""
    for sparse in _sparse(model):
        _size_bytes(type(sparse.values)(name=sparse.values.name, dims=sparse.dims, data_type=sparse.values.data_type))
    for tensor in _tensors(model):
        size_bytes = _size_bytes(tensor)
        inside = sum(len(getattr(tensor, name)) for name in FIELDS)
        if tensor.HasField("raw_data"):
            _expect(len(tensor.raw_data) == size_bytes, tensor, f"has {len(tensor.raw_data):,} bytes")
        elif not tensor.external_data and not tensor.string_data:
            _expect(prod(tensor.dims) <= inside * MOST_IN_A_FIELD, tensor, f"has {inside:,} values")


def bound_external(model: "onnx.ModelProto") -> None:
    """Has external weights read as far as their shapes say and no further.

    Raises ValueError for a tensor that wants another length, and for more than a model holds.
    """
    room_bytes = MAX_BYTES
    for tensor in _tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not entries:
            continue
        size_bytes = _size_bytes(tensor)
        room_bytes -= size_bytes
        _expect(room_bytes >= 0, tensor, f"and those before it have more than {MAX_BYTES:,} bytes")
        if "length" in entries:
            _expect(int(entries["length"]) == size_bytes, tensor, f"takes {int(entries['length']):,} bytes of its file")
        else:
            tensor.external_data.add(key="length", value=str(size_bytes))


def _sparse(model: "onnx.ModelProto") -> "Iterator[onnx.SparseTensorProto]":
    yield from model.graph.sparse_initializer
    for attribute in (attribute for node in model.graph.node for attribute in node.attribute):
        yield from ([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])


def _tensors(model: "onnx.ModelProto") -> "Iterator[onnx.TensorProto]":
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: "onnx.GraphProto") -> "Iterator[onnx.TensorProto]":
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: "Iterable[onnx.NodeProto]") -> "Iterator[onnx.TensorProto]":
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _of_graph(graph)


def _size_bytes(tensor: "onnx.TensorProto") -> int:
    from onnx import TensorProto, helper

    _expect(all(size >= 0 for size in tensor.dims), tensor, "has a size below zero")
    try:
        kind = TensorProto.DataType.Name(tensor.data_type)
        bits = PACKED_BITS.get(kind) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError):
        raise ValueError(f"tensor {tensor.name!r} is of the unknown type {tensor.data_type}") from None
    size_bytes = -(-prod(tensor.dims) * bits // 8)
    _expect(size_bytes <= MAX_BYTES, tensor, "is larger than any")
    return size_bytes


def _expect(condition: bool, tensor: "onnx.TensorProto", what: str) -> None:
    if not condition:
        raise ValueError(f"tensor {tensor.name!r} of shape {list(tensor.dims)} {what}")
