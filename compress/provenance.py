"""What a result depends on besides its inputs: the versions of the tools, and this package's own code."""

import hashlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent import VERSION
from agent.schema import FaultError

_TOOLS = {
    "onnx": ("numpy", "onnx", "onnxruntime"),
    "tflite": ("numpy", "ai-edge-litert", "litert-quantizer"),
    "openvino": ("numpy", "onnx", "onnxruntime", "openvino", "nncf"),
    "tensorrt": ("numpy", "onnx", "onnxruntime"),
    "torch": ("numpy", "onnx", "torch", "torch-pruning", "tensorly"),
}
_EXTRAS = {"torch": "train"}


def tools(format: str) -> dict[str, str]:  # noqa: A002  (the domain's word)
    """The versions of what makes and runs artifacts of a format; raises FaultError `env_missing` for a package that is not there."""
    versions = {"fleetmark": VERSION}
    for package in _TOOLS[format]:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            message = f"the package {package} is not installed"
            raise FaultError("env_missing", message, f"install fleetmark[{_EXTRAS.get(format, format)}]", "compress") from None
    return versions


def code_digest() -> str:
    """The sha256 (hex) of this package's modules: what older code built is built again."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def arrays_digest(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """The sha256 (hex) of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
