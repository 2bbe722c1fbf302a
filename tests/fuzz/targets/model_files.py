"""Files that are read by our own readers: the first byte is a reader's number, the rest its file.

Models' heads on a device and on the controller, the profile that onnxruntime writes, and Deep Compression's coded file: its graph and
its records, which are packed here, for its checksum would keep every mutation out.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from agents import tiny_model

from agent.schema import FaultError
from backends import onnx_file, onnxruntime_profile, tflite_file
from compress import codebook, coding, onnx_model, tflite_model
from fuzz import folder

DECLARED = (FaultError,)
WORDS = ("TFL3", "edgetpu-custom-op", "ai.onnx", "_kernel_time", "model_run", "Node", "Session", "dur", "op_name", "provider")
FILE = Path(folder(), "file")
BETWEEN = b"\x1e\x1f"
EVENTS = (
    {"cat": "Node", "name": "conv_kernel_time", "dur": 12, "args": {"op_name": "Conv", "provider": "CPUExecutionProvider"}},
    {"cat": "Session", "name": "model_run", "dur": 20, "args": {}},
)


def seeds() -> Iterator[bytes]:
    """One for each reader."""
    for number in (0, 1):
        yield b"%d" % number + tiny_model()
    for number in (2, 3):
        yield b"%d" % number + _tflite()
    yield b"4[\n" + b",\n".join(json.dumps(event).encode() for event in EVENTS) + b"\n]"
    yield b"5" + _coded()


def _tflite() -> bytes:
    """A graph of two operations, one of them of the Edge TPU."""
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    codes = [schema.OperatorCodeT(), schema.OperatorCodeT()]
    codes[0].customCode, codes[0].builtinCode, codes[1].version = "edgetpu-custom-op", schema.BuiltinOperator.CUSTOM, 1
    model.operatorCodes, graph.tensors, graph.operators = (
        codes,
        [schema.TensorT() for _ in range(3)],
        [schema.OperatorT(), schema.OperatorT()],
    )
    for at, tensor in enumerate(graph.tensors):
        tensor.name, tensor.shape = f"t{at}", [1, 4]
    for at, operator in enumerate(graph.operators):
        operator.opcodeIndex, operator.inputs, operator.outputs = at, [at], [at + 1]
    graph.inputs, graph.outputs = [0], [2]
    tflite_model.write(model, FILE)
    return FILE.read_bytes()


def _coded() -> bytes:
    """The graph and the records of a coded file with a tensor of shared weights."""
    model = onnx.load_model_from_string(tiny_model())
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    whole = coding.encode(model, {"weight": coding.Shared(*codebook.share(weight, 4))}, half=True)
    start = len(whole.content) - 4 - sum(whole.tensor_bytes.values())
    graph = zlib.decompress(whole.content[start - whole.graph_bytes : start])
    return graph + BETWEEN + whole.content[start:-4]


def _profile() -> None:
    found = onnxruntime_profile.read(str(FILE))
    assert all(operation.seconds is not None and operation.seconds >= 0 for inference in found for operation in inference)


def _decoded() -> None:
    graph, _, records = FILE.read_bytes().partition(BETWEEN)
    deflated = zlib.compress(graph, 1)
    content = coding.MAGIC + coding._varint(len(deflated)) + deflated + records
    coding.decode(content + zlib.crc32(content).to_bytes(4, "little"), "file")


def _onnx() -> None:
    onnx_model.inputs(FILE)
    onnx_model.parameters(FILE)


def _tflite_model() -> None:
    tflite_model.inputs(FILE)
    tflite_model.parameters(FILE)


READERS: tuple[Callable[[], object], ...] = (
    lambda: onnx_file.read(str(FILE)),
    _onnx,
    lambda: tflite_file.placement(str(FILE)),
    _tflite_model,
    _profile,
    _decoded,
)


def one(data: bytes) -> None:
    """The file is read whole, or refused."""
    FILE.write_bytes(data[1:])
    READERS[data[0] % len(READERS) if data else 0]()
