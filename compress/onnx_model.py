"""Reads ONNX files that may be truncated or hostile, and tells what is in them."""
# protobuf messages have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from agent.schema import FaultError, TensorSpec
from compress import model_file, onnx_tensors

if TYPE_CHECKING:
    import onnx


def parse(content: bytes, name: str) -> "onnx.ModelProto":
    """The model without its external weights; raises FaultError `bad_model` that names the file."""
    model = parse_hollow(content, name)
    try:
        onnx_tensors.check(model)
    except ValueError as error:
        raise _bad(name, f"not a whole ONNX file ({error})") from None
    return model


def parse_hollow(content: bytes, name: str) -> "onnx.ModelProto":
    """As `parse`, of a model whose tensors need not hold what their shapes promise."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise _bad(name, f"not a whole ONNX file ({error})") from None
    if not model.graph.output or not model.opset_import:
        raise _bad(name, "not a whole ONNX file (no outputs or no operator set)")
    return model


def self_contained(path: Path) -> bytes:
    """The file's bytes; weights that it keeps in other files of its folder are brought in. Raises FaultError `bad_model`.

    onnx refuses a location outside the model's folder, links included.
    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    content = model_file.read(path)
    model = parse(content, path.name)
    try:
        onnx_tensors.bound_external(model)
        load_external_data_for_model(model, str(path.parent))
        return content if model == parse(content, path.name) else model.SerializeToString(deterministic=True)
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise _bad(path.name, f"its external weights cannot be read ({str(error).splitlines()[0]})") from None


def inputs(path: Path) -> list[TensorSpec]:
    """What the model is fed, initializers left out; a dimension without a fixed size is -1."""
    from onnx import helper

    graph = parse(model_file.read(path), path.name).graph
    constants = {tensor.name for tensor in graph.initializer}
    specs: list[TensorSpec] = []
    for value in graph.input:
        if value.name not in constants:
            kind = value.type.tensor_type
            try:
                dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
            except KeyError:
                raise _bad(path.name, f"input {value.name!r} is no tensor of a known type") from None
            specs.append(TensorSpec(value.name, [dim.dim_value or -1 for dim in kind.shape.dim], dtype))
    return specs


def parameters(path: Path) -> int:
    """The number of floating-point weights, initializers and constants together."""
    from math import prod

    from onnx import TensorProto

    floating = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    graph = parse(model_file.read(path), path.name).graph
    constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    return sum(prod(tensor.dims) for tensor in (*graph.initializer, *constants) if tensor.data_type in floating)


def opset(model: "onnx.ModelProto") -> int:
    """The version of ONNX's own operator set that the model asks for."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def prepare(source: Path, folder: Path, least_opset: int = 0) -> tuple[Path, tuple[str, ...]]:
    """Writes the model into `folder` with constants folded and BatchNorm merged into convolutions; returns the file and notes.

    An operator set below `least_opset` is converted to it first.
    """
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = parse(source.read_bytes(), source.name)
    _keep_constants_apart(model)
    before = opset(model)
    if before < least_opset:
        model = version_converter.convert_version(model, least_opset)
    converted, prepared = folder / "converted.onnx", folder / "prepared.onnx"
    save(model, converted)
    quant_pre_process(converted, prepared, skip_symbolic_shape=True)
    return prepared, (f"operator set {before} converted to {least_opset}",) if before < least_opset else ()


def save(model: "onnx.ModelProto", path: Path) -> None:
    """Writes it without inferred shapes, which runtimes infer again, and without operator sets that no node uses."""
    used = {node.domain for node in model.graph.node} | {""}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    del model.graph.value_info[:]
    path.write_bytes(model.SerializeToString(deterministic=True))


def sort(model: "onnx.ModelProto") -> None:
    """Puts each node after those whose outputs it needs, as ONNX wants it; onnxruntime is lenient, OpenVINO 2021.4 is not."""
    nodes = list(model.graph.node)
    made_by = {name: at for at, node in enumerate(nodes) for name in node.output}
    needs = {at: sorted({made_by[name] for name in read_by(node) if name in made_by}) for at, node in enumerate(nodes)}
    order = list(TopologicalSorter(needs).static_order())
    del model.graph.node[:]
    model.graph.node.extend(nodes[at] for at in order)


def read_by(node: "onnx.NodeProto") -> Iterator[str]:
    """The values that a node reads, those of its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from read_by(inner)


def _keep_constants_apart(model: "onnx.ModelProto") -> None:
    """Takes initializers off the list of inputs, where IR versions below 4 want them: folded away they would become inputs to feed."""
    constants = {tensor.name for tensor in model.graph.initializer}
    fed = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(fed)
    model.ir_version = max(model.ir_version, 4)


def _bad(name: str, why: str) -> FaultError:
    return FaultError("bad_model", f"{name}: {why}", "export or copy the model again", "load")
