"""What a backend runs in on a device: which interpreter, in which environment, and putting that there."""

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agent.cache import sha256_of
from agent.description import Probe
from agent.schema import FaultError
from controller import environments, targets
from controller.environments import Environment
from controller.inventory import Device
from controller.remote import Remote

T = TypeVar("T")
MODULES = {
    "onnxruntime": ("onnxruntime",),
    "tflite": ("ai_edge_litert", "tflite_runtime"),
    "edgetpu": ("tflite_runtime", "ai_edge_litert"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
}
DISTRO_PYTHON = "/usr/bin/python3"
LOOK_S = 30.0
LOOK = "import importlib.util, sys; print('%d.%d.%d' % sys.version_info[:3], importlib.util.find_spec('tensorrt') is not None)"
FOUND = re.compile(rb"(\d{1,3}\.\d{1,3}\.\d{1,3}) True\n")


class Exchange(Protocol):
    """Speaks with a device's agent, over a new link where the old one was lost."""

    def __call__(self, exchange: Callable[[Remote], T], /) -> T:
        """Give what `exchange` gives, which may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """What a backend runs in."""

    python: str  # the interpreter's path on the device; empty: the agent's own
    environment: Environment | None  # None: the interpreter has the runtime itself

    @property
    def folder(self) -> str:
        """Give the environment's name on the device, empty for none."""
        return self.environment.hash if self.environment else ""


def choose(device: Device, backend: str, options: Mapping[str, Any], probe: Probe, remote: Remote) -> Choice:
    """Give what a backend with a suite's options runs in on a device.

    That is the agent's interpreter, which `agent.python` of the inventory sets; without wheels for it and without that setting, the newest
    other one of the device that has some; for TensorRT, whose Python bindings come with the device, the first that has them. Raises
    FaultError env_missing, which says what there is.
    """
    runtime = targets.options(device, backend, options).get("runtime")
    if device.ssh is None and not device.agent.python and not runtime and any(map(_importable, MODULES.get(backend, ()))):
        return Choice("", None)

    def fitting(python: str) -> Environment:
        return environments.choose(backend, runtime, python, probe.machine, probe.glibc, probe.bits)

    if backend == "tensorrt" and probe.bits == 64:
        path, version = _with_tensorrt(device, probe, remote)
        return Choice("" if path == probe.python_path else path, fitting(version))
    try:
        return Choice("", fitting(probe.python))
    except FaultError:
        if device.agent.python or probe.bits != 64:
            raise
        other = _first_fitting(fitting, remote)
        if other is None:
            raise
        return other


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _first_fitting(fitting: Callable[[str], Environment], remote: Remote) -> Choice | None:
    for one in sorted(remote.interpreters, key=lambda one: environments.numbers(one.version), reverse=True):
        try:
            return Choice(one.path, fitting(one.version))
        except FaultError:
            continue
    return None


def _with_tensorrt(device: Device, probe: Probe, remote: Remote) -> tuple[str, str]:
    """Path and version of the first interpreter that has NVIDIA's Python bindings: they are the distribution's, for its own Python."""
    tried: list[str] = []
    for path in _interpreters(device, probe, remote):
        if path in tried:
            continue
        tried.append(path)
        done = remote.transport.run([path, "-I", "-c", LOOK], timeout_s=LOOK_S)
        found = FOUND.fullmatch(done.stdout)
        if found:
            return path, found[1].decode()
    message = f"{device.name}: no Python there has TensorRT's bindings (asked {', '.join(tried)[:200]})"
    remedy = "sudo apt-get install python3-libnvinfer on it, or set agent.python in inventory.yaml to the Python that has them"
    raise FaultError("env_missing", message, remedy, "install")


def _interpreters(device: Device, probe: Probe, remote: Remote) -> Iterator[str]:
    if device.agent.python:
        yield device.agent.python
        return
    yield DISTRO_PYTHON
    yield probe.python_path
    yield from (one.path for one in remote.interpreters)


def install(device: Device, environment: Environment, cache: Path, wheelhouse: Path | None, exchange: Exchange) -> int:
    """Fetch an environment into `cache`, put it on a device and have it unpacked there; give the bytes shipped.

    Raises FaultError; `disk_full` before anything is shipped where the device has too little room for archive and files.
    """
    archive = environments.fetch(environment, cache / "environments", wheelhouse=wheelhouse)
    needed = archive.stat().st_size + environments.unpacked_bytes(archive)
    probe = exchange(lambda remote: remote.probe())
    if probe.disk_free_bytes < needed:
        message = f"{environment.runtime} needs {needed / 1e6:,.0f} MB in {probe.cache_dir}, {probe.disk_free_bytes / 1e6:,.0f} MB are free"
        remedy = f"free some space (fleetmark gc --remote {device.name}), or set agent.cache_dir in inventory.yaml"
        raise FaultError("disk_full", f"{device.name}: {message}", remedy, "install")
    sha256 = sha256_of(str(archive))
    shipped = exchange(lambda remote: remote.upload({sha256: archive}))
    exchange(lambda remote: remote.install(environment.hash, sha256))
    return shipped
