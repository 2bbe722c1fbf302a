"""What an ONNX file says of itself that a runtime does not tell: its operator set and its outputs, read from the protobuf's own bytes.

Field numbers are those of onnx.proto: ModelProto.graph 7 and opset_import 8, GraphProto.output 12, ValueInfoProto.name 1.
"""

import os
from typing import Any, Iterator, List, NamedTuple, Tuple

from agent.schema import FaultError

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5


class Header(NamedTuple):
    """The version of ONNX's own operator set, 0 if there is none, and the names of the outputs in order."""

    opset: int
    outputs: List[str]


def read(path: str) -> Header:
    """Return the file's header; raises FaultError bad_model."""
    with open(path, "rb") as file:
        content = memoryview(file.read())
    try:
        imports = [dict(_fields(value)) for number, value in _fields(content) if number == 8]
        graph = next(value for number, value in _fields(content) if number == 7)
        names = [dict(_fields(value))[1] for number, value in _fields(graph) if number == 12]
        own = [int(one.get(2, 0)) for one in imports if bytes(one.get(1, b"")) in (b"", b"ai.onnx")]
        return Header(max([*own, 0]), [bytes(name).decode("utf-8") for name in names])
    except (IndexError, KeyError, StopIteration, TypeError, ValueError):
        raise FaultError(
            "bad_model", os.path.basename(path) + ": not a whole ONNX file", "export or copy the model again", "load"
        ) from None


def _fields(data: Any) -> Iterator[Tuple[int, Any]]:
    """The number and value of each field of a message; the values of fixed size are left out."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
        elif kind == BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("cut short")
            yield key >> 3, data[at : at + size]
            at += size
        elif kind in (FIXED_32, FIXED_64):
            at += 4 if kind == FIXED_32 else 8
        else:
            raise ValueError("no wire type {}".format(kind))


def _varint(data: Any, at: int) -> Tuple[int, int]:
    """A number of at most ten bytes, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
