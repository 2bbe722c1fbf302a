"""OpenVINO of every generation: the modern API where it is there, else that of 2021.4; opens IR (an .xml beside its .bin) and ONNX."""
# openvino is imported when it is needed, by any of its names.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import importlib
import re
import sys
from typing import Any, Dict, List, Tuple

from agent.schema import FaultError
from backends import Backend, Session, checks, inference_engine, myriad, openvino_runtime
from backends.openvino_devices import VIRTUAL, family

DISTRIBUTIONS = ("openvino",)
OPTIONS = {"threads": int, "device": str, "hint": str, "runtime": str, "usb_path": str, "profile": bool}
UNKNOWN_OPERATOR = (
    "No conversion rule found",
    "does not support the following ONNX operations",
    "doesn't contain the operation with type",
    "from unsupported opset",
    "Unsupported operation",
)
SOURCE_LINE = re.compile(r"^(Exception from |Check ').*$", re.MULTILINE)  # where in openvino's source an error arose


class OpenVinoBackend(Backend):
    """OpenVINO on the CPU, or on option `device`; tuned for latency unless option `hint` says otherwise."""

    name = "openvino"
    formats = ("openvino", "onnx")
    options = OPTIONS

    def runtime(self, options: Dict[str, Any]) -> Tuple[Any, str, str]:
        """Import the runtime and return module, distribution and version; raises FaultError env_missing."""
        return _import(options)

    def devices(self, runtime: Any) -> List[str]:
        """Return the devices that OpenVINO finds."""
        return list(_core(runtime).available_devices)

    def load(self, artifact: str, options: Dict[str, Any]) -> Session:
        """Open an .xml (its .bin beside it) or ONNX file; options: threads, device, usb_path (MYRIAD), hint, profile, runtime."""
        checks.check_options(self.name, options, OPTIONS)
        checks.check_file(artifact)
        runtime, name, version = _import(options)
        api = inference_engine if hasattr(runtime, "IECore") else openvino_runtime
        core = _core(runtime)
        seen = myriad.sticks()
        device = _device(api, core, options, seen)
        try:
            return api.load(runtime, core, artifact, device, options, {"runtime": name, "version": version, "device": device})
        except RuntimeError as error:
            text = SOURCE_LINE.sub("", str(error))
            fault = myriad.opening_fault(text, seen, options.get("usb_path", "")) if device.startswith(myriad.NAME) else None
            raise fault or checks.refusal(artifact, text, UNKNOWN_OPERATOR) from None


def _core(runtime: Any) -> Any:
    return runtime.IECore() if hasattr(runtime, "IECore") else runtime.Core()


def _import(options: Dict[str, Any]) -> Tuple[Any, str, str]:
    """Return the module that has Core (openvino from 2023.1, openvino.runtime from 2022.1) or IECore, distribution and version.

    Its telemetry, which would call a server on import, stays off: a module set to None cannot be imported, and openvino does without it.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    runtime = checks.import_runtime("openvino")
    if not hasattr(runtime, "Core"):
        runtime = checks.import_runtime("openvino.runtime" if _has("openvino.runtime") else "openvino.inference_engine")
    name, version = checks.installed(DISTRIBUTIONS, runtime)
    checks.check_runtime(options, name, version.partition("-")[0])  # what 2021.4 says of itself goes on with its build
    return runtime, name, version.partition("-")[0]


def _has(module: str) -> bool:
    return importlib.import_module("importlib.util").find_spec(module) is not None


def _device(api: Any, core: Any, options: Dict[str, Any], seen: List[myriad.Stick]) -> str:
    device = options.get("device", "CPU")
    kind = family(device)
    if kind == myriad.NAME:
        return _stick(api, core, device, options.get("usb_path", ""), seen)
    if "usb_path" in options:
        raise FaultError("bad_data", "openvino option usb_path is of MYRIAD, not of {}".format(device), "use device MYRIAD", "load")
    if "threads" in options and kind not in ("CPU", *VIRTUAL):
        raise FaultError("bad_data", "openvino option threads is of the CPU, not of {}".format(device), "use device CPU", "load")
    offered = core.available_devices
    if kind not in VIRTUAL and kind not in [name.split(".")[0] for name in offered]:
        raise FaultError("no_device", "openvino finds no device {}".format(device), "it finds " + ", ".join(offered), "load")
    return str(device)


def _stick(api: Any, core: Any, device: str, port: str, seen: List[myriad.Stick]) -> str:
    try:
        ids = list(api.ask(core, myriad.NAME, "AVAILABLE_DEVICES"))
    except RuntimeError as error:
        raise myriad.fault(SOURCE_LINE.sub("", str(error)), seen, port) from None
    found = myriad.device(ids, port, seen)
    myriad.check_mutex()
    return device if device != myriad.NAME else found


BACKEND = OpenVinoBackend()
