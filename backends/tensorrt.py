"""TensorRT 8.2 to 11 through NVIDIA's Python bindings, CUDA through ctypes; builds its engine from ONNX on the device.

A query is what METHOD.md says: copy in, execute, copy out, synchronise. The GPU's own time for the execution comes from two events.
"""

import ctypes
import os
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from agent.schema import FaultError, TensorSpec
from backends import Backend, Operation, Session, checks, engine_cache
from backends.cuda import DEVICE_TO_HOST, HOST_TO_DEVICE, Cuda
from backends.tensorrt_build import Settings, build, last_error, make_logger
from backends.tensorrt_engine import deserialize, execution, layer_names, observe, tensors

DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")
OPTIONS = {"precision": str, "workspace_mb": int, "profile": bool, "runtime": str}
PRECISIONS = ("auto", "fp32", "fp16", "int8")
WORKSPACE_MB = (64, 1024)  # by default a sixteenth of the GPU's memory, within these: 247 MB on a Jetson Nano
NO_BINDINGS = "install python3-libnvinfer and set agent.python to the system's own /usr/bin/python3; without JetPack: pip install tensorrt"


class Tensor(NamedTuple):
    """An input or output of an engine, with its memory: `host` is pinned, `view` the same memory as a numpy array."""

    spec: TensorSpec
    is_input: bool
    size_bytes: int
    host: ctypes.c_void_p
    device: ctypes.c_void_p
    view: Any


