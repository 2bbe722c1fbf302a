"""One launch in a fresh process: import the runtime, load the model, warm up, measure, evaluate, and emit what was seen."""

import contextlib
import hashlib
import json
import os
import sys
import time
import traceback
from typing import Any, Dict, Generator, List, Optional

import backends
from agent import feeds, memory, workloads
from agent.cache import Cache, read_json
from agent.schema import FaultError, LaunchSpec, Measurement, SampleFile, dump, load

MAX_OUTPUT_BYTES = 64 << 20


class Worker:
    """One launch; `emit` writes an event, files go to `folder`/files under their sha256."""

    def __init__(self, cache: Cache, spec: LaunchSpec, events: int, spawned_s: float) -> None:
        self.cache = cache
        self.spec = spec
        self.events = events
        self.spawned_s = spawned_s
        self.phase = "import"

    def emit(self, kind: str, data: Any) -> None:
        """Write one event to the supervisor."""
        os.write(self.events, json.dumps({"type": kind, "data": dump(data)}, allow_nan=False).encode("ascii") + b"\n")

    def run(self) -> None:
        """Measure the launch; whatever goes wrong becomes a fault event."""
        try:
            self._run()
        except FaultError as error:
            self._fault(error.fault.code, error.fault.message, error.fault.next)
        except MemoryError:
            self._fault("oom", "out of memory", "try a smaller model")
        except Exception as error:  # noqa: BLE001 - anything a runtime raises is this launch's fault, told by its name
            traceback.print_exc()
            self._fault("crash", "{}: {}".format(type(error).__name__, _one_line(str(error))), "see the log")

    def _fault(self, code: str, message: str, next_step: str) -> None:
        self.emit("fault", {"code": code, "phase": self.phase, "message": message, "next": next_step})

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.emit("phase", {"name": phase})

    def _measure(self, metric: str, unit: str, value: float) -> None:
        self.emit("measure", Measurement(metric, unit, [value]))

    @contextlib.contextmanager
    def _cold(self, part: str) -> Generator[None, None, None]:
        self._enter(part)
        begin = time.monotonic()
        yield
        self._measure("cold_start_{}_s".format(part), "s", time.monotonic() - begin)

    def _run(self) -> None:
        spec = self.spec
        self._measure("cold_start_process_s", "s", time.monotonic() - self.spawned_s)
        with self._cold("import"):
            backend = backends.get(spec.backend)
            backend.start(spec.options)
        self._enter("data")
        arrays = feeds.read(self.cache.blob(spec.data), spec.feeds)
        observable = memory.reset_peak()
        baseline = memory.peak_bytes()
        path = self._model_path()
        with self._cold("load"):
            session = backend.load(backend.prepare(path, self.cache.path("prepared"), spec.options), spec.options)
        specs = session.inputs()
        arrays = feeds.named(arrays, specs)
        session.bind(next(feeds.batches(arrays, specs)))
        with self._cold("first_inference"):
            session.infer()
        if spec.workload.name == "single_stream":
            self._single_stream(session)
        peak = memory.peak_bytes()
        if observable and peak is not None and baseline is not None:
            self._measure("peak_memory_bytes", "B", float(peak - baseline))
        self.emit("phase", {"name": "details", "details": session.details()})
        if spec.evaluate:
            self._evaluate(session, arrays)
        session.close()

    def _model_path(self) -> str:
        """The artifact's files under the names that the runtime expects, linked to the blobs; the first is the one to open."""
        folder = self.cache.launch(self.spec.launch, "model")
        os.makedirs(folder, exist_ok=True)
        paths = [os.path.join(folder, os.path.basename(file.name)) for file in self.spec.artifact.files]
        for file, path in zip(self.spec.artifact.files, paths):
            if not os.path.exists(self.cache.blob(file.sha256)):
                raise FaultError("protocol", "the artifact's {} was not uploaded".format(file.name), "run again", "load")
            os.symlink(self.cache.blob(file.sha256), path)
        return paths[0]

    def _single_stream(self, session: backends.Session) -> None:
        spec = self.spec
        self._measure("loop_cost_s", "s", workloads.loop_cost_s())
        self._enter("warmup")
        queries, seconds = workloads.warm_up(session.infer, spec.warmup_min_s, spec.warmup_min_queries, spec.warmup_max_s)
        self._measure("warmup_queries", "1", queries)
        self._measure("warmup_s", "s", seconds)
        self._enter("measure")
        processor_s = time.process_time()
        window = workloads.single_stream(session.infer, spec.min_duration_s, spec.min_queries, spec.deadline_s, spec.max_samples)
        processor_s = time.process_time() - processor_s
        self._enter("measured")
        self._measure("queries", "1", float(window.queries))
        self._measure("window_s", "s", window.window_ns / 1e9)
        self._measure("cpu_time_s", "s", processor_s)
        if sys.byteorder == "big":
            window.latency_ns.byteswap()
        self._file("latency_ns", "ns", "int64", [len(window.latency_ns)], window.stride, window.latency_ns.tobytes())

    def _evaluate(self, session: backends.Session, arrays: Dict[str, Any]) -> None:
        """Run every sample; the outputs travel as float32 files, one for each output, samples on axis 0."""
        import numpy

        self._enter("evaluate")
        kept: Dict[str, List[Any]] = {}
        size_bytes = 0
        for batch in feeds.batches(arrays, session.inputs()):
            session.bind(batch)
            session.infer()
            for name, value in session.outputs().items():
                kept.setdefault(name, []).append(numpy.asarray(value, dtype="<f4"))
                size_bytes += value.size * 4
            if size_bytes > MAX_OUTPUT_BYTES:
                break
        for at, (name, values) in enumerate(kept.items()):
            whole = numpy.concatenate(values) if values[0].ndim else numpy.stack(values)
            self._file("output_{}".format(at), name, "float32", list(whole.shape), 1, whole.tobytes())

    def _file(self, metric: str, unit: str, dtype: str, shape: List[int], stride: int, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        with open(self.cache.launch(self.spec.launch, "files", sha256), "wb") as file:
            file.write(content)
        self.emit("sample", SampleFile(metric, unit, dtype, shape, stride, sha256, len(content)))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def run(cache: Cache, launch: str, events: int, spawned_s: float) -> None:
    """Run the launch whose spec.json lies in the agent's folder; `events` is the descriptor that the supervisor reads."""
    os.dup2(2, 1)  # a chatty runtime must not write anywhere but to the log
    os.set_inheritable(events, False)
    document: Optional[Any] = read_json(cache.launch(launch, "spec.json"))
    Worker(cache, load(LaunchSpec, document), events, spawned_s).run()
