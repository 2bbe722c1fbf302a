"""A command running on a device, whatever carries it: bounded output, drained errors, a deadline, and nothing left once it is closed."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from agent.schema import Fault, FaultError
from controller import shellwords
from controller.timeouts import Timeouts

CHUNK_BYTES = 64 * 1024
PACKET_BYTES = 32 * 1024 - 64  # what paramiko puts into one packet to OpenSSH: the rest of a larger chunk is copied for each
BANNER_BYTES = 64 * 1024
STDERR_TAIL_BYTES = 64 * 1024
MAX_LINE_BYTES = 1024 * 1024
RECONNECT = "check the device's power and network, then: fleetmark run --resume"


class Source(Protocol):
    """What standard input is read from; an open binary file is one."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b"" at the end."""
        ...


class Streams(Protocol):
    """A started command as a transport gives it. Calls may block until `abort`, from another thread, makes them all return."""

    def receive(self, size: int) -> bytes:
        """Return some of standard output; b"" at its end."""
        ...

    def receive_stderr(self, size: int) -> bytes:
        """Return some of standard error; b"" at its end."""
        ...

    def send(self, data: bytes) -> None:
        """Write all of `data` to standard input; OSError once nobody reads it."""
        ...

    def end_input(self) -> None:
        """End standard input."""
        ...

    def exit_status(self) -> int | None:
        """Wait for the end and return the exit status, None where none will come."""
        ...

    def is_lost(self) -> bool:
        """Whether the output ended only because the link did."""
        ...

    def abort(self, group: int) -> None:
        """Kill the command (by its process group on the device, 0 if not known)."""
        ...

    def close(self) -> None:
        """Give back what the command held on this side."""
        ...


