"""TensorFlow Lite on a Coral: libedgetpu's delegate runs what edgetpu_compiler made one operation of, the CPU the rest.

How libedgetpu behaves is read from the source of its release 16.0 and unverified on hardware.
"""
# libedgetpu's C interface (edgetpu_c.h) is untyped, and the runtimes ship no stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import ctypes
import os
import re
import sys
from typing import Any, Dict, List, Tuple

from agent.schema import FaultError
from backends import Backend, Session, checks, coral, litert, tflite_file

LIBRARY = "libedgetpu.so.1"
RUNTIMES = ("tflite-runtime", "ai-edge-litert")  # nobody has reported libedgetpu to work with the second
OPTIONS = {"device": str, "usb_path": str, "performance": str, "library": str, "profile": bool, "runtime": str, "threads": int}
DEVICE = re.compile("(usb|pci):[0-9]{1,2}")
PERFORMANCES = ("Low", "Medium", "High", "Max")
KINDS = {0: "pci", 1: "usb"}  # enum edgetpu_device_type
MAX_DEVICES = 64
MISMATCH = ("Unsupported data type in custom op handler", "unresolved custom op: edgetpu-custom-op")
OUTDATED = "requires runtime version"
INSTALL = "install Debian package libedgetpu1-std from Coral's archive"
UPDATE = "update Debian package libedgetpu1-std (or -max), or compile the model with --min_runtime_version"
# The kernels' structure has grown since TensorFlow 2.5, of which libedgetpu 16.0 is: one of the old length crashes tflite-runtime from 2.10
# on and ai-edge-litert (seen with a fake library, 2.8.0 and 2.9.1 being well).
MATCH = (
    "take a libedgetpu that was built for this runtime, or another runtime (option runtime): for Debian's libedgetpu 16.0 one before 2.10"
)
PLUG = "check cable and power, plug it in again; in a container, pass /dev/bus/usb or /dev/apex_0 on to it"
PERMIT = "give group plugdev (USB) or apex (PCIe) access by a udev rule and join it: fleetmark doctor prints the commands"


class _Device(ctypes.Structure):
    """struct edgetpu_device."""

    _fields_ = [("type", ctypes.c_int), ("path", ctypes.c_char_p)]


class EdgeTpuSession(litert.LitertSession):
    """An Interpreter, and the Edge TPU that its delegate has opened."""

    def __init__(self, interpreter: Any, told: Dict[str, Any], tpu: coral.EdgeTpu) -> None:
        super().__init__(interpreter, told)
        self._tpu = tpu

    def details(self) -> Dict[str, Any]:
        """Return also where the model's parts run, on which Edge TPU, with which libedgetpu (std or max) and clock.

        `edgetpu_subgraphs` are nodes of many original operations each: how many, only the compiler's log tells.
        """
        told, packages = super().details(), coral.packages()
        told.update(operations=told["edgetpu_subgraphs"] + told["cpu_operations"], usb_speed_mbps=self._tpu.speed_mbps())
        told.update(libedgetpu_packages=packages, edgetpu_runtime=", ".join(name.rpartition("-")[2] for name in sorted(packages)))
        told["performance"] = _performance(told["performance"], self._tpu.device, packages)
        return told


class EdgeTpuBackend(Backend):
    """Models compiled for the Edge TPU: on the first that libedgetpu lists, or on the one of option `device` or `usb_path`."""

    name = "edgetpu"
    formats = ("edgetpu",)
    options = OPTIONS

    def runtime(self, options: Dict[str, Any]) -> Tuple[Any, str, str]:
        """Import the runtime and load libedgetpu; return module, distribution and version; raises FaultError env_missing."""
        found = litert.import_runtime(options, RUNTIMES)
        _library(options)
        return found

    def devices(self, runtime: Any) -> List[str]:
        """Return what libedgetpu lists, as "usb:0 (2-1.4)"; raises FaultError no_device for nothing.

        No Edge TPU is opened: that would load its firmware, and might disturb a launch that uses it.
        """
        return ["{} ({})".format(tpu.device, tpu.place()) for tpu in _listed(_library({}))]

    def load(self, artifact: str, options: Dict[str, Any]) -> Session:
        """Open a file that edgetpu_compiler wrote.

        Options: device (usb:0, pci:0, ...: libedgetpu's numbering), usb_path (2-1.4), performance (one of PERFORMANCES), library (name
        or path of libedgetpu), threads (for the CPU's part, 1 by default), runtime (which of the two TensorFlow Lites).
        """
        _check_options(options)
        checks.check_file(artifact)
        placed = _placement(artifact)
        module, name, version = litert.import_runtime(options, RUNTIMES)
        library, threads = _library(options), options.get("threads", 1)
        tpu = _chosen(_listed(library), options)
        told = dict(placed._asdict(), runtime=name, version=version, threads=threads, device=tpu.device, place=tpu.place())
        told.update(libedgetpu_version=_version(library), performance=options.get("performance", ""))
        delegate = _delegate(module, tpu, options)
        pair = "libedgetpu ({}) and {} {}".format(told["libedgetpu_version"], name, version)
        sys.stderr.write("if the process dies here, {} do not match: {}\n".format(pair, MATCH))
        sys.stderr.flush()
        try:
            interpreter = litert.interpreter(module, artifact, threads, [delegate])
        except (ValueError, RuntimeError) as error:
            raise _refusal(artifact, error, pair) from None
        return EdgeTpuSession(interpreter, told, tpu)


def _check_options(options: Dict[str, Any]) -> None:
    checks.check_options("edgetpu", options, OPTIONS)
    forms = {"device": (DEVICE, "usb:0, usb:1, pci:0, ..."), "usb_path": (coral.USB_PATH, "a USB path such as 2-1.4")}
    forms["performance"] = re.compile("|".join(PERFORMANCES)), ", ".join(PERFORMANCES)
    for name, (form, remedy) in forms.items():
        if name in options and not form.fullmatch(options[name]):
            raise FaultError("bad_data", "edgetpu option {} cannot be {!r}".format(name, options[name]), "use one of " + remedy, "load")


def _placement(artifact: str) -> tflite_file.Placement:
    placed = tflite_file.placement(artifact)
    if not placed.edgetpu_subgraphs:
        message = "{} is not compiled for the Edge TPU: it has no edgetpu-custom-op".format(os.path.basename(artifact))
        raise FaultError("bad_model", message, "compile it with edgetpu_compiler", "load")
    return placed


def _library(options: Dict[str, Any]) -> Any:
    name = options.get("library", LIBRARY)
    try:
        library = ctypes.CDLL(name)
        library.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
        library.edgetpu_version.restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:
        remedy = "install Debian package libusb-1.0-0" if "libusb" in str(error) else INSTALL
        message = "{} cannot be used: {}".format(name, checks.one_line(error))
        raise FaultError("env_missing", message, remedy, "import") from None
    return library


def _version(library: Any) -> str:
    return checks.one_line((library.edgetpu_version() or b"").decode("utf-8", "replace"))


def _listed(library: Any) -> List[coral.EdgeTpu]:
    """Return the Edge TPUs in libedgetpu's order, by which `device` numbers those of a kind: sticks without firmware come first."""
    count = ctypes.c_size_t()
    records = library.edgetpu_list_devices(ctypes.byref(count))
    found = []  # type: List[coral.EdgeTpu]
    for record in records[: min(count.value, MAX_DEVICES)] if records else []:
        kind = KINDS.get(record.type, "other")
        number = sum(tpu.device.startswith(kind) for tpu in found)
        found.append(coral.EdgeTpu("{}:{}".format(kind, number), (record.path or b"").decode("utf-8", "replace")))
    library.edgetpu_free_devices(records)
    if not found:
        shown = coral.plugged_in()
        without = "no USB device {}, no /dev/apex_*".format(" or ".join(coral.USB_IDS))
        message = "libedgetpu finds no Edge TPU, the system shows {}".format(", ".join(shown) or without)
        raise FaultError("no_device", message, PLUG, "load")
    return found


def _chosen(tpus: List[coral.EdgeTpu], options: Dict[str, Any]) -> coral.EdgeTpu:
    wanted = [options[name] for name in ("device", "usb_path") if name in options]
    for tpu in tpus:
        if all(word in (tpu.device, tpu.place()) for word in wanted):
            return tpu
    seen = ", ".join("{} at {}".format(tpu.device, tpu.place() or tpu.path) for tpu in tpus)
    message = "libedgetpu finds no Edge TPU {}: it finds {}".format(" at ".join(wanted), seen)
    raise FaultError("no_device", checks.one_line(message), "use one of those, or plug it in there", "load")


def _delegate(module: Any, tpu: coral.EdgeTpu, options: Dict[str, Any]) -> Any:
    """Return the delegate with the Edge TPU opened, named by number: else libedgetpu drops all other options."""
    settings = {"device": tpu.device}
    if "performance" in options:
        settings["Performance"] = options["performance"]
    try:
        return module.load_delegate(options.get("library", LIBRARY), settings)
    except (ValueError, RuntimeError) as error:
        raise _unopened(tpu, error) from None


def _unopened(tpu: coral.EdgeTpu, error: Exception) -> FaultError:
    node = tpu.node()
    forbidden, holder = coral.forbidden(node), coral.holder(node)
    where = "the Edge TPU {} at {}".format(tpu.device, tpu.place() or tpu.path)
    if forbidden:
        return FaultError("no_device", "no permission to open {}: {}".format(where, forbidden), PERMIT, "load")
    if holder:
        return FaultError("busy", "{} is in use by {}".format(where, holder), "wait until that is done, or end it", "load")
    message = "libedgetpu cannot open {}: {}; nobody whom this user may see has it open".format(where, checks.one_line(error))
    return FaultError("no_device", message, PLUG, "load")


def _refusal(artifact: str, error: Exception, pair: str) -> FaultError:
    text = checks.one_line(error)
    if any(words in str(error) for words in MISMATCH):
        return FaultError("env_missing", "{} do not match: {}".format(pair, text), MATCH, "load")
    if OUTDATED in str(error):
        return FaultError("env_missing", "libedgetpu is too old for {}: {}".format(os.path.basename(artifact), text), UPDATE, "load")
    return checks.refusal(artifact, error, litert.UNKNOWN_OPERATOR)


def _performance(asked: str, device: str, packages: Dict[str, str]) -> str:
    """Return the clock in force, empty where it is not known: by default it is Max, for which libedgetpu1-std gives USB sticks High."""
    if asked in PERFORMANCES[:3] or not packages:
        return asked
    return "High" if "libedgetpu1-std" in packages and device.startswith("usb") else "Max"


BACKEND = EdgeTpuBackend()