class TensorRtSession(Session):
    """An engine with one execution context, one stream and its inputs' and outputs' memory."""

    def __init__(self, runtime: Any, logger: Any, cuda: Cuda, engine: Any, told: Dict[str, Any]) -> None:
        self._runtime, self._logger, self._cuda, self._engine, self._told = runtime, logger, cuda, engine, told
        self._owned = []  # type: List[Tuple[str, ctypes.c_void_p]] # what frees it, and its address
        self._tensors = []  # type: List[Tensor]
        self._operations = []  # type: List[Operation]
        self._context = engine.create_execution_context()
        if self._context is None:
            message = "TensorRT gives no execution context: {}".format(last_error(logger.errors))
            raise FaultError("oom", checks.one_line(message), "use a smaller model, or free memory on the device", "load")
        try:
            self._stream = self._own("cudaStreamDestroy", cuda.stream())
            self._begin, self._end = (self._own("cudaEventDestroy", cuda.event()) for _ in range(2))
            self._tensors.extend(self._allocate(spec, is_input) for spec, is_input in tensors(runtime, engine))
        except Exception:
            self._free()
            raise
        self.infer = self._query()
        self.runtime_ns = lambda: cuda.elapsed_ns(self._begin, self._end)

    def _own(self, free: str, address: ctypes.c_void_p) -> ctypes.c_void_p:
        self._owned.append((free, address))
        return address

    def _free(self) -> int:
        """Free all that was taken of CUDA, the last first; return the last error's status."""
        status = 0
        while self._owned:
            free, address = self._owned.pop()
            status = self._cuda.prepared(free, address)() or status
        return status

    def _allocate(self, spec: TensorSpec, is_input: bool) -> Tensor:
        import numpy

        size = 1
        for length in spec.shape:
            size *= length
        size_bytes = size * numpy.dtype(spec.dtype).itemsize
        host = self._own("cudaFreeHost", self._cuda.malloc_host(size_bytes))
        device = self._own("cudaFree", self._cuda.malloc(size_bytes))
        memory = (ctypes.c_byte * size_bytes).from_address(host.value or 0)  # type: Any
        view = numpy.frombuffer(memory, spec.dtype, size).reshape(spec.shape)
        return Tensor(spec, is_input, size_bytes, host, device, view)

    def _query(self) -> Callable[[], None]:
        """Return the timed call; all its arguments are made beforehand."""
        prepared = self._cuda.prepared
        copies_in = []  # type: List[Callable[[], int]]
        copies_out = []  # type: List[Callable[[], int]]
        for tensor in self._tensors:
            size = ctypes.c_size_t(tensor.size_bytes)
            to, source, way = tensor.host, tensor.device, DEVICE_TO_HOST
            if tensor.is_input:
                to, source, way = tensor.device, tensor.host, HOST_TO_DEVICE
            calls = copies_in if tensor.is_input else copies_out
            calls.append(prepared("cudaMemcpyAsync", to, source, size, ctypes.c_int(way), self._stream))
        before = [*copies_in, prepared("cudaEventRecord", self._begin, self._stream)]
        after = [prepared("cudaEventRecord", self._end, self._stream), *copies_out]
        after.append(prepared("cudaStreamSynchronize", self._stream))
        addresses = {tensor.spec.name: tensor.device.value or 0 for tensor in self._tensors}
        execute, failed = execution(self._context, addresses, self._stream.value or 0), self._failed

        def infer() -> None:
            status = 0
            for call in before:
                status = call() or status
            done = execute()
            for call in after:
                status = call() or status
            if status or not done:
                failed(status)

        return infer

    def _failed(self, status: int) -> None:
        self._cuda.check("inference", status)
        message = "TensorRT does not execute: {}".format(last_error(self._logger.errors) or "it does not say why")
        raise FaultError("crash", checks.one_line(message), "see the log", "measure")

    def profile(self) -> None:
        """Have every further query tell its layers' times, which makes it slower."""
        query, told = self.infer, observe(self._runtime, self._context)

        def infer() -> None:
            del told[:]
            query()

        self.infer, self._operations = infer, told

    def inputs(self) -> List[TensorSpec]:
        """Return the engine's inputs, all of fixed shapes."""
        return [tensor.spec for tensor in self._tensors if tensor.is_input]

    def bind(self, feeds: Dict[str, Any]) -> None:
        """Copy the feeds to the pinned host memory that queries copy from."""
        import numpy

        checks.check_feeds(self.inputs(), feeds)
        for tensor in self._tensors:
            if tensor.is_input:
                numpy.copyto(tensor.view, feeds[tensor.spec.name])

    def outputs(self) -> Dict[str, Any]:
        """Return copies of the outputs by name."""
        return {tensor.spec.name: tensor.view.copy() for tensor in self._tensors if not tensor.is_input}

    def details(self) -> Dict[str, Any]:
        """Return how the engine was built, its layers, and memory in bytes: `device_memory_bytes` is what the context takes besides
        the engine's weights; `gpu_memory_` is the whole GPU's, on a Jetson the system's.
        """
        engine = self._engine
        free, total = self._cuda.memory_bytes()
        told = dict(self._told, layers=engine.num_layers, gpu_memory_free_bytes=free, gpu_memory_bytes=total)
        memory_bytes = getattr(engine, "device_memory_size_v2", None)  # from 10.1, the only one from 11
        told["device_memory_bytes"] = int(engine.device_memory_size if memory_bytes is None else memory_bytes)
        told.update(self._cuda.versions())
        told["layer_names"] = layer_names(self._runtime, engine)
        return told

    def operations(self) -> List[Operation]:
        """Return each layer's time in the last query; none unless loaded with option `profile`."""
        return list(self._operations)

    def close(self) -> None:
        """Give the memory back, the context's and the engine's too."""
        cuda, status = self._cuda, self._free()
        vars(self).clear()
        cuda.check("freeing", status)


