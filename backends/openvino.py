"""OpenVINO 2022 and later, its inputs in host memory shared with the request; opens IR (an .xml beside its .bin) and ONNX."""
# openvino is imported when it is needed, by either of its names.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import contextlib
import re
import sys
from typing import Any, Dict, List, Tuple

from agent.schema import FaultError, TensorSpec
from backends import Backend, Session, checks

DISTRIBUTIONS = ("openvino",)
OPTIONS = {"threads": int, "device": str, "hint": str, "runtime": str}
HINTS = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")
EFFECTIVE = ("EXECUTION_DEVICES", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "NUM_STREAMS", "PERFORMANCE_HINT")
UNKNOWN_OPERATOR = (
    "No conversion rule found",
    "does not support the following ONNX operations",
    "doesn't contain the operation with type",
    "from unsupported opset",
    "Unsupported operation",
)
DTYPES = {"boolean": "bool", "f16": "float16", "f32": "float32", "f64": "float64"}
DTYPES.update((kind + bits, name + bits) for kind, name in (("i", "int"), ("u", "uint")) for bits in ("8", "16", "32", "64"))
VIRTUAL_DEVICES = ("AUTO", "BATCH", "HETERO", "MULTI")
SOURCE_LINE = re.compile(r"^(Exception from |Check ').*$", re.MULTILINE)  # where in openvino's source an error arose


class OpenVinoSession(Session):
    """A CompiledModel and the one InferRequest that all its calls use."""

    def __init__(self, runtime: Any, core: Any, model: Any, told: Dict[str, Any]) -> None:
        self._runtime, self._model, self._told = runtime, model, told
        self._core = core  # in 2023.0 a model cannot be asked anything once its core is gone
        self._request = model.create_infer_request()
        self._inputs = [_spec(port) for port in model.inputs]
        self._outputs = [_spec(port).name for port in model.outputs]
        self._held = {}  # type: Dict[str, Any]
        request = self._request
        self.infer = request.infer
        self.runtime_ns = lambda: round(request.latency * 1e6)  # in the binding around the C++ call, in ms

    def inputs(self) -> List[TensorSpec]:
        """Return the model's inputs; a dimension that the model leaves open is -1."""
        return self._inputs

    def bind(self, feeds: Dict[str, Any]) -> None:
        """Copy the feeds to the arrays that the request reads, made anew where the shape changes."""
        import numpy

        checks.check_feeds(self._inputs, feeds)
        for index, spec in enumerate(self._inputs):
            feed, held = feeds[spec.name], self._held.get(spec.name)
            if held is None or held.shape != feed.shape:
                held = self._held[spec.name] = numpy.empty(feed.shape, spec.dtype)
                self._request.set_input_tensor(index, self._runtime.Tensor(held, shared_memory=True))
            numpy.copyto(held, feed)

    def outputs(self) -> Dict[str, Any]:
        """Return copies of the outputs by name."""
        return {name: self._request.get_output_tensor(index).data.copy() for index, name in enumerate(self._outputs)}

    def details(self) -> Dict[str, Any]:
        """Return the properties in force, also where a precision below the model's own was chosen for this processor."""
        told = dict(self._told)
        for name in EFFECTIVE:
            with contextlib.suppress(RuntimeError, TypeError):  # this device, or this release, does not tell
                told[name.lower()] = _plain(self._model.get_property(name))
        return told

    def close(self) -> None:
        """Give the model's memory back."""
        vars(self).clear()


class OpenVinoBackend(Backend):
    """OpenVINO on the CPU, or on option `device`; tuned for latency unless option `hint` says otherwise."""

    name = "openvino"
    formats = ("openvino", "onnx")
    options = OPTIONS

    def runtime(self, options: Dict[str, Any]) -> Tuple[Any, str, str]:
        """Import the runtime and return module, distribution and version; raises FaultError env_missing."""
        return _import(options)

    def devices(self, runtime: Any) -> List[str]:
        """Return the devices that OpenVINO finds."""
        return list(runtime.Core().available_devices)

    def load(self, artifact: str, options: Dict[str, Any]) -> Session:
        """Open an .xml (its .bin beside it) or ONNX file; options: threads, device, hint (one of HINTS), runtime."""
        checks.check_options(self.name, options, OPTIONS)
        checks.check_file(artifact)
        runtime, name, version = _import(options)
        core = runtime.Core()
        device = _device(core, options)
        try:
            model = core.compile_model(core.read_model(artifact), device, _properties(options))
            return OpenVinoSession(runtime, core, model, {"runtime": name, "version": version})
        except RuntimeError as error:
            raise checks.refusal(artifact, SOURCE_LINE.sub("", str(error)), UNKNOWN_OPERATOR) from None


def _import(options: Dict[str, Any]) -> Tuple[Any, str, str]:
    """Return the module that has Core (openvino from 2023.1, openvino.runtime before), distribution and version.

    Its telemetry, which would call a server on import, stays off: a module set to None cannot be imported, and openvino does without it.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    runtime = checks.import_runtime("openvino")
    if not hasattr(runtime, "Core"):
        runtime = checks.import_runtime("openvino.runtime")
    name, version = checks.installed(DISTRIBUTIONS, runtime)
    checks.check_runtime(options, name, version)
    return runtime, name, version


def _device(core: Any, options: Dict[str, Any]) -> str:
    device, offered = options.get("device", "CPU"), core.available_devices
    family = re.split("[.:]", device)[0]
    if family not in VIRTUAL_DEVICES and family not in [name.split(".")[0] for name in offered]:
        raise FaultError("no_device", "openvino finds no device {}".format(device), "it finds " + ", ".join(offered), "load")
    return str(device)


def _properties(options: Dict[str, Any]) -> Dict[str, Any]:
    hint = options.get("hint", "LATENCY")
    if hint not in HINTS:
        raise FaultError("bad_data", "openvino has no hint {!r}".format(hint), "use one of " + ", ".join(HINTS), "load")
    properties = {"PERFORMANCE_HINT": hint}  # type: Dict[str, Any]
    if hint == "LATENCY":
        properties["NUM_STREAMS"] = "1"
    if "threads" in options:
        properties["INFERENCE_NUM_THREADS"] = options["threads"]
    return properties


def _spec(port: Any) -> TensorSpec:
    name = port.get_any_name() if port.get_names() else port.get_node().get_friendly_name()
    shape = [size.get_length() if size.is_static else -1 for size in port.get_partial_shape()]
    kind = port.get_element_type().get_type_name()
    if kind not in DTYPES:
        message = "{} is a tensor of {}, which numpy does not have".format(name, kind)
        raise FaultError("unsupported_op", message, "export the model with numeric inputs and outputs", "load")
    return TensorSpec(name, shape, DTYPES[kind])


def _plain(value: Any) -> Any:
    """Return a property's value as JSON has it: openvino's own types and enumerations by their names."""
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]  # type: ignore[misc]
    if isinstance(value, (bool, int, float, str)):
        return value
    return value.get_type_name() if hasattr(value, "get_type_name") else getattr(value, "name", str(value))


BACKEND = OpenVinoBackend()
