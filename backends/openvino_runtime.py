"""OpenVINO 2022 and later (openvino.runtime.Core, later openvino.Core), its inputs in host memory shared with the request."""
# openvino is imported when it is needed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import contextlib
from typing import Any, Dict, List

from agent.schema import FaultError, TensorSpec
from backends import CPU, Operation, Session, checks, openvino_counters, openvino_devices

HINTS = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")
EFFECTIVE = ("EXECUTION_DEVICES", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "NUM_STREAMS", "PERFORMANCE_HINT")
DTYPES = {"boolean": "bool", "f16": "float16", "f32": "float32", "f64": "float64"}
DTYPES.update((kind + bits, name + bits) for kind, name in (("i", "int"), ("u", "uint")) for bits in ("8", "16", "32", "64"))


class OpenVinoSession(Session):
    """A CompiledModel and the one InferRequest that all its calls use."""

    def __init__(self, runtime: Any, core: Any, model: Any, device: str, told: Dict[str, Any], profiled: bool) -> None:
        self._runtime, self._model, self._device, self._told = runtime, model, device, told
        self._core = core  # in 2023.0 a model cannot be asked anything once its core is gone
        self._request = model.create_infer_request()
        self._inputs = [_spec(port) for port in model.inputs]
        self._outputs = [_spec(port).name for port in model.outputs]
        self._held = {}  # type: Dict[str, Any]
        request = self._request
        self.infer = request.infer
        self.runtime_ns = lambda: round(request.latency * 1e6)  # in the binding around the C++ call, in ms
        self._ran_on = openvino_devices.ran_on(self._execution_devices()) if profiled else ""
        self._averages = openvino_counters.Averages(request.infer, self._counters)
        self.told_at_end = profiled and self._ran_on == CPU
        if self.told_at_end:
            self.infer = self._averages.infer

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
                told[name.lower()] = plain(self._model.get_property(name))
        told["device_names"] = {}
        for device in told.get("execution_devices") or [self._device]:
            with contextlib.suppress(RuntimeError, TypeError):
                told["device_names"][device] = plain(self._core.get_property(device, "FULL_DEVICE_NAME"))
        with contextlib.suppress(RuntimeError, TypeError, ValueError):  # MYRIAD's in 2022
            told["temp_c"] = float(self._model.get_property("DEVICE_THERMAL"))
        return told

    def begin_profile(self) -> None:
        """Note the counters where they are averages."""
        self._averages.begin()

    def operations(self) -> List[Operation]:
        """Return each operation's time in the last inference, on the CPU the average since the load; none without option `profile`."""
        return [counter.operation for counter in self._counters() if counter.executed]

    def end_profile(self) -> List[List[Operation]]:
        """Return where counters are averages those since `begin_profile`."""
        return [self._averages.end()] if self.told_at_end else []

    def _counters(self) -> List[openvino_counters.Counter]:
        return [
            openvino_counters.Counter(
                Operation(one.node_name, one.node_type, one.exec_type, one.real_time.total_seconds(), self._ran_on),
                one.status.name == "EXECUTED",
            )
            for one in self._request.profiling_info
        ]

    def _execution_devices(self) -> List[str]:
        """What a virtual device, or the device itself, runs on; releases before 2022.3 do not tell."""
        with contextlib.suppress(RuntimeError, TypeError):
            return [str(device) for device in self._model.get_property("EXECUTION_DEVICES")] or [self._device]
        return [self._device]

    def close(self) -> None:
        """Give the model's memory back."""
        vars(self).clear()


def ask(core: Any, device: str, name: str) -> Any:
    """Return a device's property."""
    return core.get_property(device, name)


def load(runtime: Any, core: Any, path: str, device: str, options: Dict[str, Any], told: Dict[str, Any]) -> Session:
    """Open an .xml (its .bin beside it) or ONNX file; raises RuntimeError with OpenVINO's words."""
    model = core.compile_model(core.read_model(path), device, _properties(options))
    return OpenVinoSession(runtime, core, model, device, told, bool(options.get("profile")))


def _properties(options: Dict[str, Any]) -> Dict[str, str]:
    hint = options.get("hint", "LATENCY")
    if hint not in HINTS:
        raise FaultError("bad_data", "openvino has no hint {!r}".format(hint), "use one of " + ", ".join(HINTS), "load")
    properties = {"PERFORMANCE_HINT": hint}  # type: Dict[str, str]
    if hint == "LATENCY":
        properties["NUM_STREAMS"] = "1"
    if "threads" in options:
        properties["INFERENCE_NUM_THREADS"] = str(options["threads"])  # 2022.1 takes nothing but text
    if options.get("profile"):
        properties["PERF_COUNT"] = "YES"
    return properties


def _spec(port: Any) -> TensorSpec:
    name = port.get_any_name() if port.get_names() else port.get_node().get_friendly_name()
    shape = [size.get_length() if size.is_static else -1 for size in port.get_partial_shape()]
    kind = port.get_element_type().get_type_name()
    if kind not in DTYPES:
        message = "{} is a tensor of {}, which numpy does not have".format(name, kind)
        raise FaultError("unsupported_op", message, "export the model with numeric inputs and outputs", "load")
    return TensorSpec(name, shape, DTYPES[kind])


def plain(value: Any) -> Any:
    """Return a property's value as JSON has it: openvino's own types and enumerations by their names."""
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]  # type: ignore[misc]
    if isinstance(value, (bool, int, float, str)):
        return value
    return value.get_type_name() if hasattr(value, "get_type_name") else getattr(value, "name", str(value))
