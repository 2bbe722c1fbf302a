"""Predicts how much of an int8 TFLite model edgetpu_compiler 16.0 maps to the Edge TPU, where there is none to ask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from compress import edgetpu_log as log
from compress.edgetpu_log import Operators
from compress.tflite_model import Table, constant, indices, operator_name, type_name

SUPPORTED: Mapping[str, int] = {
    "ADD": 4,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 3,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 9,
    "L2_NORMALIZATION": 2,
    "LOGISTIC": 3,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MINIMUM": 4,
    "MUL": 4,
    "PACK": 3,
    "PAD": 3,
    "PRELU": 1,
    "QUANTIZE": 2,
    "REDUCE_MAX": 2,
    "REDUCE_MIN": 2,
    "RELU": 2,
    "RELU6": 2,
    "RELU_N1_TO_1": 1,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "RSQRT": 2,
    "SLICE": 3,
    "SOFTMAX": 3,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 4,
    "SQUARED_DIFFERENCE": 2,
    "SQUEEZE": 1,
    "STRIDED_SLICE": 4,
    "SUB": 5,
    "SUM": 2,
    "TANH": 3,
    "TRANSPOSE": 5,
    "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 3,
}
"""The operations that Coral documents for compiler 16.0, each with the newest version taken.

QUANTIZE and TRANSPOSE_CONV are known from refusals in public bug reports, the others from TensorFlow Lite's register of mid-2021.
"""

PARAMETERS: Mapping[str, tuple[int, ...]] = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "EXPAND_DIMS": (1,),
    "FULLY_CONNECTED": (1, 2),
    "MEAN": (1,),
    "PAD": (1,),
    "PRELU": (1,),
    "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,),
    "RESHAPE": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "SLICE": (1, 2),
    "SPLIT": (0,),
    "STRIDED_SLICE": (1, 2, 3),
    "SUM": (1,),
    "TRANSPOSE": (1,),
    "TRANSPOSE_CONV": (0, 1, 3),
}
"""Which inputs must be constants: weights, biases, axes, shapes."""

MAX_SOFTMAX_VALUES = 16_000


@dataclass(frozen=True, slots=True)
class Prediction:
    """The first `mapped` operations map; the next, if any, does not for the reason `why`, and the rest runs on the CPU with it."""

    operations: int
    mapped: int
    stops_at: str
    why: str
    operators: tuple[Operators, ...]

    def __str__(self) -> str:
        if self.mapped == self.operations:
            return f"predicted: all {self.operations} operations map"
        return f"predicted: the first {self.mapped} of {self.operations} operations map; {self.stops_at} does not because {self.why}"


@dataclass(frozen=True, slots=True)
class _Operation:
    """An operator with its tensors, None for an input that is left out; for a DEQUANTIZE the name of what it feeds, if anything."""

    model: Table
    name: str
    version: int
    inputs: list[Table | None]
    outputs: list[Table]
    options: Any
    feeds: str

    def is_constant(self, tensor: Table) -> bool:
        return constant(self.model, tensor) is not None

    def activations(self) -> list[Table]:
        """What is computed: every tensor but the constants."""
        return [tensor for tensor in (*self.inputs, *self.outputs) if tensor is not None and not self.is_constant(tensor)]


def predict(model: Table) -> Prediction:
    """Walks the operations in order up to the first that breaks a rule; the compiler makes one subgraph and leaves the rest to the CPU."""
    operations = _operations(model)
    statuses: list[str] = []
    stops_at = why = ""
    for operation in operations:
        status, reason = (log.ONE_SUBGRAPH, "") if stops_at else _judge(operation)
        if reason:
            stops_at, why = f"{operation.name} (operation {len(statuses) + 1})", reason
        statuses.append(status)
    rows: dict[tuple[str, str], int] = {}
    for operation, status in zip(operations, statuses, strict=True):
        rows[operation.name, status] = rows.get((operation.name, status), 0) + 1
    table = tuple(Operators(name, count, status) for (name, status), count in rows.items())
    return Prediction(len(operations), statuses.count(log.MAPPED), stops_at, why, table)


def _operations(model: Table) -> list[_Operation]:
    return [_operation(model, model.subgraphs[0], operator) for operator in model.subgraphs[0].operators]


def _operation(model: Table, graph: Table, operator: Table) -> _Operation:
    name, outputs = operator_name(model, operator), indices(operator.outputs)
    users = (other for other in graph.operators if name == "DEQUANTIZE" and not set(outputs).isdisjoint(indices(other.inputs)))
    return _Operation(
        model,
        name,
        model.operatorCodes[operator.opcodeIndex].version,
        [None if at == -1 else graph.tensors[at] for at in indices(operator.inputs)],
        [graph.tensors[at] for at in outputs if at != -1],
        operator.builtinOptions,
        next((operator_name(model, user) for user in users), ""),
    )


def _judge(operation: _Operation) -> tuple[str, str]:
    """The status that the compiler would give it, and why it is not mapped (empty if it is)."""
    for status, rule in _RULES:
        reason = rule(operation)
        if reason:
            return status, reason
    return log.MAPPED, ""


def _leaves_int8(operation: _Operation) -> str:
    return f"{operation.feeds or 'the output'} after it is float" if operation.name == "DEQUANTIZE" else ""


def _is_unknown(operation: _Operation) -> str:
    return "" if operation.name in SUPPORTED else "the Edge TPU has no such operation"


def _is_too_new(operation: _Operation) -> str:
    newest = SUPPORTED[operation.name]
    return f"its version {operation.version} is above {newest}, the last that the compiler takes" if operation.version > newest else ""


def _is_dynamic(operation: _Operation) -> str:
    for tensor in (*operation.inputs, *operation.outputs):
        if tensor is not None and (-1 in indices(tensor.shapeSignature) or min(indices(tensor.shape), default=1) < 1):
            return f"the shape of its tensor {_name(tensor)} is not fixed"
    return ""


def _has_computed_parameters(operation: _Operation) -> str:
    for at in PARAMETERS.get(operation.name, ()):
        tensor = operation.inputs[at] if at < len(operation.inputs) else None
        if tensor is not None and not operation.is_constant(tensor):
            return f"its parameter {_name(tensor)} is not constant"
    return ""


def _is_not_int8(operation: _Operation) -> str:
    parameters = PARAMETERS.get(operation.name, ())
    allowed = [(tensor, ("INT8", "INT32") if at in parameters else ("INT8",)) for at, tensor in enumerate(operation.inputs)]
    for tensor, types in (*allowed, *((tensor, ("INT8",)) for tensor in operation.outputs)):
        if tensor is not None and type_name(tensor) not in types:
            return f"its tensor {_name(tensor)} is {type_name(tensor).lower()}, not int8"
    return ""


def _has_large_rank(operation: _Operation) -> str:
    for tensor in operation.activations():
        if prod(indices(tensor.shape)[:-3]) > 1:
            return f"its tensor {_name(tensor)} has shape {indices(tensor.shape)}: only the innermost 3 dimensions may be above 1"
    return ""


def _is_limited(operation: _Operation) -> str:
    """The limits that Coral documents for single operations."""
    shape = indices(operation.outputs[0].shape) if operation.outputs else []
    option: Callable[[str], int] = lambda name: getattr(operation.options, name, 0)  # noqa: E731
    match operation.name:
        case "AVERAGE_POOL_2D" | "MAX_POOL_2D" | "CONCATENATION" if option("fusedActivationFunction"):
            return "it has a fused activation"
        case "CONV_2D" | "DEPTHWISE_CONV_2D" if option("dilationHFactor") != option("dilationWFactor"):
            return "its dilation differs between height and width"
        case "FULLY_CONNECTED" if prod(shape[:-1]) > 1:
            return f"its output has shape {shape}: only one dimension may be above 1"
        case "SOFTMAX" if prod(shape[:-1]) > 1 or prod(shape) > MAX_SOFTMAX_VALUES:
            return f"its output has shape {shape}: one dimension of at most {MAX_SOFTMAX_VALUES} values is taken"
        case "STRIDED_SLICE" if option("ellipsisMask") or option("newAxisMask"):
            return "it has an ellipsis or a new axis"
        case _:
            return ""


_RULES: tuple[tuple[str, Callable[[_Operation], str]], ...] = (
    (log.DATA_TYPE, _leaves_int8),
    (log.UNSUPPORTED, _is_unknown),
    (log.VERSION, _is_too_new),
    (log.UNSPECIFIED, _is_dynamic),
    (log.UNSPECIFIED, _has_computed_parameters),
    (log.DATA_TYPE, _is_not_int8),
    (log.RANK, _has_large_rank),
    (log.UNSPECIFIED, _is_limited),
)


def _name(tensor: Table) -> str:
    name = (tensor.name or b"").decode("utf-8", "replace")
    return ascii(name[:60])
