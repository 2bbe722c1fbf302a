"""The seam between fleetmark and a runtime: one module for each, which exposes its Backend as ``BACKEND``.

Runtimes are imported inside methods only, so that this package loads on a device that has none of them.
"""

import importlib
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from agent.schema import Availability, FaultError, TensorSpec
from backends import checks

NAMES = ("onnxruntime", "tflite", "openvino", "edgetpu", "tensorrt")


CPU, ACCELERATOR = "cpu", "accelerator"


class Operation(NamedTuple):
    """One operation of a model as the runtime ran it: its name and type, the kernel or execution provider that ran it, and how long.

    `seconds` is None where the runtime does not tell; `device` is CPU, ACCELERATOR, or empty where that is not known.
    """

    name: str
    type: str
    kernel: str
    seconds: Optional[float]
    device: str


class Session:
    """A loaded model; feeds and outputs are dicts of numpy arrays by tensor name.

    `runtime_ns`, where the runtime has a clock of its own, gives the last call's time by it in ns, without the call from Python; untimed.
    `told_at_end`: profiled operations are not told after each inference, but by `end_profile`.
    """

    runtime_ns: Optional[Callable[[], int]] = None
    told_at_end = False

    def inputs(self) -> List[TensorSpec]:
        """Return the model's inputs: float ones as the caller feeds them, also where the model itself takes int8."""
        raise NotImplementedError

    def bind(self, feeds: Dict[str, Any]) -> None:
        """Copy the inputs to where the runtime reads them; untimed."""
        raise NotImplementedError

    def infer(self) -> None:
        """Run once on the bound inputs, the only timed call; returns when the outputs are in host memory."""
        raise NotImplementedError

    def outputs(self) -> Dict[str, Any]:
        """Return copies of the outputs by name, in the model's order; untimed."""
        raise NotImplementedError

    def details(self) -> Dict[str, Any]:
        """Return what the runtime tells: effective settings and placement (JSON-ready)."""
        return {}

    def begin_profile(self) -> None:
        """Have the inferences to be profiled begin, after the warm-up of a session that was loaded with option `profile`."""

    def operations(self) -> List[Operation]:
        """Return the operations of the last inference, in order; none unless loaded with option `profile`, or where `told_at_end`."""
        return []

    def end_profile(self) -> List[List[Operation]]:
        """Return where `told_at_end` the operations of each inference up to now, or one list of their averages since `begin_profile`."""
        return []

    def close(self) -> None:
        """Give the model's memory back."""


class Backend:
    """A runtime; `formats` are the artifact formats it opens, the preferred one first, `options` what it takes and of which type."""

    name = ""
    formats: Tuple[str, ...] = ()
    options: Dict[str, type] = {}

    def runtime(self, options: Dict[str, Any]) -> Tuple[Any, str, str]:
        """Import the runtime and return module, distribution and version; raises FaultError env_missing."""
        raise NotImplementedError

    def devices(self, runtime: Any) -> List[str]:
        """Return what the imported runtime can run on here; may raise whatever a broken build does."""
        raise NotImplementedError

    def probe(self) -> Availability:
        """Return whether it can be used here; never raises."""
        try:
            runtime, name, version = self.runtime({})
            return Availability(self.name, True, name, version, self.devices(runtime), "")
        except Exception as error:  # noqa: BLE001 - whatever a broken build does, the probe tells it
            return Availability(self.name, False, "", "", [], checks.one_line(error))

    def start(self, options: Dict[str, Any]) -> None:
        """Import the runtime, as one part of the cold start; raises FaultError env_missing, and bad_data for an option it does not have."""
        checks.check_options(self.name, options, self.options)
        self.runtime(options)

    def prepare(self, artifact: str, folder: str, options: Dict[str, Any]) -> str:
        """Return the path to load: what was built from `artifact` on the device, kept in `folder`; by default the artifact itself."""
        return artifact

    def load(self, artifact: str, options: Dict[str, Any]) -> Session:
        """Open the model file at path `artifact`; raises FaultError (bad_model, unsupported_op, env_missing, no_device)."""
        raise NotImplementedError


def get(name: str) -> Backend:
    """Return the backend called `name`; raises FaultError for a name nobody has."""
    if name not in NAMES:
        raise FaultError("env_missing", "no backend is called {!r}".format(name), "use one of {}".format(", ".join(NAMES)), "load")
    return importlib.import_module("backends." + name).BACKEND  # type: ignore[no-any-return]
