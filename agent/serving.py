"""One process that answers a controller while the link lasts: JSON lines on standard input, answers on standard output.

A request is ``{"verb": ..., "options": [...], "request": {...}}``. Three verbs carry more than a line: ``put`` is followed by a file's
bytes, the answer to ``fetch`` too, and ``follow`` is answered by the lines of a launch's spool.
"""

import contextlib
import fcntl
import os
import select
import sys
import time
from typing import Any, Callable, Dict, List

from agent import blobs, spool
from agent.cache import CHUNK_BYTES, Cache, disk_fault
from agent.schema import PROTOCOL, FaultError, SchemaError, decode, encode, load

MAX_REQUEST_BYTES = 4 << 20
READ_BYTES = 1 << 18
PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031  # Linux's; Python has the name since 3.10

Answer = Callable[[str, List[str], Dict[str, Any]], Any]


class Input:
    """What comes on a descriptor: whole to the byte, so that a line may be followed by a file. It ends where nothing comes for `idle_s`.

    A link may be dead without either side being told: the device must not keep a process for it.
    """

    def __init__(self, descriptor: int, idle_s: float) -> None:
        self._descriptor = descriptor
        self._idle_s = idle_s
        self._buffer = b""
        _widen(descriptor)

    def readline(self) -> bytes:
        """Return the next line with its newline, or b"" at the end; one of over MAX_REQUEST_BYTES may come without it."""
        while b"\n" not in self._buffer and len(self._buffer) <= MAX_REQUEST_BYTES:
            more = self._receive()
            if not more:
                return b""
            self._buffer += more
        end = self._buffer.find(b"\n") + 1
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        return line or self._buffer

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, or b"" at the end."""
        found = self._buffer or self._receive()
        self._buffer = found[size:]
        return found[:size]

    def _receive(self) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], self._idle_s)
        return os.read(self._descriptor, READ_BYTES) if ready else b""


def _widen(descriptor: int) -> None:
    """Let a pipe hold as much as the kernel lets anybody have: sshd then writes and we read more at once, for half of the time."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, F_SETPIPE_SZ, PIPE_BYTES)


def serve(cache: Cache, idle_s: float, answer: Answer) -> int:
    """Answer requests until standard input ends, or none comes for `idle_s`; `answer` gives that of an ordinary verb.

    The exit status: 0, or 1 where what follows a refused request cannot be understood.
    """
    stdin = Input(0, idle_s)
    try:
        for line in iter(stdin.readline, b""):
            if len(line) > MAX_REQUEST_BYTES:
                tell(refusal("request", SchemaError("a request of over {} bytes".format(MAX_REQUEST_BYTES))))
                return 1
            if not _serve_one(cache, answer, line, stdin):
                return 1
    except BrokenPipeError:  # the link is gone; whoever follows next begins where this one stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def tell(answer: Any) -> None:
    """Write one answer."""
    sys.stdout.buffer.write(encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def refusal(verb: str, error: Exception) -> Dict[str, Any]:
    """Return the answer that an error amounts to."""
    if isinstance(error, FaultError):
        fault = error.fault
    elif isinstance(error, OSError):
        fault = disk_fault(error, error.filename or "the agent's folder").fault
    else:
        fault = FaultError("protocol", "the request is malformed: {}".format(ascii(str(error))[:300]), "run again", verb).fault
    return {"v": PROTOCOL, "fault": fault}


def _serve_one(cache: Cache, answer: Answer, line: bytes, stdin: Input) -> bool:
    """Whether the next request can be found: not where a file was refused whose bytes are still to come."""
    verb = "request"
    try:
        whole = load(Dict[str, Any], decode(line), "request")
        verb, request = load(str, whole.get("verb"), "verb"), load(Dict[str, Any], whole.get("request", {}), "request")
        if verb == "clock":  # without a look at the folder or the options, which would make the round trip longer
            tell({"v": PROTOCOL, "ok": {"monotonic_s": time.monotonic()}})
        elif verb == "follow":
            _follow(cache, request)
        elif verb == "put":
            tell({"v": PROTOCOL, "ok": _put(cache, request, stdin)})
        elif verb == "fetch":
            _fetch(cache, request)
        else:
            tell(answer(verb, load(List[str], whole.get("options", []), "options"), request))
    except BrokenPipeError:
        raise
    except (FaultError, OSError, ValueError) as error:
        tell(refusal(verb, error))
        return verb not in ("put", "request")
    return True


def _follow(cache: Cache, request: Dict[str, Any]) -> None:
    for line in spool.follow(cache, load(str, request.get("launch"), "launch"), load(int, request.get("from", 0), "from")):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


def _put(cache: Cache, request: Dict[str, Any], stdin: Input) -> Dict[str, Any]:
    cache.create()
    sha256, offset = load(str, request.get("sha256"), "sha256"), load(int, request.get("offset", 0), "offset")
    return blobs.receive(cache, sha256, offset, load(int, request.get("size_bytes"), "size_bytes"), stdin.read)


def _fetch(cache: Cache, request: Dict[str, Any]) -> None:
    """A launch's sample file: its size, then its bytes."""
    with blobs.open_sample(cache, load(str, request.get("launch"), "launch"), load(str, request.get("sha256"), "sha256")) as file:
        left = os.fstat(file.fileno()).st_size
        tell({"v": PROTOCOL, "ok": {"size_bytes": left}})
        while left:
            chunk = file.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise OSError("the file became shorter while it was read")
            sys.stdout.buffer.write(chunk)
            left -= len(chunk)
    sys.stdout.buffer.flush()
