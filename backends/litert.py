"""The TensorFlow Lite interpreter, from ai-edge-litert or its ancestor tflite-runtime: its import, its session, its refusals."""
# The runtimes ship no stubs; one of the two is imported when it is needed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import re
from typing import Any, Dict, List, NamedTuple, Sequence, Set, Tuple

from agent.schema import FaultError, TensorSpec
from backends import ACCELERATOR, CPU, Operation, Session, checks

MODULES = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
DELEGATE = "DELEGATE"
EDGETPU = "edgetpu-custom-op"  # what edgetpu_compiler makes of all that runs on the Edge TPU
UNKNOWN_OPERATOR = (
    "unresolved custom op",
    "Didn't find op for builtin opcode",
    "builtin_code out o",  # "of range"; "or range" in some releases
    "Select TensorFlow op",
)


class Tensor(NamedTuple):
    """An input or output of the interpreter; `scale` is 0 where it is not quantised."""

    name: str
    number: int
    shape: List[int]
    dtype: str
    scale: float
    zero_point: int

    def spec(self) -> TensorSpec:
        """Return the tensor as a caller sees it: float32 where it is quantised."""
        return TensorSpec(self.name, self.shape, "float32" if self.scale else self.dtype)

    def quantise(self, values: Any) -> Any:
        """Return values / scale + zero point, rounded half to even and clipped to the dtype; not quantised: `values`."""
        import numpy

        if not self.scale:
            return values
        limits = numpy.iinfo(self.dtype)
        return numpy.clip(numpy.rint(values / numpy.float32(self.scale)) + self.zero_point, limits.min, limits.max).astype(self.dtype)

    def dequantise(self, values: Any) -> Any:
        """Return (values - zero point) * scale in float32; not quantised: `values`."""
        import numpy

        return (values.astype("float32") - self.zero_point) * numpy.float32(self.scale) if self.scale else values


class LitertSession(Session):
    """An Interpreter with its tensors allocated; quantised inputs and outputs are float32 to the caller."""

    def __init__(self, interpreter: Any, told: Dict[str, Any]) -> None:
        self._interpreter, self._told = interpreter, told
        self._inputs = _tensors(interpreter, "input")
        self._outputs = _tensors(interpreter, "output")
        self.infer = interpreter.invoke

    def inputs(self) -> List[TensorSpec]:
        """Return the model's inputs, quantised ones as float32; a dimension that the model leaves open is 1."""
        return [tensor.spec() for tensor in self._inputs]

    def bind(self, feeds: Dict[str, Any]) -> None:
        """Copy the feeds to the input tensors, quantised where those are."""
        checks.check_feeds(self.inputs(), feeds)
        for tensor in self._inputs:
            self._interpreter.set_tensor(tensor.number, tensor.quantise(feeds[tensor.name]))

    def outputs(self) -> Dict[str, Any]:
        """Return copies of the outputs by name, quantised ones as float32."""
        return {tensor.name: tensor.dequantise(self._interpreter.get_tensor(tensor.number)) for tensor in self._outputs}

    def details(self) -> Dict[str, Any]:
        """Return runtime, threads and, where it tells, the operations and the delegate nodes (XNNPACK) that replace some of them."""
        told = dict(self._told, quantised=[tensor.name for tensor in self._inputs + self._outputs if tensor.scale])
        if hasattr(self._interpreter, "_get_ops_details"):
            names = [operation["op_name"] for operation in self._interpreter._get_ops_details()]
            told.update(operations=len(names) - names.count(DELEGATE), delegate_nodes=names.count(DELEGATE))
        return told

    def operations(self) -> List[Operation]:
        """Return the model's operations and what runs each; no Python package of the runtime tells times. Empty where it tells nothing."""
        if not hasattr(self._interpreter, "_get_ops_details"):
            return []
        nodes = self._interpreter._get_ops_details()
        delegated = {at for node in nodes if node["op_name"] == DELEGATE for at in _replaced(nodes, node)}
        names = {tensor["index"]: str(tensor["name"]) for tensor in self._interpreter.get_tensor_details()}
        return [_operation(node, names, at in delegated) for at, node in enumerate(nodes) if node["op_name"] != DELEGATE]

    def close(self) -> None:
        """Give the model's memory back."""
        vars(self).clear()


