"""Reads TensorRT's engines: numbered bindings before 8.5, named tensors from 8.5, which alone are left from 10."""

import functools
import json
import sys
from typing import Any, Callable, Dict, List, Tuple

from agent.schema import FaultError, TensorSpec
from backends import ACCELERATOR, Operation, checks

DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}
MAX_LAYERS_TOLD = 100  # with their names' length a launch's details stay below what a controller reads of them
MAX_NAME_TOLD = 120


def deserialize(runtime: Any, logger: Any, content: bytes) -> Any:
    """Return the engine, None where TensorRT refuses it: of another version or GPU, or damaged."""
    try:
        return runtime.Runtime(logger).deserialize_cuda_engine(content)
    except (TypeError, RuntimeError) as error:  # what the binding makes of a null pointer
        sys.stderr.write("[TensorRT] {}\n".format(checks.one_line(error)))
        return None


def tensors(runtime: Any, engine: Any) -> List[Tuple[TensorSpec, bool]]:
    """Return the engine's inputs and outputs in its order, each with whether it is an input; raises FaultError unsupported_op."""
    found = []  # type: List[Tuple[TensorSpec, bool]]
    if hasattr(engine, "num_io_tensors"):
        for name in [engine.get_tensor_name(at) for at in range(engine.num_io_tensors)]:
            is_input = engine.get_tensor_mode(name) == runtime.TensorIOMode.INPUT
            found.append((_spec(name, engine.get_tensor_shape(name), engine.get_tensor_dtype(name)), is_input))
    else:
        for at in range(engine.num_bindings):
            spec = _spec(engine.get_binding_name(at), engine.get_binding_shape(at), engine.get_binding_dtype(at))
            found.append((spec, engine.binding_is_input(at)))
    return found


def _spec(name: str, shape: Any, dtype: Any) -> TensorSpec:
    if dtype.name not in DTYPES or any(size < 0 for size in shape):
        message = "{} is a tensor of {} {}, which cannot be bound".format(name, dtype.name, list(shape))
        raise FaultError("unsupported_op", message, "export the model with numeric inputs and outputs of fixed shapes", "load")
    return TensorSpec(name, list(shape), DTYPES[dtype.name])


def layer_names(runtime: Any, engine: Any) -> List[str]:
    """Return the names of the engine's layers as its inspector tells them, at most MAX_LAYERS_TOLD; none where it tells nothing."""
    try:
        document = json.loads(engine.create_engine_inspector().get_engine_information(runtime.LayerInformationFormat.JSON))
        return [_name(layer) for layer in document["Layers"][:MAX_LAYERS_TOLD]]
    except (ValueError, KeyError, TypeError, AttributeError):  # no inspector, or a document of another kind
        return []


def _name(layer: Any) -> str:
    """Return a layer's name in ASCII: the inspector gives it alone, or in an object where the engine was built to tell more."""
    name = str(layer if isinstance(layer, str) else layer["Name"])[:MAX_NAME_TOLD]
    return name.encode("ascii", "replace").decode("ascii")


def execution(context: Any, addresses: Dict[str, int], stream: int) -> Callable[[], bool]:
    """Return the call that enqueues one execution on a stream, its tensors at `addresses` by name in the engine's order."""
    if not hasattr(context, "execute_async_v3"):
        return functools.partial(context.execute_async_v2, list(addresses.values()), stream)
    for name, address in addresses.items():
        context.set_tensor_address(name, address)
    return functools.partial(context.execute_async_v3, stream)


def observe(runtime: Any, context: Any) -> List[Operation]:
    """Return a list to which every execution from now on adds its layers with their times; it makes executions slower."""
    operations = []  # type: List[Operation]

    class Profiler(runtime.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            runtime.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            operations.append(Operation(layer_name, "", "TensorRT", ms / 1e3, ACCELERATOR))

    context.profiler = Profiler()
    return operations
