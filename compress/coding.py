"""Deep Compression's file: an ONNX model whose weights are entries of codebooks, at relative positions, both Huffman coded.

FMDC, version, the graph deflated, then a record for each float32 initializer of the graph in its order, and the CRC-32 of it all. A record:
its layout, and for `PLAIN` the values, else codebook and codes. `SPARSE` codes the distance to the next weight that is not zero, `DENSE`
all of them. Numbers are little-endian, sizes are LEB128. Values are float16 where asked for and where they fit, else float32.
"""
# protobuf messages have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError
from compress import codebook, huffman, onnx_model, onnx_tensors

if TYPE_CHECKING:
    import onnx

MAGIC = b"FMDC\x01"
PLAIN, DENSE, SPARSE = 0, 1, 2
HALF = 16
"""Added to a layout whose values are float16."""

MAX_GRAPH_BYTES = 1 << 24
MAX_WEIGHTS = 1 << 26
"""Bounds of what a file may unfold to: the graph, and all weights together (256 MiB)."""

MAX_ENTRIES = 256
GAP_BITS = range(2, 9)
"""Widths of a relative position that the writer tries; the largest distance means: so far, and no weight here."""

Labels = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Shared:
    """A tensor's weights as `codebook.share` gives them: `centres` ascending, `labels` flat, 0 for a zero."""

    centres: NDArray[np.float32]
    labels: Labels


@dataclass(frozen=True, slots=True)
class CodedFile:
    """The file, how many float32 weights it holds, and what of it the graph and each tensor take in bytes."""

    content: bytes
    weights: int
    graph_bytes: int
    tensor_bytes: Mapping[str, int]


def encode(model: "onnx.ModelProto", shared: Mapping[str, Shared], *, half: bool) -> CodedFile:
    """The model as a file; float32 initializers that are not in `shared` keep their values, in float16 where `half`.

    Names of nodes and documentation are left out. Raises FaultError `unsupported_op` for a model beyond the reader's bounds.
    """
    from onnx import ModelProto, numpy_helper

    bare = ModelProto()
    bare.CopyFrom(model)
    _strip(bare)
    records: dict[str, bytes] = {}
    for tensor in _floats(bare):
        values = numpy_helper.to_array(tensor).ravel()
        records[tensor.name] = _smallest(values, shared.get(tensor.name), half=half)
        for field in ("raw_data", "float_data"):
            tensor.ClearField(field)
    graph = bare.SerializeToString(deterministic=True)
    weights = sum(prod(tensor.dims) for tensor in _floats(bare))
    if len(graph) > MAX_GRAPH_BYTES or weights > MAX_WEIGHTS:
        limits = f"{MAX_GRAPH_BYTES:,} bytes of graph or {MAX_WEIGHTS:,} weights"
        raise FaultError("unsupported_op", f"the model is larger than a coded file may be: {limits}", "leave deep-coding out", "compress")
    deflated = zlib.compress(graph, 9)
    content = MAGIC + _varint(len(deflated)) + deflated + b"".join(records.values())
    sizes = {name: len(record) for name, record in records.items()}
    return CodedFile(content + zlib.crc32(content).to_bytes(4, "little"), weights, len(deflated), sizes)


def decode(content: bytes, name: str) -> "onnx.ModelProto":
    """The model of a coded file called `name`; raises FaultError `bad_model` for one that is truncated, altered or hostile."""
    if not content.startswith(MAGIC) or len(content) < len(MAGIC) + 4:
        raise _bad(name, "no coded model")
    if zlib.crc32(content[:-4]).to_bytes(4, "little") != content[-4:]:
        raise _bad(name, "its checksum is wrong: it was cut off or altered")
    reader = _Reader(content[len(MAGIC) : -4])
    try:
        model = onnx_model.parse_hollow(_inflate(reader.take(reader.varint())), name)
        _fill(model, reader)
        onnx_tensors.check(model)
        if reader.left:
            raise ValueError(f"{reader.left} bytes after the last weight")
    except ValueError as error:
        raise _bad(name, str(error)) from None
    return model


def _bad(name: str, why: str) -> FaultError:
    return FaultError("bad_model", f"{name}: {why}", "write the coded file again", "load")


def _strip(model: "onnx.ModelProto") -> None:
    for text in ("producer_name", "producer_version", "doc_string"):
        model.ClearField(text)  # type: ignore[arg-type]  - its stub lists the names one by one
    model.graph.ClearField("doc_string")
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")


def _floats(model: "onnx.ModelProto") -> "list[onnx.TensorProto]":
    """The initializers that have a record."""
    return [tensor for tensor in model.graph.initializer if tensor.data_type == tensor.FLOAT]


