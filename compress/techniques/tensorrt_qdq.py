"""ONNX fit for TensorRT from 8.2 on: fixed shapes, an old operator set, and int8 in the one style of Q/DQ that every release parses."""
# protobuf messages have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import TYPE_CHECKING

from agent.schema import FaultError
from compress import onnx_model
from compress.techniques import FILES, Applied, Params, Technique, Workspace
from compress.techniques.onnx_float16 import OnnxFloat16
from compress.techniques.onnx_int8 import PER_CHANNEL_OPSET, quantise

if TYPE_CHECKING:
    import onnx

MAX_OPSET = 13  # what the parser of TensorRT 8.2 was made for
WEIGHTED = ["Conv", "Gemm", "MatMul"]
STYLE = {
    "ActivationSymmetric": True,  # zero points must be 0
    "WeightSymmetric": True,
    "QuantizeBias": False,  # int32 constants do not parse
    "AddQDQPairToWeight": True,  # nor do int8 constants before TensorRT 10
    "DedicatedQDQPair": True,  # a pair with several readers is not fused into them
    "OpTypesToExcludeOutputQuantization": WEIGHTED,  # so that an activation is fused with what it follows
}


def fit(source: Path, folder: Path) -> Applied:
    """The float model with its open dimensions set to 1 and an operator set of at most 13; `source` itself where it is so already.

    A model with an operator that 13 does not have, or not in that form, keeps its own set, and a note says so.
    """
    model = onnx_model.parse(source.read_bytes(), source.name)
    fixed, before = _fix_shapes(model), onnx_model.opset(model)
    notes = [f"open dimensions {', '.join(fixed)} set to 1"] if fixed else []
    if before > MAX_OPSET:
        lowered = _lower(model)
        notes.append(f"operator set {before} " + (f"became {MAX_OPSET}" if lowered else f"is newer than {MAX_OPSET}, TensorRT 8.2's"))
        model = lowered or model
    if not notes:
        return Applied(source)
    target = folder / FILES["tensorrt"][0]
    onnx_model.save(model, target)
    return Applied(target, tuple(notes))


def _lower(model: "onnx.ModelProto") -> "onnx.ModelProto | None":
    """The model under operator set 13, None where a node is not valid there: onnx's own converter has no way down for most operators.

    That it still gives the same outputs is verified as for every artifact.
    """
    import onnx

    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    for entry in lowered.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = MAX_OPSET
    try:
        onnx.checker.check_model(lowered, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return None
    return lowered


def _fix_shapes(model: "onnx.ModelProto") -> list[str]:
    """Sets the dimensions that inputs leave open to 1, outputs of the same name too; returns their names, "?" for ones without."""
    constants = {tensor.name for tensor in model.graph.initializer}
    fed = [value for value in model.graph.input if value.name not in constants]
    open_ = [dim for value in fed for dim in value.type.tensor_type.shape.dim if dim.dim_value <= 0]
    names = sorted({dim.dim_param or "?" for dim in open_})
    shared = [dim for value in model.graph.output for dim in value.type.tensor_type.shape.dim if dim.dim_param and dim.dim_param in names]
    for dim in (*open_, *shared):
        dim.dim_value = 1
    return names


class TensorRtStaticInt8(Technique[Params]):
    """Q/DQ before every Conv, Gemm and MatMul: all symmetric, weights per channel, biases float.

    Weights stay float32 in the file, each behind a Q/DQ pair; TensorRT quantises them when it builds the engine, which is what gets small.
    """

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The quantised model; inputs and outputs stay float32."""
        prepared, notes = onnx_model.prepare(source, context.folder, PER_CHANNEL_OPSET)
        path = quantise(prepared, context, op_types_to_quantize=WEIGHTED, extra_options=STYLE)
        return Applied(path, (*notes, "weights are float32 in the file and int8 in the engine that TensorRT builds of it"))


class TensorRtDynamicInt8(Technique[Params]):
    """What TensorRT does not have."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """Raises FaultError `unsupported_op`."""
        raise FaultError("unsupported_op", "TensorRT has no dynamic quantisation", "use int8 or fp16", "compress")


TECHNIQUES = (
    OnnxFloat16("float16", "tensorrt"),
    TensorRtStaticInt8("int8-static", "tensorrt", needs_data=True),
    TensorRtStaticInt8("int8-tensorrt", "tensorrt", needs_data=True),
    TensorRtDynamicInt8("int8-dynamic", "tensorrt"),
)
