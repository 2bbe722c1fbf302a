"""How a launch's workload drives its session: what a query is, what is bound for it, and its window."""

from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from agent import feeds, server, workloads
from agent.schema import FaultError, LaunchSpec, TensorSpec
from agent.workloads import Clock, Window
from backends import Session

SAMPLES_PER_QUERY = 8

Told = List[Tuple[str, str, float]]


class Driven(NamedTuple):
    """A window, and what else the workload tells: (metric, unit, value)."""

    window: Window
    told: Told


class Driver:
    """One launch's workload. It holds the buffers, so that they are there before the model is and no part of its memory."""

    def __init__(self, spec: LaunchSpec) -> None:
        self.spec = spec
        self.name = spec.workload.name
        self.batch = 1
        self.samples, self.spare = workloads.sample_buffer(spec.max_samples), workloads.sample_buffer(spec.max_samples)
        self.seed = server.seed_of(spec.launch)
        self.gaps = server.gaps(self.seed, spec.max_samples if self.name == "server" else 1)

    def bind(self, session: Session, arrays: Dict[str, Any], specs: List[TensorSpec]) -> None:
        """Give the session what every query runs on; raises FaultError: `bad_data`, `unsupported_op` for a batch it does not take."""
        self.batch = feeds.batch_size(arrays, specs)
        wanted = self.spec.workload.options.get("batch") if self.name == "offline" else None
        if wanted is None or wanted == self.batch:
            session.bind(feeds.first(arrays, specs))
        else:
            session.bind(feeds.batch(arrays, specs, wanted))
            self.batch = wanted

    def first(self, session: Session) -> None:
        """Run once; raises FaultError `unsupported_op` if the model leaves its batch open but cannot run this one."""
        try:
            session.infer()
        except Exception as error:
            if self.name != "offline" or self.batch == 1:
                raise
            why = " ".join(str(error).split())[:200]
            message = "the model does not run {} samples at once: {}".format(self.batch, why)
            raise FaultError("unsupported_op", message, "leave out `batch`, or export the model anew") from error

    def query(self, session: Session) -> Callable[[], None]:
        """Return the call that is timed."""
        return workloads.in_a_row(session.infer, self._samples()) if self.name == "multi_stream" else session.infer

    def measure(self, session: Session, max_s: float) -> Driven:
        """Return the workload's window; it ends at `max_s`, whatever is missing."""
        if self.name == "server":
            return self._server(session, max_s)
        spec, runtime_ns = self.spec, None if self.name == "multi_stream" else session.runtime_ns
        clock = Clock(runtime_ns, self.spare) if runtime_ns else None
        window = workloads.single_stream(self.query(session), spec.min_duration_s, spec.min_queries, max_s, self.samples, clock)
        several = {"multi_stream": self._samples(), "offline": self.batch}.get(self.name)
        return Driven(window, [("samples_per_query", "1", several)] if several else [])

    def _samples(self) -> int:
        return int(self.spec.workload.options.get("samples", SAMPLES_PER_QUERY))

    def _server(self, session: Session, max_s: float) -> Driven:
        spec, options = self.spec, self.spec.workload.options
        goal = server.Goal(float(options["p99_s"]), spec.min_duration_s, spec.min_queries, bool(options.get("early_stopping")))
        found = server.search(session.infer, goal, max_s, server.Buffers(self.gaps, self.samples, self.spare))
        told: Told = [
            ("server_rate_per_s", "1/s", found.rate_per_s),
            ("server_failing_rate_per_s", "1/s", found.failing_per_s),
            ("server_trials", "1", found.trials),
            ("arrival_seed", "1", self.seed),
        ]
        return Driven(found.window, told)
