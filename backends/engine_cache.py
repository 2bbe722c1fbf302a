"""Engines that were built on this device, kept as files that are whole or not there."""

import contextlib
import glob
import hashlib
import os
from typing import Any, Dict, NamedTuple, Optional

from agent.schema import SchemaError, decode, encode, fingerprint

MAX_RECORD_BYTES = 1 << 20


class Kept(NamedTuple):
    """An engine's bytes, and the record of how it was built."""

    content: bytes
    record: Dict[str, Any]


def key(parts: Dict[str, Any]) -> str:
    """Return what tells engines apart: 16 hex digits of the fingerprint of all that they depend on."""
    return fingerprint(parts)[:16]


def sha256_of(path: str) -> str:
    """Return the sha256 (hex) of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def read(path: str) -> Optional[Kept]:
    """Return the engine at `path` with its record; None where either is missing, or the engine is not the one that was recorded."""
    try:
        with open(path + ".json", "rb") as file:
            record = decode(file.read(MAX_RECORD_BYTES))
        content = read_bytes(path)
    except (OSError, SchemaError):
        return None
    whole = isinstance(record, dict) and record.get("engine_sha256") == hashlib.sha256(content).hexdigest()  # type: ignore[union-attr]
    return Kept(content, record) if whole else None  # type: ignore[arg-type]


def write(path: str, content: bytes, record: Dict[str, Any]) -> Kept:
    """Keep an engine, its record last: without that it does not count. Returns it as `read` will."""
    record = dict(record, engine_sha256=hashlib.sha256(content).hexdigest(), engine_bytes=len(content))
    write_bytes(path, content)
    write_bytes(path + ".json", encode(record))
    return Kept(content, record)


def discard(path: str) -> None:
    """Delete an engine and its record, if they are there, and what a writer left that was killed: an agent runs one launch at a time."""
    for name in (path + ".json", path, *glob.glob(glob.escape(path) + ".*.tmp")):
        with contextlib.suppress(OSError):
            os.unlink(name)


def read_bytes(path: str) -> bytes:
    """Return a file's content; raises OSError."""
    with open(path, "rb") as file:
        return file.read()


def write_bytes(path: str, content: bytes) -> None:
    """Write a file under another name, then rename it into place; raises OSError and leaves nothing."""
    temporary = "{}.{}.tmp".format(path, os.getpid())
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
