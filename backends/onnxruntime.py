"""ONNX Runtime, its inputs and outputs bound to host memory (IOBinding); opens ONNX."""
# onnxruntime ships no stubs and is imported when it is needed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import contextlib
import functools
import os
from typing import Any, Dict, List, Tuple

from agent.schema import FaultError, TensorSpec
from backends import Backend, Operation, Session, checks, onnxruntime_profile

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
OPTIONS = {"threads": int, "providers": list, "graph_optimization": str, "profile": bool, "runtime": str}
LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}
DTYPES = {"float": "float32", "double": "float64"}
DTYPES.update((name, name) for name in ("float16", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"))
UNKNOWN_OPERATOR = (
    "NOT_IMPLEMENTED",
    "is not a registered function/op",
    "No Op registered for",
    "Unsupported model IR version",
    "Current official support for domain",  # the model's opset is newer than the runtime
)


class OnnxRuntimeSession(Session):
    """An InferenceSession and the one IOBinding that all its calls use."""

    told_at_end = True

    def __init__(self, runtime: Any, session: Any, told: Dict[str, Any]) -> None:
        self._runtime, self._session, self._told = runtime, session, told
        self._inputs = [_spec(value) for value in session.get_inputs()]
        self._outputs = [_spec(value) for value in session.get_outputs()]
        self._bound = sorted(self._outputs, key=lambda spec: -1 in spec.shape)  # as they are bound: those of open shape with the feeds
        self._held = {}  # type: Dict[str, Any]
        self._binding = session.io_binding()
        self.infer = functools.partial(session.run_with_iobinding, self._binding)
        for spec in self._bound:
            if -1 not in spec.shape:
                self._binding.bind_ortvalue_output(spec.name, runtime.OrtValue.ortvalue_from_shape_and_type(spec.shape, spec.dtype))

    def inputs(self) -> List[TensorSpec]:
        """Return the model's inputs; a dimension that the model leaves open is -1."""
        return self._inputs

    def bind(self, feeds: Dict[str, Any]) -> None:
        """Copy the feeds to the arrays that the session reads; outputs of open shape are bound anew, since they keep the last run's."""
        import numpy

        checks.check_feeds(self._inputs, feeds)
        for spec in self._inputs:
            feed, held = feeds[spec.name], self._held.get(spec.name)
            if held is None or held.shape != feed.shape:
                held = self._held[spec.name] = numpy.empty(feed.shape, spec.dtype)
                self._binding.bind_input(spec.name, "cpu", 0, held.dtype.type, held.shape, held.ctypes.data)
            numpy.copyto(held, feed)
        for spec in self._bound:
            if -1 in spec.shape:
                self._binding.bind_output(spec.name, "cpu")

    def outputs(self) -> Dict[str, Any]:
        """Return copies of the outputs by name."""
        import numpy

        found = {spec.name: value for spec, value in zip(self._bound, self._binding.copy_outputs_to_cpu())}
        return {spec.name: numpy.array(found[spec.name]) for spec in self._outputs}

    def details(self) -> Dict[str, Any]:
        """Return the effective settings; `fallback` names the providers that were asked for and are not used; 0 threads: its own choice."""
        settings, providers = self._session.get_session_options(), self._session.get_providers()
        return dict(
            self._told,
            providers=providers,
            fallback=[name for name in self._told["requested"] if name not in providers],
            intra_op_num_threads=settings.intra_op_num_threads,
            inter_op_num_threads=settings.inter_op_num_threads,
            graph_optimization=settings.graph_optimization_level.name,
        )

    def end_profile(self) -> List[List[Operation]]:
        """Return the operations of each inference up to now; none unless loaded with option `profile`. The profiler's file is deleted."""
        path = self._session.end_profiling() if self._session.get_session_options().enable_profiling else ""
        if not path:
            return []
        try:
            return onnxruntime_profile.read(path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def close(self) -> None:
        """Give the model's memory back."""
        vars(self).clear()


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime with the execution providers of its build: the CPU one, unless option `providers` asks for others."""

    name = "onnxruntime"
    formats = ("onnx",)
    options = OPTIONS

    def runtime(self, options: Dict[str, Any]) -> Tuple[Any, str, str]:
        """Import the runtime and return module, distribution and version; raises FaultError env_missing."""
        return _import(options)

    def devices(self, runtime: Any) -> List[str]:
        """Return the execution providers of the build."""
        return list(runtime.get_available_providers())

    def load(self, artifact: str, options: Dict[str, Any]) -> Session:
        """Open an ONNX file; options: threads, providers (most wanted first), graph_optimization (one of LEVELS), profile, runtime."""
        checks.check_options(self.name, options, OPTIONS)
        checks.check_file(artifact)
        runtime, name, version = _import(options)
        settings, providers = _settings(runtime, options), _providers(runtime, options)
        own_pool = {"XNNPACKExecutionProvider": {"intra_op_num_threads": str(options.get("threads", 1))}}  # its threads are its own
        provider_options = [own_pool.get(provider, {}) for provider in providers]
        try:
            session = runtime.InferenceSession(artifact, settings, providers, provider_options)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common root
            raise checks.refusal(artifact, error, UNKNOWN_OPERATOR) from None
        return OnnxRuntimeSession(runtime, session, {"runtime": name, "version": version, "requested": providers})


def _import(options: Dict[str, Any]) -> Tuple[Any, str, str]:
    """Return module, distribution and version."""
    runtime = checks.import_runtime("onnxruntime")
    name, version = checks.installed(DISTRIBUTIONS, runtime)
    checks.check_runtime(options, name, version)
    return runtime, name, version


def _settings(runtime: Any, options: Dict[str, Any]) -> Any:
    settings = runtime.SessionOptions()
    settings.inter_op_num_threads = 1
    settings.intra_op_num_threads = options.get("threads", 0)
    settings.enable_profiling = options.get("profile", False)  # to a file in the working folder, which is the launch's own
    level = options.get("graph_optimization", "all")
    if level not in LEVELS:
        raise FaultError("bad_data", "onnxruntime has no graph_optimization {!r}".format(level), "use one of " + ", ".join(LEVELS), "load")
    settings.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, LEVELS[level])
    return settings


def _providers(runtime: Any, options: Dict[str, Any]) -> List[str]:
    wanted, offered = options.get("providers", ["CPUExecutionProvider"]), runtime.get_available_providers()
    missing = [name for name in wanted if name not in offered]
    if missing or not wanted:
        message = "this build of onnxruntime has no execution provider {}".format(missing)
        raise FaultError("no_device", message, "it has " + ", ".join(offered), "load")
    return wanted


def _spec(value: Any) -> TensorSpec:
    """Return a model input or output of onnxruntime, whose types read tensor(float)."""
    kind = value.type[len("tensor(") : -1] if value.type.startswith("tensor(") else ""
    if kind not in DTYPES:
        message = "{} is a {}, not a tensor of numbers".format(value.name, value.type)
        raise FaultError("unsupported_op", message, "export the model with numeric inputs and outputs", "load")
    return TensorSpec(value.name, [size if isinstance(size, int) else -1 for size in value.shape], DTYPES[kind])


BACKEND = OnnxRuntimeBackend()
