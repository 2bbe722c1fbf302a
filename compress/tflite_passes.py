"""The passes over TFLite models that litert-quantizer and older runtimes need around quantisation.

Operator versions are those of tensorflow/lite/tools/versioning/op_version.cc.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError
from compress.tflite_model import Table, constant, indices, operator_name, type_name

_FP16_MIN_VALUES = 128  # a DEQUANTIZE with its tensor costs about 250 bytes, a float16 saves 2
_STATIC_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}
_WIDE_VERSIONS = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 5, "FULLY_CONNECTED": 7}
_DYNAMIC_VERSIONS = {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 3}
_VERSIONS = {"INT8": _STATIC_VERSIONS, "INT16": _WIDE_VERSIONS}


def normalise(model: Table) -> None:
    """Gives a file what litert-quantizer needs: operators by their new code, a SignatureDef, weights in float32.

    Without the first it does nothing and says nothing, without the second it does not calibrate. Raises FaultError as `check_dense`.
    """
    check_dense(model)
    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    _unfold_float16(model)
    if not any(entry.subgraphIndex == 0 for entry in _signatures(model)):
        model.signatureDefs = [*_signatures(model), _signature(model.subgraphs[0])]


def check_dense(model: Table) -> None:
    """Raises FaultError `unsupported_op` for weights in TFLite's sparse encoding: litert-quantizer 0.11 dies of them."""
    if any(tensor.sparsity is not None for graph in model.subgraphs for tensor in graph.tensors):
        message = "the TFLite model has weights in the sparse encoding, which the quantiser does not read"
        raise FaultError("unsupported_op", message, "use fp32, or export the model with dense weights", "compress")


def halve_weights(model: Table) -> int:
    """Stores large constant float32 tensors as float16 with a DEQUANTIZE before everything else; returns how many.

    Raises FaultError as `check_dense`.
    """
    check_dense(model)
    schema = _schema()
    large = [
        (graph, at, data.view(np.float32))
        for graph in model.subgraphs
        for at, tensor in enumerate(graph.tensors)
        if type_name(tensor) == "FLOAT32" and (data := constant(model, tensor)) is not None and len(data) >= 4 * _FP16_MIN_VALUES
    ]
    dequantize = schema.BuiltinOperator.DEQUANTIZE
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=dequantize, builtinCode=dequantize, version=3))
    for graph, at, values in large:
        tensor = graph.tensors[at]
        half = schema.TensorT(shape=tensor.shape, type=schema.TensorType.FLOAT16, name=tensor.name + b"_float16")
        half.buffer = _add_buffer(model, _to_float16(values))
        graph.tensors.append(half)
        cast = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1, inputs=[len(graph.tensors) - 1], outputs=[at])
        graph.operators.insert(0, cast)
        tensor.buffer = 0
    _drop_unused_buffers(model)
    return len(large)


def set_versions(model: Table) -> None:
    """Gives operators with int8 weights the version that says so; litert-quantizer leaves the float one."""
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = operator_name(model, operator)
            if name in _STATIC_VERSIONS and type_name(graph.tensors[operator.inputs[1]]) == "INT8":
                versions = _VERSIONS.get(type_name(graph.tensors[operator.inputs[0]]), _DYNAMIC_VERSIONS)
                code = model.operatorCodes[operator.opcodeIndex]
                code.version = max(code.version, versions[name])


def rename_outputs(model: Table, names: list[bytes]) -> None:
    """Gives the first graph's outputs these names; another tensor of such a name gets `_quantized` behind it."""
    graph = model.subgraphs[0]
    outputs = [graph.tensors[at] for at in graph.outputs]
    for tensor in graph.tensors:
        if tensor.name in names and not any(tensor is output for output in outputs):
            tensor.name += b"_quantized"
    for tensor, name in zip(outputs, names, strict=True):
        tensor.name = name


def _signature(graph: Table) -> Table:
    schema = _schema()

    def entries(tensors: list[int]) -> list[Table]:
        return [schema.TensorMapT(name=graph.tensors[at].name, tensorIndex=int(at)) for at in tensors]

    return schema.SignatureDefT(
        inputs=entries(graph.inputs), outputs=entries(graph.outputs), signatureKey=b"serving_default", subgraphIndex=0
    )


def _unfold_float16(model: Table) -> None:
    """Turns every constant float16 tensor with its DEQUANTIZE into one constant float32 tensor."""
    for graph in model.subgraphs:
        kept: list[Table] = []
        for operator in graph.operators:
            data = _float16_input(model, graph, operator)
            if data is None:
                kept.append(operator)
            else:
                graph.tensors[operator.outputs[0]].buffer = _add_buffer(model, data.astype(np.float32))
        graph.operators = kept
    _drop_unused_tensors(model)
    _drop_unused_buffers(model)


def _float16_input(model: Table, graph: Table, operator: Table) -> NDArray[np.float16] | None:
    """The constant that a DEQUANTIZE turns into float32, if it is one of those."""
    if operator_name(model, operator) != "DEQUANTIZE":
        return None
    tensor = graph.tensors[operator.inputs[0]]
    data = constant(model, tensor)
    return None if data is None or type_name(tensor) != "FLOAT16" else data.view(np.float16)


def _to_float16(values: NDArray[np.float32]) -> NDArray[np.float16]:
    limit = np.finfo(np.float16).max
    return values.clip(-limit, limit).astype(np.float16)


def _add_buffer(model: Table, values: NDArray[np.generic]) -> int:
    model.buffers.append(_schema().BufferT(data=np.ascontiguousarray(values).view(np.uint8).ravel()))
    return len(model.buffers) - 1


def _drop_unused_tensors(model: Table) -> None:
    """Removes tensors that nothing refers to: litert-quantizer asks the interpreter for their values, and there are none."""
    for at, graph in enumerate(model.subgraphs):
        maps = [
            entry for signature in _signatures(model) if signature.subgraphIndex == at for entry in (*signature.inputs, *signature.outputs)
        ]
        used = {*indices(graph.inputs), *indices(graph.outputs), *(entry.tensorIndex for entry in maps)}
        for operator in graph.operators:
            used |= {*indices(operator.inputs), *indices(operator.outputs), *indices(operator.intermediates)}
        order = sorted(used - {-1})
        place = {-1: -1} | {old: new for new, old in enumerate(order)}
        graph.tensors = [graph.tensors[old] for old in order]
        for entry in maps:
            entry.tensorIndex = place[entry.tensorIndex]
        for table in (graph, *graph.operators):
            table.inputs = [place[old] for old in indices(table.inputs)]
            table.outputs = [place[old] for old in indices(table.outputs)]
        for operator in graph.operators:
            operator.intermediates = [place[old] for old in indices(operator.intermediates)]


def _signatures(model: Table) -> list[Table]:
    return model.signatureDefs or []


def _drop_unused_buffers(model: Table) -> None:
    metadata: list[Table] = model.metadata or []
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors} | {entry.buffer for entry in metadata}
    for at, buffer in enumerate(model.buffers):
        if at not in used:
            buffer.data = None


def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated
