"""The runtimes of this machine that artifacts are verified in besides the first of their format, and what they refuse."""

import functools
import importlib.util
import platform
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from agent.schema import Fault, FaultError, load
from compress import cache
from compress.records import Runtime
from controller import environments
from controller.laptop import cache_folder
from controller.provision import Choice
from controller.reference import Place, run_in

OLD_TFLITE = "tflite-runtime"
FLOOR = "accuracy_floor"


def further(format: str) -> tuple[Runtime, ...]:  # noqa: A002 - the field's word
    """Give what devices may run artifacts of a format in besides the first runtime, each with the reason where it is not here.

    An .onnx is also what OpenVINO of 2021.4 is given. tflite-runtime comes from the wheels that were fetched before: nothing is downloaded.
    """
    found = FURTHER.get(format)
    return () if found is None else (found(),)


def _installed(distribution: str, backend: str, remedy: str) -> Runtime:
    if importlib.util.find_spec(distribution) is None:
        fault = Fault("env_missing", "verify", f"{distribution} is not installed where the artifact was made", remedy)
        return Runtime(distribution, "", fault)
    return Runtime(distribution, _version(distribution), functools.partial(run_in, Place(backend)))


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _openvino() -> Runtime:
    return _installed("openvino", "openvino", "install fleetmark[openvino]")


def _tensorrt() -> Runtime:
    return _installed("tensorrt", "tensorrt", "it comes with NVIDIA's hardware")


def _old_tflite() -> Runtime:
    return _fetched(cache_folder())


@functools.cache
def _fetched(kept: Path) -> Runtime:
    """tflite-runtime from the wheels kept in a folder, or in uv's."""
    python, libc = platform.python_version(), platform.libc_ver()[1]
    try:
        chosen = environments.choose("tflite", OLD_TFLITE, python, platform.machine(), libc, 64)
        site = _unpacked(environments.fetch(chosen, kept / "environments", offline=True), kept / "unpacked")
    except FaultError as error:
        return Runtime(OLD_TFLITE, "", error.fault._replace(next=""))  # which is about a device
    place = Place("tflite", {"runtime": chosen.runtime}, site)
    return Runtime(OLD_TFLITE, chosen.wheels[0].version, functools.partial(run_in, place))


def _unpacked(archive: Path, kept: Path) -> Path:
    folder = kept / archive.name.partition(".")[0]

    def unpack(partial: Path) -> None:
        try:
            with tarfile.open(archive) as files:
                files.extractall(partial, filter="data")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise FaultError("env_missing", f"{archive} is broken ({error})", "delete it", "install") from error

    cache.once(folder, Path.is_dir, unpack)
    return folder


FURTHER: Mapping[str, Callable[[], Runtime]] = {"onnx": _openvino, "tflite": _old_tflite, "tensorrt": _tensorrt}


def refusals(told: Sequence[Mapping[str, Any]]) -> dict[str, Fault]:
    """Give why runtimes (as "name version") are not sent an artifact whose manifest tells this of them."""
    return {f"{one['runtime']} {one['version']}": load(Fault, one["fault"]) for one in told if one["fault"]}


def binding(told: Sequence[Mapping[str, Any]], keep_all: bool) -> list[Mapping[str, Any]]:
    """Give what a manifest tells of runtimes, without losses where what lost too much is kept too."""
    return [{**one, "fault": None} if keep_all and one["fault"] and one["fault"]["code"] == FLOOR else one for one in told]


def check(told: Sequence[Mapping[str, Any]], backend: str, choice: Choice) -> None:
    """Raise FaultError with why a device's environment is not sent it, if it is not.

    An older release of a runtime is not trusted with what a newer one made nothing of. Without an environment it is the runtime of this
    machine, the one that refused it.
    """
    name, version, environment = backend, "", choice.environment
    if environment is not None and environment.name != environments.NUMPY:
        name, version = environment.name, environment.wheels[0].version
    for fault in refusals([one for one in told if one["runtime"] == name and _is_no_newer(version, one["version"])]).values():
        raise FaultError(fault.code, fault.message, fault.next, fault.phase)


def _is_no_newer(version: str, other: str) -> bool:
    """An unknown version may be any."""
    return not other or environments.numbers(version) <= environments.numbers(other)
