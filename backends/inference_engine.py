"""OpenVINO 2021.4 (openvino.inference_engine.IECore), whose wheel is the last with the MYRIAD plugin; opens ONNX up to operator set 13.

Inputs are written into the request's own memory. Shapes are fixed.
"""
# openvino is imported when it is needed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import contextlib
import os
from typing import Any, Dict, List

from agent.schema import FaultError, TensorSpec
from backends import CPU, Operation, Session, checks, myriad, onnx_file, openvino_counters, openvino_devices

OPSET = 13
EFFECTIVE = (
    "CPU_BIND_THREAD",
    "CPU_THREADS_NUM",
    "CPU_THROUGHPUT_STREAMS",
    "ENFORCE_BF16",
    "MYRIAD_ENABLE_HW_ACCELERATION",
    "MYRIAD_THROUGHPUT_STREAMS",
)
DTYPES = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}
DTYPES.update((kind + bits, name + bits) for kind, name in (("I", "int"), ("U", "uint")) for bits in ("8", "16", "32", "64"))


class InferenceEngineSession(Session):
    """An ExecutableNetwork and its one InferRequest."""

    def __init__(self, core: Any, network: Any, outputs: Dict[str, str], device: str, config: Dict[str, str], told: Dict[str, Any]) -> None:
        self._core, self._network, self._device, self._config, self._told = core, network, device, config, told
        self._request = network.requests[0]
        self._inputs = [_spec(name, info.tensor_desc) for name, info in network.input_info.items()]
        self._outputs = outputs
        self._blobs = self._request.input_blobs  # their buffers are views of what the request reads
        request = self._request
        self.infer = request.infer
        self.runtime_ns = lambda: round(request.latency * 1e6)  # around the plugin's call, in ms
        self._ran_on = openvino_devices.ran_on([device])
        self._averages = openvino_counters.Averages(request.infer, self._counters)
        self.told_at_end = "PERF_COUNT" in config and self._ran_on == CPU
        if self.told_at_end:
            self.infer = self._averages.infer

    def inputs(self) -> List[TensorSpec]:
        """Return the model's inputs."""
        return self._inputs

    def bind(self, feeds: Dict[str, Any]) -> None:
        """Copy the feeds to the request's memory."""
        import numpy

        checks.check_feeds(self._inputs, feeds)
        for spec in self._inputs:
            numpy.copyto(_array(spec.name, self._blobs[spec.name]), feeds[spec.name])

    def outputs(self) -> Dict[str, Any]:
        """Return copies of the outputs by name."""
        blobs = self._request.output_blobs
        return {name: _array(name, blobs[blob]).copy() for name, blob in self._outputs.items()}

    def details(self) -> Dict[str, Any]:
        """Return the settings in force, or as asked for where the device does not tell, and a stick's temperature."""
        told = dict(self._told, **{name.lower(): value for name, value in self._config.items()})
        for name in EFFECTIVE:
            with contextlib.suppress(RuntimeError):  # another device's
                told[name.lower()] = self._network.get_config(name)
        with contextlib.suppress(RuntimeError, TypeError):
            told["device_names"] = {self._device: str(ask(self._core, self._device, "FULL_DEVICE_NAME"))}
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            told["infer_requests"] = int(self._network.get_metric("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))  # MYRIAD: two for each stream
            told["temp_c"] = float(self._network.get_metric("DEVICE_THERMAL"))
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
        if "PERF_COUNT" not in self._config:
            return []
        counts = sorted(self._request.get_perf_counts().items(), key=lambda item: int(item[1]["execution_index"]))
        return [
            openvino_counters.Counter(
                Operation(name, one["layer_type"], one["exec_type"], one["real_time"] / 1e6, self._ran_on), one["status"] == "EXECUTED"
            )
            for name, one in counts
        ]

    def close(self) -> None:
        """Give the model's memory back."""
        vars(self).clear()


def ask(core: Any, device: str, name: str) -> Any:
    """Return a device's metric."""
    return core.get_metric(device, name)


def load(_: Any, core: Any, path: str, device: str, options: Dict[str, Any], told: Dict[str, Any]) -> Session:
    """Open an ONNX file; raises FaultError, and RuntimeError with the plugin's words."""
    name = os.path.basename(path)
    if not path.endswith(".onnx"):
        raise FaultError("bad_model", name + ": OpenVINO 2021.4 cannot read today's IR", "give it the ONNX file", "load")
    header = onnx_file.read(path)
    if header.opset > OPSET:  # which it would read as if it were 13
        message = "{}: operator set {}, OpenVINO 2021.4 knows {}".format(name, header.opset, OPSET)
        raise FaultError("unsupported_op", message, "export the model with operator set {} or lower".format(OPSET), "load")
    config = _config(device, options)
    try:
        network = core.read_network(path)
        loaded = core.load_network(network, device, config, num_requests=1)
    except RuntimeError as error:
        if "dynamic output shape" not in str(error):
            raise
        message = "{}: {}".format(name, checks.one_line(error))
        raise FaultError("unsupported_op", message, "export the model with fixed shapes", "load") from None
    return InferenceEngineSession(core, loaded, _output_names(network, header.outputs), device, config, told)


def _config(device: str, options: Dict[str, Any]) -> Dict[str, str]:
    """One stream: MYRIAD takes more unless told, which is for throughput."""
    if options.get("hint", "LATENCY") != "LATENCY":
        raise FaultError("bad_data", "openvino 2021.4 has no hint {!r}".format(options["hint"]), "use LATENCY", "load")
    config = {name + "_THROUGHPUT_STREAMS": "1" for name in ("CPU", "GPU", myriad.NAME) if device.split(".")[0] == name}
    if "threads" in options:
        config["CPU_THREADS_NUM"] = str(options["threads"])
    if options.get("profile"):
        config["PERF_COUNT"] = "YES"
    return config


def _output_names(network: Any, names: List[str]) -> Dict[str, str]:
    """What the network calls the outputs, by their names in the file and in its order."""
    return {name: network.get_ov_name_for_tensor(name) for name in names}


def _spec(name: str, description: Any) -> TensorSpec:
    return TensorSpec(name, list(description.dims), _dtype(name, description))


def _array(name: str, blob: Any) -> Any:
    return blob.buffer.view(_dtype(name, blob.tensor_desc))


def _dtype(name: str, description: Any) -> str:
    if description.precision not in DTYPES:
        message = "{} is a tensor of {}, which numpy does not have".format(name, description.precision)
        raise FaultError("unsupported_op", message, "export the model with numeric inputs and outputs", "load")
    return DTYPES[description.precision]
