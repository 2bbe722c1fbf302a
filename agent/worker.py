"""One launch in a fresh process: import the runtime, load the model, warm up, measure, evaluate, and emit what was seen."""

import contextlib
import errno
import faulthandler
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from typing import Any, Callable, Dict, Generator, List, Optional

import backends
from agent import driving, feeds, memory, operations, workloads
from agent.cache import FULL, Cache, disk_fault, read_json, unlink
from agent.schema import Fault, FaultError, LaunchSpec, Measurement, SampleFile, dump, load

MAX_OUTPUT_BYTES = 64 << 20
# Of a launch's deadline, counted from the start of its process, or from when its engine was built: when measuring and evaluating end at
# the latest, with what they have.
MEASURE_UNTIL = 0.7
EVALUATE_UNTIL = 0.9
PR_SET_PDEATHSIG = 1


class Worker:
    """One launch; `emit` writes an event, files go to `folder`/files under their sha256."""

    def __init__(self, cache: Cache, spec: LaunchSpec, events: int, spawned_s: float) -> None:
        self.cache = cache
        self.spec = spec
        self.events = events
        self.spawned_s = spawned_s
        self.begun_s = spawned_s
        self.phase = "import"

    def emit(self, kind: str, data: Any) -> None:
        """Write one event to the supervisor."""
        line = memoryview(json.dumps({"type": kind, "data": dump(data)}, allow_nan=False).encode("ascii") + b"\n")
        while line:
            line = line[os.write(self.events, line) :]

    def run(self) -> None:
        """Measure the launch; whatever goes wrong becomes a fault event."""
        try:
            self._run()
            self._enter("done")
        except FaultError as error:
            self._fault(error)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - anything a runtime raises is this launch's fault
            traceback.print_exc()
            self._fault(_fault_of(error, self.cache))

    def _fault(self, error: FaultError) -> None:
        self.emit("fault", error.fault._replace(phase=self.phase))

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.emit("phase", {"name": phase})

    def _measure(self, metric: str, unit: str, value: float) -> None:
        self.emit("measure", Measurement(metric, unit, [float(value)]))

    @contextlib.contextmanager
    def _cold(self, part: str) -> Generator[None, None, None]:
        self._enter(part)
        begin = time.monotonic()
        yield
        self._measure("cold_start_{}_s".format(part), "s", time.monotonic() - begin)

    def _left_s(self, share: float) -> float:
        """Seconds until that share of the time from `begun_s` to the deadline has passed."""
        end_s = self.spawned_s + self.spec.deadline_s
        return self.begun_s + share * (end_s - self.begun_s) - time.monotonic()

    def _run(self) -> None:
        spec = self.spec
        self._measure("cold_start_process_s", "s", time.monotonic() - self.spawned_s)
        with self._cold("import"):
            backend = backends.get(spec.backend)
            backend.start(spec.options)
        self._enter("data")
        arrays = feeds.read(self.cache.blob(spec.data), spec.feeds)
        path = self._prepared(backend)
        driver = driving.Driver(spec)
        self._measure("loop_cost_s", "s", workloads.loop_cost_s())
        self._measure_cached(path)
        shared, pss = memory.shared_gpu_bytes(), self._pss("import")
        baseline = self._memory_baseline()
        with self._cold("load"):
            session = backend.load(path, spec.options)
        loaded = self._pss("load")
        if pss is not None and loaded is not None:
            self._measure("model_memory_bytes", "B", max(0, loaded - pss))
        specs = session.inputs()
        arrays = feeds.named(arrays, specs)
        driver.bind(session, arrays, specs)
        with self._cold("first_inference"):
            driver.first(session)
        driven = self._drive(session, driver) if spec.workload.name in workloads.NAMES and not spec.profiled else None
        peak = memory.peak_bytes()
        if baseline is not None and peak is not None and peak >= baseline:
            self._measure("peak_memory_bytes", "B", peak - baseline)
        self._pss("measure")
        if driven is not None:
            self._tell(driven)
        details = session.details()
        self._measure_accelerator(details, shared)
        self.emit("phase", {"name": "details", "details": details})
        if spec.profiled:
            self._profile(session)
        if spec.evaluate:
            self._evaluate(session, arrays)
        session.close()

    def _prepared(self, backend: backends.Backend) -> str:
        """The path to load: what the backend built of the artifact on this device, once for all launches, or the artifact itself."""
        self._enter("prepare")
        begin = time.monotonic()
        artifact = self._model_path()
        path = backend.prepare(artifact, self.cache.path("prepared"), self.spec.options)
        if path != artifact:
            self.begun_s = time.monotonic()
            self._measure("prepare_s", "s", self.begun_s - begin)
        return path

    def _measure_cached(self, path: str) -> None:
        share = memory.cached_share(path)
        if share is not None:
            self._measure("model_cached_share", "1", share)

    def _pss(self, phase: str) -> Optional[int]:
        """The proportional set size at the end of a phase, told too."""
        size_bytes = memory.pss_bytes()
        if size_bytes is not None:
            self._measure("pss_{}_bytes".format(phase), "B", size_bytes)
        return size_bytes

    def _measure_accelerator(self, details: Dict[str, Any], before: Optional[int]) -> None:
        """By how much a Jetson's shared memory has grown since before the load; what the runtime's context takes, without the weights."""
        context, now = details.get("device_memory_bytes"), memory.shared_gpu_bytes()
        if before is not None and now is not None:
            self._measure("accelerator_memory_bytes", "B", max(0, now - before))
        if isinstance(context, int):
            self._measure("accelerator_context_bytes", "B", context)

    def _memory_baseline(self) -> Optional[int]:
        """The resident set with runtime, data and sample buffer but without the model; None where it cannot be observed."""
        memory.trim()
        return memory.peak_bytes() if memory.reset_peak() else None

    def _model_path(self) -> str:
        """The artifact's files under the names that the runtime expects, linked to the blobs; the first is the one to open."""
        folder = self.cache.launch(self.spec.launch, "model")
        os.makedirs(folder, exist_ok=True)
        paths = [os.path.join(folder, file.name) for file in self.spec.artifact.files]
        for file, path in zip(self.spec.artifact.files, paths):
            os.symlink(self.cache.blob(file.sha256), path)
        return paths[0]

    def _drive(self, session: backends.Session, driver: driving.Driver) -> driving.Driven:
        spec = self.spec
        self._enter("warmup")
        warm_up_s = min(spec.warmup_max_s, self._left_s(MEASURE_UNTIL) / 2)
        warm = workloads.warm_up(driver.query(session), spec.warmup_min_s, spec.warmup_min_queries, warm_up_s)
        self._measure("warmup_queries", "1", warm.queries)
        self._measure("warmup_s", "s", warm.seconds)
        self._measure("warmup_settled", "1", warm.settled)
        self._enter("measure")
        longest_s = self._left_s(MEASURE_UNTIL)
        processor_s = time.process_time()
        driven = driver.measure(session, longest_s)
        processor_s = time.process_time() - processor_s
        self._enter("measured")
        self._measure("cpu_time_s", "s", processor_s)
        return driven

    def _profile(self, session: backends.Session) -> None:
        """Time the operations of some inferences."""

        def has_time() -> bool:
            return self._left_s(MEASURE_UNTIL) > 0

        self._enter("warmup")
        operations.warm_up(session, has_time)
        self._enter("measure")
        found = operations.profile(session, self.spec.profiled, has_time)
        self._enter("measured")
        for part in operations.parts(found):
            self.emit("operations", part)
        self._measure("operations_left_out", "1", found.left_out)
        self._samples("inference_ns", memoryview(found.wall_ns), 1)
        if found.operation_ns:
            self._samples("operation_ns", memoryview(found.operation_ns), 1)

    def _tell(self, driven: driving.Driven) -> None:
        window = driven.window
        for metric, unit, value in driven.told:
            self._measure(metric, unit, value)
        self._measure("queries", "1", window.queries)
        self._measure("window_s", "s", window.window_ns / 1e9)
        if not window.whole:
            self._measure("window_cut_short", "1", 1)
        self._samples("latency_ns", window.latency_ns, window.stride)
        if window.runtime_ns:
            self._samples("runtime_ns", window.runtime_ns, window.stride)

    def _samples(self, metric: str, values: Any, stride: int) -> None:
        content = values.tobytes()
        if sys.byteorder == "big":
            content = b"".join(content[at : at + 8][::-1] for at in range(0, len(content), 8))
        self._file(metric, "ns", "int64", [len(values)], stride, content)

    def _evaluate(self, session: backends.Session, arrays: Dict[str, Any]) -> None:
        """Run every sample; the outputs travel as float32 files, one for each output, samples on axis 0."""
        import numpy

        self._enter("evaluate")
        kept: Dict[str, List[Any]] = {}
        size_bytes = 0
        specs = session.inputs()
        until = EVALUATE_UNTIL if self.spec.workload.name in workloads.NAMES else 1.0
        for batch in feeds.batches(arrays, specs):
            if size_bytes > MAX_OUTPUT_BYTES or self._left_s(until) < 0:
                self._measure("evaluation_cut_short", "1", 1)
                break
            session.bind(batch)
            session.infer()
            for name, value in session.outputs().items():
                kept.setdefault(name, []).append(numpy.asarray(value, dtype="<f4"))
                size_bytes += value.size * 4
        size = feeds.batch_size(arrays, specs)
        for at, (name, values) in enumerate(kept.items()):
            whole = numpy.concatenate(values) if values[0].shape[:1] == (size,) else numpy.stack(values)
            self._file("output_{}".format(at), name, "float32", list(whole.shape), 1, whole.tobytes())

    def _file(self, metric: str, unit: str, dtype: str, shape: List[int], stride: int, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.cache.launch(self.spec.launch, "files", sha256)
        try:
            with open(path, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            unlink(path)
            raise
        self.emit("sample", SampleFile(metric, unit, dtype, shape, stride, sha256, len(content)))


def _fault_of(error: BaseException, cache: Cache) -> FaultError:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or "bad_alloc" in text:
        return FaultError("oom", "out of memory: {}".format(text), "try a smaller model")
    if isinstance(error, OSError) and error.errno in FULL:
        return disk_fault(error, cache.root)
    return FaultError("crash", "{}: {}".format(type(error).__name__, text), "see the log")


def run(cache: Cache, launch: str, events: int, spawned_s: float) -> None:
    """Run the launch whose spec.json lies in the agent's folder; `events` is the descriptor that the supervisor reads. Does not return.

    The process ends without the runtime's own cleaning up, which may crash or hang when all is done.
    """
    os.dup2(2, 1)  # a chatty runtime must not write anywhere but to the log
    os.set_inheritable(events, False)
    faulthandler.enable()  # a crash tells in the log where it was
    document: Optional[Any] = read_json(cache.launch(launch, "spec.json"))
    Worker(cache, load(LaunchSpec, document), events, spawned_s).run()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def spawn(cache: Cache, spec: LaunchSpec, events: int, log: int) -> "subprocess.Popen[bytes]":
    """Start a launch's worker: a process in its own session that dies with us, `log` as its standard output and error."""
    python = spec.python or sys.executable
    command: List[Any] = [python.encode("utf-8", "surrogateescape"), os.path.abspath(sys.argv[0]), "worker", "--cache", cache.root]
    command += ["--launch", spec.launch, "--events", str(events), "--spawned", repr(time.monotonic())]
    try:
        return subprocess.Popen(
            command,
            env=environ(cache, spec.environment, spec.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(events,),
            start_new_session=True,
            preexec_fn=_dies_with_parent(),
            cwd=cache.launch(spec.launch),
        )
    except (OSError, ValueError) as error:
        code = "oom" if isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN) else "no_python"
        message = "cannot start {}: {}".format(python, getattr(error, "strerror", error))
        raise FaultError(code, message, "set agent.python in inventory.yaml", "spawn") from error


def _dies_with_parent() -> Callable[[], Any]:
    import ctypes

    control = ctypes.CDLL(None).prctl
    return lambda: control(PR_SET_PDEATHSIG, signal.SIGKILL)


def environ(cache: Cache, environment: str, extra: Dict[str, str]) -> Dict[bytes, bytes]:
    """Return the environment variables of a process that runs a runtime: ours, less Python's, plus the device's and the environment.

    The locale is the same everywhere: some runtimes read numbers by it, and Python 3.6 file names. What runtimes keep in the user's cache
    folder goes to the agent's, and onnxruntime 1.31 sends no usage data.
    """
    found = {name: value for name, value in os.environb.items() if not name.startswith(b"PYTHON")}
    found[b"LC_ALL"] = b"C.UTF-8"
    found[b"ORT_DISABLE_TELEMETRY"] = b"1"
    found[b"XDG_CACHE_HOME"] = found[b"CUDA_CACHE_PATH"] = os.fsencode(cache.path("prepared", "caches"))
    found.update({name.encode("utf-8"): value.encode("utf-8") for name, value in extra.items()})
    if environment:
        paths = [os.fsencode(cache.environment(environment)), found.get(b"PYTHONPATH", b"")]
        found[b"PYTHONPATH"] = b":".join(path for path in paths if path)
        found[b"PYTHONNOUSERSITE"] = b"1"
    return found


def death(status: int, phase: str, oom_kills_before: Optional[int]) -> Fault:
    """Return what a worker's exit status other than 0 means. SIGKILL counts as `oom` unless the kernel denies it."""
    message = "the worker ended {}".format(ending(status))
    if status == -signal.SIGKILL and (oom_kills_before is None or memory.oom_kills() != oom_kills_before):
        return Fault("oom", phase, "{}, as the kernel does when memory runs out".format(message), "try a smaller model")
    next_step = {
        -signal.SIGKILL: "somebody killed it, not the kernel for want of memory: look for limits on the device",
        # numpy 1.19 on a Jetson Nano
        -signal.SIGILL: "set OPENBLAS_CORETYPE: ARMV8 under agent.env, or try another version of the runtime",
    }
    return Fault("crash", phase, message, next_step.get(status, "see the log, or try another version of the runtime"))


def ending(status: int) -> str:
    """Say how a process ended: by its exit status, or by the signal that killed it."""
    if status >= 0:
        return "with status {}".format(status)
    try:
        return "by {}".format(signal.Signals(-status).name)
    except ValueError:
        return "by signal {}".format(-status)