class Output:
    """A command's standard output: bytes by `read`, lines by iteration. Each raises FaultError where the output is cut short."""

    def __init__(self, receive: Callable[[int], bytes], what: str) -> None:
        self._receive = receive
        self._what = what
        self._buffer: bytearray = bytearray()

    def read(self, size: int) -> bytes:
        """At most `size` bytes, as soon as there are any; b"" at the end."""
        return self._take(size) if self._buffer else self._receive(size)

    def read_all(self, limit: int) -> bytes:
        """Everything to the end; FaultError `protocol` for more than `limit` bytes."""
        whole = bytearray()
        while data := self.read(CHUNK_BYTES):
            whole += data
            if len(whole) > limit:
                raise FaultError("protocol", f"{self._what} printed more than {limit} bytes")
        return bytes(whole)

    def readline(self, limit: int = MAX_LINE_BYTES) -> bytes:
        """The next line with its newline, which the last may lack; b"" at the end; FaultError `protocol` for more than `limit` bytes."""
        searched = 0
        while not (end := self._buffer.find(b"\n", searched) + 1):
            searched = len(self._buffer)
            if searched >= limit:
                break
            if not (data := self._receive(CHUNK_BYTES)):
                return self._take(searched)
            self._buffer += data
        if not 0 < end <= limit:
            raise FaultError("protocol", f"{self._what} printed a line of more than {limit} bytes")
        return self._take(end)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def skip_banner(self) -> int:
        """Drop what the login shell printed before the command began; return the command's process group (0: not known)."""
        seen, last = 0, b""
        while seen <= BANNER_BYTES and (line := self.readline(BANNER_BYTES)):
            if (group := shellwords.process_group(line)) is not None:
                return group
            seen, last = seen + len(line), line if line.strip() else last
        message = f"{self._what} did not begin; its login shell printed {seen} bytes, the last line {_one_line(last)}"
        raise FaultError("protocol", message, "give the device's user an ordinary login shell")

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class Process:
    """A running command; `what` names the device and the command in errors.

    Leaving its `with` block before `wait` kills the command. Raises FaultError `link_lost`, `timeout` (the deadline, `timeout_s` after
    the start, has passed) or `protocol`, also while it is made: that waits for the command to begin.
    """

    def __init__(self, streams: Streams, what: str, stdin: bytes | Source | None, timeout_s: float | None, timeouts: Timeouts) -> None:
        self.stdout = Output(self._receive, what)
        self._streams = streams
        self._what = what
        self._timeouts = timeouts
        self._tail = b""
        self._group = 0
        self._status: int | None = None
        self._ended = False
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._input_error: Exception | None = None
        source = io.BytesIO(stdin or b"") if stdin is None or isinstance(stdin, bytes) else stdin
        self._threads = [_started(self._drain), _started(self._feed, source)]
        self._watchdog: threading.Timer | None = None
        started_s = time.monotonic()
        self._watch(timeouts.begin_s if timeout_s is None else min(timeouts.begin_s, timeout_s), "begin")
        try:
            self._group = self.stdout.skip_banner()
            self._watch(None if timeout_s is None else started_s + timeout_s - time.monotonic(), "end")
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit status, 128 + N after signal N; drops what is left of standard output. `timeout_s` from now replaces the deadline."""
        if self._status is None:
            if timeout_s is not None:
                self._watch(timeout_s, "end")
            while self.stdout.read(CHUNK_BYTES):
                pass
            status = self._streams.exit_status()
            if status is None or self._fault or self._input_error:
                raise self._why()
            self._join()
            self._status = status
        return self._status

    def expect(self, what: str, timeout_s: float | None) -> None:
        """Replace the deadline: the command is to do `what` within `timeout_s` from now, or takes as long as it takes."""
        self._watch(timeout_s, what)

    def stderr_tail(self) -> str:
        """The end of standard error so far, at most STDERR_TAIL_BYTES of it."""
        return self._tail.decode("utf-8", "replace")

    def give_up(self) -> None:
        """Kill the command, from another thread; whoever reads its output hears `link_lost`."""
        self._fault = Fault("link_lost", "", f"{self._what}: it was given up", RECONNECT)
        self._abort()

    def close(self) -> None:
        """Kill the command if it still runs, and end every thread."""
        if self._status is None:
            self._abort()
        self._watch(None, "end")
        self._join()
        self._streams.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _receive(self, size: int) -> bytes:
        data = self._streams.receive(size)
        if not data and (self._fault or self._input_error or self._streams.is_lost()):
            raise self._why()
        return data

    def _why(self) -> Exception:
        """What cut the command short."""
        if self._input_error:
            return self._input_error
        if self._fault:
            return FaultError(self._fault.code, self._fault.message, self._fault.next)
        return FaultError("link_lost", f"{self._what}: the link was lost", RECONNECT)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(self._timeouts.close_s)

    def _drain(self) -> None:
        while data := self._streams.receive_stderr(CHUNK_BYTES):
            self._tail = (self._tail + data)[-STDERR_TAIL_BYTES:]

    def _feed(self, source: Source) -> None:
        try:
            while data := source.read(PACKET_BYTES):
                if not self._send(data):
                    break
        except Exception as error:  # noqa: BLE001 - a source fails in its own ways; wait() raises it again
            self._input_error = error
            self._abort()
        self._streams.end_input()

    def _send(self, data: bytes) -> bool:
        try:
            self._streams.send(data)
        except OSError:  # the command stopped reading; its exit status tells why
            return False
        return True

    def _watch(self, timeout_s: float | None, what: str) -> None:
        """Replace the deadline by one in `timeout_s`, or by none; `what` ought to happen before it."""
        if self._watchdog:
            self._watchdog.cancel()
            self._watchdog.join(self._timeouts.close_s)
        self._watchdog = None
        if timeout_s is not None:
            self._watchdog = threading.Timer(timeout_s, self._expire, [what, timeout_s])
            self._watchdog.daemon = True
            self._watchdog.start()

    def _expire(self, what: str, timeout_s: float) -> None:
        message = f"{self._what} did not {what} within {timeout_s:.1f} s"
        self._fault = Fault("timeout", "", message, "look at what keeps the device busy")
        self._abort()

    def _abort(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, True
        if not ended:
            self._streams.abort(self._group)


def _started(run: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=run, args=arguments, daemon=True)
    thread.start()
    return thread


def _one_line(text: bytes) -> str:
    return ascii(" ".join(text.decode("utf-8", "replace").split())[:200])
