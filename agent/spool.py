"""A launch's spool: events.jsonl, appended by its supervisor, followed from any point, over any number of connections."""

import json
import os
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from agent.cache import FULL, Cache, boot_id, is_held, read_object, wait_until_free
from agent.schema import PROTOCOL, FaultError

POLL_S = (0.01, 0.02, 0.05, 0.1)
RESERVE_BYTES = 128 << 10


class Spool:
    """The writing end, in a launch's `folder`. While `held`, events stay in memory, so that nothing is written in a measuring window.

    A reserve is kept on the disk: when it is full, `error` says so, and the last words of the launch still fit.
    """

    def __init__(self, folder: str) -> None:
        self.error: Optional[OSError] = None
        self._reserve = _allocate(os.path.join(folder, "reserve"))
        self._file = os.open(os.path.join(folder, "events.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._waiting = bytearray()
        self._held = False
        self._seq = 0

    def write(self, kind: str, data: Dict[str, Any]) -> None:
        """Append one event, stamped with the next number and the monotonic clock; raises OSError if not even the reserve is left."""
        event = {"v": PROTOCOL, "seq": self._seq, "t": time.monotonic(), "type": kind, "data": data}
        self._seq += 1
        self._waiting += json.dumps(event, allow_nan=False).encode("ascii") + b"\n"
        if not self._held:
            self._flush()

    def hold(self, held: bool) -> None:
        """Keep events in memory from now on, or write what has been kept."""
        self._held = held
        if not held:
            self._flush()

    def close(self) -> None:
        """Write what is left and make it last."""
        self.hold(False)
        os.fsync(self._file)
        os.close(self._file)

    def _flush(self) -> None:
        """Write all that waits, over as many calls as it takes; what a full disk refused goes on from there."""
        while self._waiting:
            try:
                del self._waiting[: os.write(self._file, self._waiting)]
            except OSError as error:
                if self.error is not None:
                    raise
                self.error = error
                os.close(self._reserve)


def _allocate(path: str) -> int:
    """A descriptor of a file without a name, whose room is given back when it is closed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    try:
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
    except OSError as error:
        if error.errno in FULL:
            os.close(descriptor)
            raise  # otherwise the file system cannot reserve, and we do without
    return descriptor


def follow(cache: Cache, launch: str, start: int) -> Iterator[bytes]:
    """Yield the spool's lines from event `start` on, until its end; a supervisor that is gone ends it with a line of type `lost`.

    In a measuring window it sleeps on the supervisor's quiet lock: the device does nothing for us then. The end comes from any `start`,
    and only once the supervisor has made the spool last and is gone. Raises FaultError `protocol` for a launch that is not here.
    """
    if not os.path.exists(cache.launch(launch)):
        raise FaultError("protocol", "launch {} is not on this device".format(launch), "it is measured again", "follow")
    return _follow(cache, launch, start)


def _follow(cache: Cache, launch: str, start: int) -> Iterator[bytes]:
    alive, path = cache.launch(launch, "alive.lock"), cache.launch(launch, "events.jsonl")
    offset, idle = 0, 0
    while True:
        running = is_held(alive)  # looked at before the file, so that a last line is not missed
        lines, offset = _read_lines(path, offset)
        for line in lines:
            kind, seq = _kind_and_number(line)
            ended = kind == "end"
            if ended:
                wait_until_free(alive)
            if ended or seq >= start:
                yield line
            if ended:
                return
        if not running:
            yield _lost(cache, launch)
            return
        idle = 0 if lines else idle + 1
        time.sleep(POLL_S[min(idle, len(POLL_S) - 1)])
        wait_until_free(cache.launch(launch, "quiet.lock"))


def _read_lines(path: str, offset: int) -> Tuple[List[bytes], int]:
    """The whole lines after `offset`, and the offset behind them; a half-written line waits."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            text = file.read()
    except OSError:
        return [], offset
    lines = text.split(b"\n")  # a carriage return, which garbage may have, ends no line
    return [line + b"\n" for line in lines[:-1]], offset + len(text) - len(lines[-1])


def _kind_and_number(line: bytes) -> Tuple[str, int]:
    """An event's type and number; nothing and -1 for a line that is none, as after a disk's fault: its number is missed then."""
    try:
        event = json.loads(line.decode("ascii"))
        kind, seq = event["type"], event["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", -1
    return (kind, seq) if isinstance(kind, str) and isinstance(seq, int) else ("", -1)


def _lost(cache: Cache, launch: str) -> bytes:
    written = read_object(cache.launch(launch, "supervisor.json"))
    rebooted = bool(written) and written.get("boot_id") != boot_id()
    event = {"v": PROTOCOL, "seq": -1, "t": time.monotonic(), "type": "lost", "data": {"code": "rebooted" if rebooted else "crash"}}
    return json.dumps(event).encode("ascii") + b"\n"
