"""What a model file says of itself, whatever its format."""

from pathlib import Path

from agent.schema import TensorSpec
from compress import onnx_model, tflite_model

_MODULES = {"onnx": onnx_model, "tflite": tflite_model}


def inputs(path: Path, format: str) -> list[TensorSpec]:  # noqa: A002  (the domain's word)
    """What the model is fed, in its order, a dimension without a fixed size as -1; `format` is onnx or tflite.

    Reads no other file. Raises FaultError `bad_model` for a truncated or hostile file.
    """
    return _MODULES[format].inputs(path)


def parameters(path: Path, format: str) -> int:  # noqa: A002
    """The number of floating-point weights of a float model; raises FaultError `bad_model`."""
    return _MODULES[format].parameters(path)
