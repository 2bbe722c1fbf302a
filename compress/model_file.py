"""Reads model files, which may be anything."""

from pathlib import Path

from agent.schema import FaultError

MAX_BYTES = 2**31 - 1
"""The most that a protobuf message or a flatbuffer holds."""


def read(path: Path) -> bytes:
    """The file's bytes; raises FaultError `bad_model` for what is no regular file or larger than any model file, and OSError."""
    if not path.is_file():
        why = "it is no regular file" if path.exists() else "it is not there"
        raise FaultError("bad_model", f"{path.name}: {why}", "correct its path in the suite", "load")
    size_bytes = path.stat().st_size
    if size_bytes > MAX_BYTES:
        message = f"{path.name}: {size_bytes:,} bytes, more than a model file holds ({MAX_BYTES:,})"
        raise FaultError("bad_model", message, "keep the weights in a file of their own, or export a smaller model", "load")
    return path.read_bytes()
