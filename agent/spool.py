"""A launch's spool: events.jsonl, appended by its supervisor, followed from any point, over any number of connections."""

import json
import os
import time
from typing import Any, Dict, Iterator, List, Optional

from agent.cache import Cache, Lock, boot_id, is_held, read_json
from agent.schema import PROTOCOL, FaultError

POLL_S = (0.01, 0.02, 0.05, 0.1)


class Spool:
    """The writing end. While `held`, events stay in memory, so that nothing is written in a measuring window."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        self._waiting: List[bytes] = []
        self._held = False
        self._seq = 0

    def write(self, kind: str, data: Dict[str, Any]) -> None:
        """Append one event, stamped with the next number and the monotonic clock."""
        event = {"v": PROTOCOL, "seq": self._seq, "t": time.monotonic(), "type": kind, "data": data}
        self._seq += 1
        self._waiting.append(json.dumps(event, allow_nan=False).encode("ascii") + b"\n")
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
        os.fsync(self._file.fileno())
        self._file.close()

    def _flush(self) -> None:
        self._file.write(b"".join(self._waiting))
        self._waiting = []


def follow(cache: Cache, launch: str, start: int) -> Iterator[bytes]:
    """Yield the spool's lines from event `start` on, until its end; a supervisor that is gone ends it with a line of type `lost`.

    In a measuring window it sleeps on the supervisor's quiet lock: the device does nothing for us then.
    """
    path = cache.launch(launch, "events.jsonl")
    if not os.path.exists(cache.launch(launch)):
        raise FaultError("protocol", "launch {} is not on this device".format(launch), "it is measured again", "follow")
    return _follow(cache, launch, path, start)


def _follow(cache: Cache, launch: str, path: str, start: int) -> Iterator[bytes]:
    offset, idle = 0, 0
    while True:
        running = is_held(cache.launch(launch, "alive.lock"))  # looked at before the file, so that a last line is not missed
        lines, offset = _read_lines(path, offset)
        last = b""
        for line in lines:
            last = line
            if _field(line, "seq", -1) >= start:
                yield line
        if _field(last, "type", "") == "end":
            return
        if not lines and not running:
            yield _lost(cache, launch)
            return
        idle = 0 if lines else idle + 1
        _wait(cache, launch, idle)


def _wait(cache: Cache, launch: str, idle: int) -> None:
    time.sleep(POLL_S[min(idle, len(POLL_S) - 1)])
    quiet = cache.launch(launch, "quiet.lock")
    if os.path.exists(quiet):
        lock = Lock(quiet)
        lock.acquire(shared=True)
        lock.close()


def _read_lines(path: str, offset: int) -> Any:
    """The whole lines after `offset`, and the offset behind them; a half-written line waits."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            text = file.read()
    except OSError:
        return [], offset
    whole = text[: text.rfind(b"\n") + 1]
    return whole.splitlines(True), offset + len(whole)


def _field(line: bytes, name: str, default: Any) -> Any:
    try:
        return json.loads(line.decode("ascii"))[name]
    except (ValueError, KeyError, TypeError):
        return default


def _lost(cache: Cache, launch: str) -> bytes:
    written: Optional[Dict[str, Any]] = read_json(cache.launch(launch, "supervisor.json"))
    rebooted = written is not None and written.get("boot_id") != boot_id()
    event = {"v": PROTOCOL, "seq": -1, "t": time.monotonic(), "type": "lost", "data": {"code": "rebooted" if rebooted else "crash"}}
    return json.dumps(event).encode("ascii") + b"\n"
