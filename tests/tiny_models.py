"""The smallest models that show one property each, in ONNX, OpenVINO IR and TFLite, and how a test runs them."""
# flatbuffers, openvino and litert's schema module are typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnx import TensorProto, helper, save

import backends

ROOT = Path(__file__).parent.parent
FASHION = ROOT / "examples" / "fashion"
KINDS = ("onnxruntime", "openvino", "openvino-onnx", "tflite")  # backend, and the format where it is not the preferred one


def onnx_model(path: Path, operator: str = "Relu", *, rows: int | str = 1, domain: str = "", opset: int = 13) -> Path:
    """`y` = operator(`image`), both float32 [rows, 4]; with `domain` the operator is of another set than ONNX's own."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, 4]) for name in ("image", "y")]
    return save_onnx(path, [helper.make_node(operator, ["image"], ["y"], domain=domain)], values[:1], values[1:], domain, opset)


def save_onnx(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], domain: str = "", opset: int = 13) -> Path:
    """A graph of ONNX's own operators in `opset` and of version 1 of `domain`."""
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    save(helper.make_model(helper.make_graph(nodes, "tiny", inputs, outputs), opset_imports=opsets, ir_version=8), path)
    return path


def openvino_model(path: Path, onnx: Path) -> Path:
    """The ONNX model as IR: an .xml at `path`, its .bin beside it."""
    import openvino

    openvino.save_model(openvino.Core().read_model(onnx), path, compress_to_fp16=False)
    return path


def tflite_model(
    path: Path,
    tensors: tuple[str, ...] = ("image", "y"),
    *,
    signature: tuple[str, str] | None = None,
    open_rows: bool = False,
    int8: tuple[float, int] | None = None,
    custom: str = "",
) -> Path:
    """Outputs image + image, or custom(image), all [1, 4]; `tensors` names the input and the outputs.

    `signature` gives the input and the first output other names; `int8` is the scale and the zero point of every tensor.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.version = 1
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM if custom else schema.BuiltinOperator.ADD
    code.customCode = custom or None
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(schema, name, open_rows, int8) for name in tensors]
    graph.inputs, graph.outputs = [0], list(range(1, len(tensors)))
    graph.operators = [_operator(schema, output, bool(custom)) for output in graph.outputs]
    model = schema.ModelT()
    model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, [schema.BufferT()], [code], [graph]
    model.signatureDefs = [_signature(schema, signature)] if signature else None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def _tensor(schema: Any, name: str, open_rows: bool, int8: tuple[float, int] | None) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.hasRank = name, [1, 4], True
    tensor.shapeSignature = [-1, 4] if open_rows else None
    tensor.type = schema.TensorType.INT8 if int8 else schema.TensorType.FLOAT32
    if int8:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [int8[0]], [int8[1]]
    return tensor


def _operator(schema: Any, output: int, custom: bool) -> Any:
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0] if custom else [0, 0], [output]
    if not custom:
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    return operator


def _signature(schema: Any, names: tuple[str, str]) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
    for index, (tensor, name) in enumerate(zip(signature.inputs + signature.outputs, names, strict=True)):
        tensor.name, tensor.tensorIndex = name, index
    return signature


def load(path: Path, backend: str | None = None, **options: Any) -> backends.Session:
    """A session of the backend that is wanted, else of the one that prefers the file's format."""
    preferred = {".onnx": "onnxruntime", ".xml": "openvino", ".tflite": "tflite"}[path.suffix]
    return backends.get(backend or preferred).load(str(path), options)


def tiny(kind: str, folder: Path) -> backends.Session:
    """A session of a model with float32 input image [1, 4] and output y, which is never below 0."""
    path = tflite_model(folder / "tiny.tflite") if kind == "tflite" else onnx_model(folder / "tiny.onnx")
    if kind == "openvino":
        path = openvino_model(folder / "tiny.xml", path)
    return load(path, kind.partition("-")[0])


def run(session: backends.Session, **feeds: Any) -> dict[str, NDArray[Any]]:
    session.bind(feeds)
    session.infer()
    return session.outputs()
