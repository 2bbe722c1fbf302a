"""int8 by the Edge TPU's rules: a TFLite model that edgetpu_compiler 16.0 takes."""

from pathlib import Path
from typing import Any

from agent.schema import FaultError
from compress import tflite_model
from compress.techniques import FILES, Applied, Params, Technique, Workspace
from compress.techniques.tflite_int8 import StaticInt8Params, quantise
from compress.tflite_model import Table, indices, operator_name, type_name

VERSIONS = {
    **dict.fromkeys(("ADD", "AVERAGE_POOL_2D", "CONCATENATION", "DEQUANTIZE", "L2_NORMALIZATION", "LOGISTIC", "MAXIMUM"), 2),
    **dict.fromkeys(("MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "PACK", "PAD", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6"), 2),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT"), 2),
    **dict.fromkeys(("SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV"), 2),
    **dict.fromkeys(("EXPAND_DIMS", "PRELU", "QUANTIZE", "RELU_N1_TO_1", "RESHAPE", "SQUEEZE"), 1),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), 3),
    "FULLY_CONNECTED": 4,
}
"""The version that an int8 operator needs at least, from tensorflow/lite/tools/versioning/op_version.cc."""

WITHOUT_ACTIVATION = ("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D", "TRANSPOSE_CONV")
"""The operators that the compiler takes without a fused activation only."""

RELU6_MAX = 6.001  # scales are float32


class EdgetpuInt8(Technique[Params]):
    """int8 with int8 inputs and outputs, int32 biases, per-tensor dense weights, fixed shapes, and the lowest operator versions."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The quantised model; raises FaultError `unsupported_op` for a batch above 1, or where nothing can be quantised."""
        _check_batch(tflite_model.read(source))
        applied = quantise(source, context, StaticInt8Params(), float_ends=False)
        model = tflite_model.read(applied.path)
        _fix_shapes(model)
        drop_implied_activations(model)
        lower_versions(model)
        target = context.folder / FILES["tflite"][0]
        tflite_model.write(model, target)
        return Applied(target, applied.notes)


def drop_implied_activations(model: Table) -> None:
    """Removes fused ReLU and ReLU6 that compiler 16.0 does not take, where the range of the int8 output clips the same values."""
    from ai_edge_litert.schema_py_generated import ActivationFunctionType

    for graph in model.subgraphs:
        for operator in graph.operators:
            fused = getattr(operator.builtinOptions, "fusedActivationFunction", ActivationFunctionType.NONE)
            if operator_name(model, operator) not in WITHOUT_ACTIVATION or not fused:
                continue
            lowest, highest = _range(graph.tensors[operator.outputs[0]])
            is_relu6 = fused == ActivationFunctionType.RELU6 and highest <= RELU6_MAX
            if lowest == 0.0 and (fused == ActivationFunctionType.RELU or is_relu6):
                operator.builtinOptions.fusedActivationFunction = ActivationFunctionType.NONE


def _range(tensor: Table) -> tuple[float, float]:
    """The smallest and largest value that an int8 tensor can have."""
    if type_name(tensor) != "INT8" or not _scale(tensor):
        return float("-inf"), float("inf")
    zero_point = int(tensor.quantization.zeroPoint[0])
    return _scale(tensor) * (-128 - zero_point), _scale(tensor) * (127 - zero_point)


def lower_versions(model: Table) -> None:
    """Gives every int8 operator the lowest version that its types and options need, and float EXP version 1; others keep theirs."""
    needed: dict[int, int] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            version = _version(model, graph, operator)
            needed[operator.opcodeIndex] = max(version, needed.get(operator.opcodeIndex, 1))
    for at, version in needed.items():
        model.operatorCodes[at].version = version


def _version(model: Table, graph: Table, operator: Table) -> int:
    name, declared = operator_name(model, operator), model.operatorCodes[operator.opcodeIndex].version
    tensors = [graph.tensors[at] for at in (*indices(operator.inputs), *indices(operator.outputs)) if at != -1]
    types = {type_name(tensor) for tensor in tensors}
    if name == "EXP" and types == {"FLOAT32"}:
        return 1
    if name not in VERSIONS or "INT8" not in types or any(len(indices(tensor.shape)) > 4 for tensor in tensors):
        return declared
    return max(VERSIONS[name], _version_of_options(name, tensors, operator))


def _version_of_options(name: str, tensors: list[Table], operator: Table) -> int:
    """What an operator needs beyond its types."""
    options: Any = operator.builtinOptions
    match name:
        case "FULLY_CONNECTED":
            return 6 if len(operator.inputs) == 2 else 5 if getattr(options, "keepNumDims", False) else 1
        case "CONV_2D" if tensors[0].shape[-1] != tensors[1].shape[-1]:  # grouped
            return 6
        case "TRANSPOSE_CONV":
            return 4 if getattr(options, "fusedActivationFunction", 0) else 3 if len(operator.inputs) == 4 else 1
        case "RESIZE_BILINEAR":
            return 3 if getattr(options, "halfPixelCenters", False) else 1
        case "RESIZE_NEAREST_NEIGHBOR":
            return 3 if getattr(options, "halfPixelCenters", False) or getattr(options, "alignCorners", False) else 1
        case "MUL" if _scale(tensors[0]) * _scale(tensors[1]) >= _scale(tensors[2]) > 0:
            return 3
        case _:
            return 1


def _scale(tensor: Table) -> float:
    scales = None if tensor.quantization is None else tensor.quantization.scale
    return 0.0 if scales is None or len(scales) == 0 else float(scales[0])


def _check_batch(model: Table) -> None:
    graph = model.subgraphs[0]
    for at in graph.inputs:
        shape = indices(graph.tensors[at].shape)
        if shape and shape[0] > 1:
            message = f"it takes {shape[0]} samples at once, the Edge TPU one"
            raise FaultError("unsupported_op", message, "export the .tflite with batch 1", "compress")


def _fix_shapes(model: Table) -> None:
    """Makes the shapes that the file gives for batch 1 the only ones."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.shapeSignature = None


TECHNIQUES = (EdgetpuInt8("int8-edgetpu", "tflite", needs_data=True),)