class TensorRtBackend(Backend):
    """TensorRT on the first GPU; option `precision` is one of PRECISIONS: auto is the model's own, fp16 lets kernels use half precision,
    int8 insists on a model with Q/DQ layers, fp32 is auto without TF32. `workspace_mb` bounds the builder's scratch memory.
    """

    name = "tensorrt"
    formats = ("tensorrt", "onnx")
    options = OPTIONS

    def __init__(self) -> None:
        self._ready = {}  # type: Dict[str, Tuple[Any, Dict[str, Any]]]
        self._logger = None  # type: Any # kept to the process's end, as long as TensorRT's plug-ins may use it

    def runtime(self, options: Dict[str, Any]) -> Tuple[Any, str, str]:
        """Import the bindings and return module, distribution and version; raises FaultError env_missing."""
        try:
            runtime = checks.import_runtime("tensorrt")
        except FaultError as error:
            raise FaultError("env_missing", error.fault.message, NO_BINDINGS, "import") from None
        if not hasattr(runtime, "Builder"):
            raise FaultError("env_missing", "the module tensorrt is not NVIDIA's", NO_BINDINGS, "import")
        name, version = checks.installed(DISTRIBUTIONS, runtime)[0], str(runtime.__version__)
        checks.check_runtime(options, name, version)
        return runtime, name, version

    def devices(self, runtime: Any) -> List[str]:
        """Return the GPUs, the first with its compute capability; raises FaultError no_device or env_missing."""
        cuda = Cuda()
        return ["cuda:{}".format(at) + (" sm " + cuda.sm() if at == 0 else "") for at in range(cuda.devices)]

    def prepare(self, artifact: str, folder: str, options: Dict[str, Any]) -> str:
        """Return the path of the engine for an ONNX file, built unless `folder` has one that can be used here.

        Engines are told apart by the model's content, TensorRT's version, the GPU's compute capability and the options. One that is
        kept is tried and let go of: to deserialise it is a part of loading. Raises what `build` does, and OSError where the disk is full.
        """
        checks.check_options(self.name, options, OPTIONS)
        checks.check_file(artifact)
        runtime, _, version = self.runtime(options)
        cuda = Cuda()
        sm, settings = cuda.sm(), _settings(cuda, options)
        parts = {"model": engine_cache.sha256_of(artifact), "tensorrt": version, "sm": sm, "settings": settings}
        path = os.path.join(folder, "tensorrt-{}.engine".format(engine_cache.key(parts)))
        logger = self._logger = make_logger(runtime)
        kept = engine_cache.read(path)
        usable = kept is not None and deserialize(runtime, logger, kept.content) is not None
        if kept is None or not usable:
            engine_cache.discard(path)
            timing = os.path.join(folder, "tensorrt-{}-sm{}.timing".format(version, sm))
            kept = self._build(runtime, logger, artifact, settings, path, timing)
        self._ready[path] = (logger, dict(kept.record, built=not usable))
        return path

    def _build(self, runtime: Any, logger: Any, artifact: str, settings: Settings, path: str, timing: str) -> engine_cache.Kept:
        try:
            known = engine_cache.read_bytes(timing)
        except OSError:
            known = b""
        built = build(runtime, logger, artifact, settings, known)
        kept = engine_cache.write(path, built.content, built.record)
        engine_cache.write_bytes(timing, built.timing)
        return kept

    def load(self, artifact: str, options: Dict[str, Any]) -> Session:
        """Open the engine that `prepare` returned the path of."""
        checks.check_options(self.name, options, OPTIONS)
        runtime, name, version = self.runtime(options)
        if artifact not in self._ready:
            raise FaultError("bad_model", "{}: not an engine that was prepared".format(os.path.basename(artifact)), "run again", "load")
        logger, record = self._ready.pop(artifact)
        engine = deserialize(runtime, logger, engine_cache.read_bytes(artifact))
        if engine is None:
            message = checks.one_line("the engine cannot be used: {}".format(last_error(logger.errors) or "TensorRT does not say why"))
            raise FaultError("compile_fail", message, "see the log; try another release of TensorRT", "load")
        cuda = Cuda()
        session = TensorRtSession(runtime, logger, cuda, engine, dict(record, runtime=name, version=version, sm=cuda.sm()))
        if options.get("profile"):
            session.profile()
        return session


def _settings(cuda: Cuda, options: Dict[str, Any]) -> Settings:
    precision = options.get("precision", "auto")
    if precision not in PRECISIONS:
        raise FaultError("bad_data", "tensorrt has no precision {!r}".format(precision), "use one of " + ", ".join(PRECISIONS), "load")
    least, most = WORKSPACE_MB
    share_mb = (cuda.memory_bytes()[1] >> 20) // 16
    return Settings(precision, options.get("workspace_mb", max(least, min(most, share_mb))))


BACKEND = TensorRtBackend()