def _operation(node: Dict[str, Any], names: Dict[int, str], delegated: bool) -> Operation:
    """An operation under the name of its first output."""
    kind, outputs = str(node["op_name"]), [int(tensor) for tensor in node["outputs"]]
    name = names.get(outputs[0], kind) if outputs else kind
    if kind == EDGETPU:
        return Operation(name, kind, "Edge TPU", None, ACCELERATOR)
    return Operation(name, kind, "XNNPACK" if delegated else "built-in", None, CPU)


def _replaced(nodes: List[Dict[str, Any]], delegate: Dict[str, Any]) -> Set[int]:
    """Which nodes a delegate's node stands for: those between what it takes and what it gives."""
    makers = {int(tensor): at for at, node in enumerate(nodes) if node["op_name"] != DELEGATE for tensor in node["outputs"]}
    taken = {int(tensor) for tensor in delegate["inputs"]}
    found = set()  # type: Set[int]
    wanted = [int(tensor) for tensor in delegate["outputs"]]
    while wanted:
        tensor = wanted.pop()
        at = makers.get(tensor)
        if at is not None and tensor not in taken and at not in found:
            found.add(at)
            wanted.extend(int(needed) for needed in nodes[at]["inputs"])
    return found


def import_runtime(options: Dict[str, Any], preferred: Sequence[str] = tuple(MODULES)) -> Tuple[Any, str, str]:
    """Return module, distribution and version of the runtime that option `runtime` names, else of the first that can be imported.

    Raises FaultError env_missing.
    """
    wanted = options.get("runtime", "").partition("==")[0]
    reasons = []  # type: List[str]
    for name in [wanted] if wanted in MODULES else preferred:
        try:
            module = checks.import_runtime(MODULES[name])
        except FaultError as error:
            reasons.append(error.fault.message)
            continue
        version = checks.installed([name], module)[1]
        checks.check_runtime(options, name, version)
        return module, name, version
    raise FaultError("env_missing", checks.one_line("; ".join(reasons)), checks.INSTALL, "import")


def interpreter(module: Any, artifact: str, threads: int, delegates: Sequence[Any] = ()) -> Any:
    """Return the file's Interpreter, its tensors allocated, open dimensions set to 1; raises the runtime's ValueError or RuntimeError."""
    made = module.Interpreter(artifact, num_threads=threads, experimental_delegates=list(delegates))
    for tensor in made.get_input_details():
        if -1 in tensor["shape_signature"]:
            made.resize_tensor_input(tensor["index"], [abs(int(size)) for size in tensor["shape_signature"]])
    made.allocate_tensors()
    return made


def _tensors(interpreter: Any, kind: str) -> List[Tensor]:
    tensors = getattr(interpreter, "get_{}_details".format(kind))()
    names = _names(interpreter, kind, tensors)
    return [_tensor(name, tensor) for name, tensor in zip(names, tensors)]


def _tensor(name: str, tensor: Dict[str, Any]) -> Tensor:
    import numpy

    dtype, (scale, zero_point) = numpy.dtype(tensor["dtype"]), tensor["quantization"]
    scale = float(scale) if dtype.kind in "iu" else 0.0
    return Tensor(name, tensor["index"], [int(size) for size in tensor["shape"]], dtype.name, scale, int(zero_point))


def _names(interpreter: Any, kind: str, tensors: List[Dict[str, Any]]) -> List[str]:
    """Return the tensors' names: the signature's where there is just one, else without decorations such as serving_default_x:0."""
    signatures = list(interpreter.get_signature_list())
    if len(signatures) == 1:
        runner = interpreter.get_signature_runner(signatures[0])
        names = {tensor["index"]: name for name, tensor in getattr(runner, "get_{}_details".format(kind))().items()}
        if set(names) == {tensor["index"] for tensor in tensors}:
            return [names[tensor["index"]] for tensor in tensors]
    plain = [re.sub("^serving_default_|:[0-9]+$", "", tensor["name"]) for tensor in tensors]
    return plain if len(set(plain)) == len(plain) else [tensor["name"] for tensor in tensors]
