"""What a device's kind means for the runtimes on it: which it has, what they are told besides the suite's options, what they refuse."""

from collections.abc import Mapping
from typing import Any

import backends
from agent.schema import Fault
from compress import edgetpu
from compress.recipes import Recipe
from controller.inventory import Device

PROCESSOR = ("onnxruntime", "tflite", "openvino")
BY_KIND = {
    "jetson-nano": ("tensorrt", "onnxruntime"),
    "jetson": ("tensorrt", "onnxruntime"),
    "ncs2": ("openvino",),
    "coral-usb": ("edgetpu",),
    "coral-pcie": ("edgetpu",),
    "coral-dev-board": ("edgetpu",),
}
BUILD_S = {"tensorrt": 1800.0}  # how much longer a launch may take that finds nothing built on its device
MYRIAD = "MYRIAD"
MYRIAD_RUNTIME = "openvino==2021.4.2"  # the last wheel that holds the plugin
LAST_WITHOUT_IR_11 = (2021, 4)
MYRIAD_RECIPES = ("fp32", "fp16")


def offered(device: Device) -> tuple[str, ...]:
    """Give the backends that `auto` stands for on a device: those that the inventory names, else those of its kind."""
    return device.backends or BY_KIND.get(device.kind, PROCESSOR)


def options(device: Device, backend: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Give a backend's options on a device: the suite's, and those that follow from what the device is."""
    own: dict[str, Any] = {}
    if backend == "openvino" and device.kind == "ncs2":
        own = {"device": MYRIAD}
    if _is_myriad(backend, {**own, **chosen}):
        own["runtime"] = MYRIAD_RUNTIME
    if device.usb and (backend == "edgetpu" or _is_myriad(backend, {**own, **chosen})):
        own["usb_path"] = device.usb.path
    return {**own, **chosen}


def format_of(device: Device, backend: str, chosen: Mapping[str, Any]) -> str:
    """Give the artifact format for a backend on a device: the backend's preferred one, ONNX where OpenVINO is too old for today's IR."""
    runtime = str(options(device, backend, chosen).get("runtime", "")) if backend == "openvino" else ""
    is_old = runtime.startswith("openvino==") and _release(runtime) <= LAST_WITHOUT_IR_11
    return "onnx" if is_old else backends.get(backend).formats[0]


def refusal(device: Device, backend: str, chosen: Mapping[str, Any], recipe: Recipe) -> Fault | None:
    """Give why a recipe's artifact cannot run there whatever becomes of it, None where it may."""
    if backend == "edgetpu" and (fault := edgetpu.refusal(recipe)):
        return fault._replace(phase="plan")
    if _is_myriad(backend, options(device, backend, chosen)) and recipe.name not in MYRIAD_RECIPES:
        return Fault("unsupported_op", "plan", f"MYRIAD computes in fp16 only, {recipe.name} has nothing to give it", "use fp32 or fp16")
    return None


def _is_myriad(backend: str, chosen: Mapping[str, Any]) -> bool:
    return backend == "openvino" and str(chosen.get("device", "")).startswith(MYRIAD)


def _release(runtime: str) -> tuple[int, ...]:
    return tuple(int(part) for part in runtime.partition("==")[2].split(".")[:2] if part.isdecimal())