def _fill(model: "onnx.ModelProto", reader: "_Reader") -> None:
    """Reads the records into the graph's tensors; raises ValueError."""
    tensors = _floats(model)
    if any(tensor.data_location == tensor.EXTERNAL for tensor in model.graph.initializer):
        raise ValueError("a coded model has no external weights")
    if any(size < 0 for tensor in tensors for size in tensor.dims) or sum(prod(tensor.dims) for tensor in tensors) > MAX_WEIGHTS:
        raise ValueError(f"more than {MAX_WEIGHTS:,} weights, or sizes below zero")
    for tensor in tensors:
        for field in ("raw_data", "float_data"):
            tensor.ClearField(field)
        tensor.raw_data = reader.tensor(prod(tensor.dims)).astype("<f4").tobytes()


def _inflate(deflated: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        graph = unpacker.decompress(deflated, MAX_GRAPH_BYTES)
    except zlib.error as error:
        raise ValueError(f"its graph cannot be unpacked ({error})") from None
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("its graph is cut off, or too large")
    return graph


def _smallest(weights: NDArray[np.float32], shared: Shared | None, *, half: bool) -> bytes:
    """The shortest of the layouts that can hold the tensor; all give the same values."""
    half = half and bool(np.abs(weights).max(initial=0) <= np.finfo(np.float16).max)
    flag = HALF if half else 0
    records = [bytes([PLAIN | flag]) + _values(weights, half=half)]
    if shared is not None and 0 < len(shared.centres) <= MAX_ENTRIES and weights.size:
        head = bytes([len(shared.centres) - 1]) + _values(shared.centres, half=half)
        records.append(bytes([DENSE | flag]) + head + _stream(shared.labels, len(shared.centres) + 1))
        records += [bytes([SPARSE | flag]) + head + _sparse(shared, bits) for bits in GAP_BITS]
    return min(records, key=len)


def _values(values: NDArray[np.float32], *, half: bool) -> bytes:
    return values.astype("<f2" if half else "<f4").tobytes()


def _sparse(shared: Shared, bits: int) -> bytes:
    there = np.flatnonzero(shared.labels)
    gaps = np.diff(there, prepend=-1) - 1
    far = (1 << bits) - 1
    symbols = np.full(int((gaps // far + 1).sum()), far)
    symbols[np.cumsum(gaps // far + 1) - 1] = gaps % far
    head = bytes([bits]) + _varint(len(symbols))
    return head + _stream(symbols, far + 1) + _stream(shared.labels[there] - 1, len(shared.centres))


def _stream(symbols: Labels, alphabet: int) -> bytes:
    """The code lengths, four bits each, and the codes."""
    table = huffman.lengths(np.bincount(symbols, minlength=alphabet).tolist())
    padded = np.append(table, np.zeros(alphabet % 2, np.int64)).reshape(-1, 2)
    packed = huffman.pack(symbols, table)
    return (16 * padded[:, 0] + padded[:, 1]).astype(np.uint8).tobytes() + _varint(len(packed)) + packed


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(128 | value & 127)
        value >>= 7
    return bytes([*encoded, value])


class _Reader:
    """Reads a file front to back; raises ValueError where it ends too early or makes no sense."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("it ends too early")
        self._at += count
        return self._content[self._at - count : self._at]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a size with too many digits")

    def tensor(self, size: int) -> NDArray[np.float32]:
        """The next record's `size` weights."""
        (layout,) = self.take(1)
        width = 2 if layout & HALF else 4
        kind = layout & ~HALF
        if kind == PLAIN:
            return self._numbers(size, width)
        if kind not in (DENSE, SPARSE):
            raise ValueError(f"there is no layout {layout}")
        centres = self._numbers(self.take(1)[0] + 1, width)
        labels = self._symbols(size, len(centres) + 1) if kind == DENSE else self._positions(size, len(centres))
        return codebook.values(centres, labels)

    def _numbers(self, count: int, width: int) -> NDArray[np.float32]:
        return np.frombuffer(self.take(count * width), f"<f{width}").astype(np.float32)

    def _symbols(self, count: int, alphabet: int) -> Labels:
        nibbles = np.frombuffer(self.take((alphabet + 1) // 2), np.uint8).astype(np.int64)
        table = np.stack([nibbles >> 4, nibbles & 15], axis=1).ravel()[:alphabet]
        return huffman.unpack(self.take(self.varint()), table, count)

    def _positions(self, size: int, entries: int) -> Labels:
        (bits,) = self.take(1)
        if bits not in GAP_BITS:
            raise ValueError(f"relative positions of {bits} bits")
        far = (1 << bits) - 1
        steps = self._symbols(self.varint(), far + 1)
        ends = np.cumsum(np.where(steps == far, far, steps + 1))
        there = ends[steps != far] - 1
        if len(ends) and ends[-1] > size:
            raise ValueError("a weight beyond the end of its tensor")
        labels = np.zeros(size, np.uint16)
        labels[there] = 1 + self._symbols(len(there), entries)
        return labels
