"""What a .tflite file that edgetpu_compiler wrote holds, read without the flatbuffers package and without trust in the file."""

import mmap
import os
import struct
from typing import Any, List, NamedTuple

from agent.schema import FaultError

EDGETPU_OPERATION = b"edgetpu-custom-op"
MAX_ENTRIES = 100000
# The fields' numbers in schema.fbs of TensorFlow Lite.
MODEL_OPERATOR_CODES, MODEL_SUBGRAPHS = 1, 2
CODE_CUSTOM_NAME = 1
SUBGRAPH_OPERATORS = 3
OPERATOR_CODE = 0


class Placement(NamedTuple):
    """How many parts of the model run on the Edge TPU, each one node with many of the original operations, and how many nodes do not."""

    edgetpu_subgraphs: int
    cpu_operations: int


def placement(path: str) -> Placement:
    """Return what the file's graphs are made of; raises FaultError bad_model for what is no whole TFLite file."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _placement(_Flatbuffer(content))
    except (OSError, ValueError) as error:
        message = "{}: not a whole TFLite file ({})".format(os.path.basename(path), error)
        raise FaultError("bad_model", message, "compile or copy the model again", "load") from None


def _placement(file: "_Flatbuffer") -> Placement:
    if file.content[4:8] != b"TFL3":
        raise ValueError("no TFL3 mark")
    model = file.target(0)
    names = [file.text(code, CODE_CUSTOM_NAME, len(EDGETPU_OPERATION)) for code in file.tables(model, MODEL_OPERATOR_CODES)]
    counts = [0, 0]
    for graph in file.tables(model, MODEL_SUBGRAPHS):
        for operator in file.tables(graph, SUBGRAPH_OPERATORS):
            code = file.scalar(operator, OPERATOR_CODE)
            if code >= len(names) or sum(counts) >= MAX_ENTRIES:
                raise ValueError("an operation of no kind, or too many")
            counts[names[code] == EDGETPU_OPERATION] += 1
    return Placement(counts[True], counts[False])


class _Flatbuffer:
    """Reads tables, vectors and numbers at positions in `content`; raises ValueError for one that lies outside."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def number(self, layout: str, at: int) -> int:
        if not 0 <= at <= len(self.content) - struct.calcsize(layout):
            raise ValueError("it ends early")
        return int(struct.unpack_from(layout, self.content, at)[0])

    def target(self, at: int) -> int:
        """Where the offset that is stored at `at` leads."""
        return at + self.number("<I", at)

    def field(self, table: int, number: int) -> int:
        """Where a table's field lies, 0 if the table leaves it out."""
        layout = table - self.number("<i", table)
        entry = 4 + 2 * number
        offset = self.number("<H", layout + entry) if entry < self.number("<H", layout) else 0
        return table + offset if offset else 0

    def scalar(self, table: int, number: int) -> int:
        """The unsigned 32-bit number in a field, 0 by default."""
        at = self.field(table, number)
        return self.number("<I", at) if at else 0

    def tables(self, table: int, number: int) -> List[int]:
        """Where the tables of a vector lie."""
        at = self.field(table, number)
        if not at:
            return []
        start = self.target(at)
        length = self.number("<I", start)
        if length > MAX_ENTRIES:
            raise ValueError("a list is too long")
        return [self.target(start + 4 * entry) for entry in range(1, length + 1)]

    def text(self, table: int, number: int, longest: int) -> bytes:
        """The first `longest` + 1 bytes of a string, empty if there is none."""
        at = self.field(table, number)
        if not at:
            return b""
        start = self.target(at)
        length = min(self.number("<I", start), longest + 1)
        return bytes(self.content[start + 4 : start + 4 + length])
