"""The log as JSON lines: one object a line, with the ids of the run, device, cell and launch that it is about."""

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.context import LOG, ids
from controller.errors import FleetmarkError
from controller.redaction import REDACTOR

LEVELS = ("debug", "info", "warning", "error")
PARAMIKO = logging.getLogger("paramiko")


class LogFile(logging.Handler):
    """Appends every record to the file at `path`, made for its owner only; secrets are redacted.

    A line that cannot be written is lost and costs nothing else; `tell` hears of the first. Raises FleetmarkError if there is no file.
    """

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._path = path
        self._tell: Callable[[str], None] | None = tell
        self._cut = False
        try:  # not waiting for a pipe's reader, nor for room in it
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise FleetmarkError(f"cannot write the log {path}: {error.strerror}", next="give another --log-file") from error

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line."""
        try:
            self._write(json.dumps(REDACTOR.document(fields(record)), default=str).encode() + b"\n")
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a line of the log, the run goes on
            tell, self._tell = self._tell, None
            if tell is not None:
                tell(f"the log {self._path} is not complete: {getattr(error, 'strerror', None) or error}")

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            os.close(self._file)
            self._file = -1
        super().close()

    def _write(self, line: bytes) -> None:
        """Append a line in one piece, so that those of several processes do not mix; what a full disk cut off stays a line of its own."""
        line = b"\n" + line if self._cut else line
        written = os.write(self._file, line)
        self._cut = not line[:written].endswith(b"\n")
        if self._cut:
            raise OSError(0, "a line was cut off")


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Give a record as the object that its line is."""
    of_ssh, _, device = record.name.partition(".") if record.name.startswith(f"{PARAMIKO.name}.") else ("", "", "")
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": of_ssh or (f"{LOG.name}.{record.module}" if record.name == LOG.name else record.name),
        "message": record.getMessage(),
        "device": device,
        **ids(),
        **getattr(record, "fields", {}),
    }
    if record.exc_info:
        found["traceback"] = logging.Formatter().formatException(record.exc_info)
    return {key: value for key, value in found.items() if value != "" or key == "message"}


def set_level(level: str) -> None:
    """Log from one of LEVELS on; of SSH's own news only warnings, unless it is debug."""
    LOG.setLevel(level.upper())
    PARAMIKO.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def attach(handler: LogFile) -> None:
    """Have the log of fleetmark and of paramiko written by `handler` until the process ends, in place of an earlier one."""
    for logger in (LOG, PARAMIKO):
        for earlier in [one for one in logger.handlers if isinstance(one, LogFile)]:
            logger.removeHandler(earlier)
            earlier.close()
        logger.addHandler(handler)
    if LOG.level == logging.NOTSET:
        set_level("info")
