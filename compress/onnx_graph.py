"""The weighted layers of an ONNX graph as matrices, what they give for samples, and putting others in their place."""
# protobuf messages and onnxruntime have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError

if TYPE_CHECKING:
    import onnx

T = TypeVar("T", bound=np.generic)

WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Layer:
    """A Conv, Gemm or MatMul whose weights are a float32 constant that no other node reads.

    `weights` are as in the file. A Gemm has no scaling and no transposed input, the weights of a MatMul have two axes.
    """

    node: "onnx.NodeProto"
    weights: NDArray[np.float32]

    @property
    def name(self) -> str:
        """What the weights are called."""
        return self.node.input[1]

    @property
    def output_axis(self) -> int:
        """The axis of the weights that goes over outputs: rows of a MatMul's are inputs."""
        return 0 if self.node.op_type == "Conv" or attribute(self.node, "transB", 0) else 1

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The weights as outputs x inputs; a kernel's inputs go over channels, rows and columns."""
        return self.weights.reshape(len(self.weights), -1) if self.output_axis == 0 else self.weights.T

    def shaped(self, matrix: NDArray[T]) -> NDArray[T]:
        """A matrix of that form as weights of this layer."""
        return matrix.reshape(self.weights.shape) if self.output_axis == 0 else matrix.T


@dataclass(slots=True)
class Moments:
    """Of what a layer gives: how many vectors of outputs were seen, their sum, and the sum of their outer products, in float64."""

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean vector."""
        return self.total / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """The covariance matrix."""
        return self.products / self.count - np.outer(self.mean, self.mean)


def attribute(node: "onnx.NodeProto", name: str, default: Any) -> Any:
    """A node's attribute, `default` where the node leaves it out."""
    from onnx import helper

    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def constants(model: "onnx.ModelProto") -> dict[str, "onnx.TensorProto"]:
    """The initializers by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def layers(model: "onnx.ModelProto", what: str) -> list[Layer]:
    """The layers, in the order of the graph; raises FaultError `unsupported_op` that says what finds none."""
    from onnx import TensorProto, numpy_helper

    known = constants(model)
    read = [name for node in model.graph.node for name in node.input]
    found: list[Layer] = []
    for node in model.graph.node:
        tensor = known.get(node.input[1]) if node.op_type in WEIGHTED else None
        if tensor is not None and tensor.data_type == TensorProto.FLOAT and read.count(tensor.name) == 1 and _is_plain(node, tensor):
            found.append(Layer(node, np.asarray(numpy_helper.to_array(tensor), np.float32)))
    if not found:
        message = f"{what} finds no Conv, Gemm or MatMul with constant float32 weights in the ONNX model"
        raise FaultError("unsupported_op", message, "leave the step out for it", "compress")
    return found


def _is_plain(node: "onnx.NodeProto", tensor: "onnx.TensorProto") -> bool:
    if node.op_type == "Gemm":
        return attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0 and not attribute(node, "transA", 0)
    return node.op_type == "Conv" or len(tensor.dims) == 2


def moments(model: "onnx.ModelProto", found: Sequence[Layer], batches: Iterable[Mapping[str, Any]]) -> dict[str, Moments]:
    """The moments of each layer's outputs over the batches, by the name of its weights; channels are what a layer's outputs are."""
    import onnxruntime
    from onnx import ModelProto, helper

    opened = ModelProto()
    opened.CopyFrom(model)
    given = {value.name for value in model.graph.output}
    outputs = [layer.node.output[0] for layer in found]
    opened.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs if name not in given)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # sums in one order
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums: dict[str, Moments] = {}
    for feeds in batches:
        for layer, values in zip(found, session.run(outputs, dict(feeds)), strict=True):
            array: NDArray[Any] = np.asarray(values)
            rows = np.moveaxis(array, 1, -1) if layer.node.op_type == "Conv" else array
            rows = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
            seen = sums.setdefault(layer.name, Moments(0, np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)))
            seen.count += len(rows)
            seen.total += rows.sum(axis=0)
            seen.products += rows.T @ rows
    return sums


def set_constant(model: "onnx.ModelProto", name: str, values: NDArray[Any]) -> None:
    """Gives an initializer another value, or adds it."""
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
    known = constants(model)
    if name in known:
        known[name].CopyFrom(tensor)
    else:
        model.graph.initializer.append(tensor)


def replace(model: "onnx.ModelProto", node: "onnx.NodeProto", nodes: Sequence["onnx.NodeProto"]) -> None:
    """Puts nodes in the place of one, and drops the initializers that nothing reads any more."""
    at = next(at for at, one in enumerate(model.graph.node) if one is node or one.output == node.output)
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*kept[:at], *nodes, *kept[at + 1 :]])
    drop_unread(model)


def drop_unread(model: "onnx.ModelProto") -> None:
    """Drops the initializers that no node reads."""
    from compress.onnx_model import read_by

    read = {name for node in model.graph.node for name in read_by(node)} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
