"""This machine as a device."""

import os
import select
import signal
import subprocess
from contextlib import suppress
from typing import IO, cast

from controller.base_transport import Transport
from controller.timeouts import DEFAULT, Timeouts


class LocalTransport(Transport):
    """This machine."""

    def __init__(self, name: str, timeouts: Timeouts = DEFAULT) -> None:
        super().__init__(name, "this machine", timeouts)

    def close(self) -> None:
        """Nothing is held."""

    def _start(self, line: str) -> "LocalStreams":
        return LocalStreams(line, self.timeouts.close_s)


class LocalStreams:
    """`line` run by /bin/sh in a session of its own, out of reach of the terminal's Ctrl-C (controller.process.Streams)."""

    def __init__(self, line: str, close_s: float) -> None:
        self._close_s = close_s
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", line],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._stdin, self._stdout, self._stderr = (_pipe(end) for end in (self._shell.stdin, self._shell.stdout, self._shell.stderr))
        self._woken, self._waker = os.pipe()

    def receive(self, size: int) -> bytes:
        """Return some of standard output; b"" at its end."""
        return self._read(self._stdout, size)

    def receive_stderr(self, size: int) -> bytes:
        """Return some of standard error; b"" at its end."""
        return self._read(self._stderr, size)

    def send(self, data: bytes) -> None:
        """Write all of `data` to standard input; OSError once nobody reads it."""
        left = memoryview(data)
        while left:
            if not self._is_ready(self._stdin, select.POLLOUT):
                raise BrokenPipeError("the command was ended")
            left = left[os.write(self._stdin.fileno(), left) :]

    def end_input(self) -> None:
        """End standard input."""
        self._stdin.close()

    def exit_status(self) -> int:
        """Wait for the end and return the exit status."""
        status = self._shell.wait()
        return status if status >= 0 else 128 - status

    def is_lost(self) -> bool:
        """There is no link to lose."""
        return False

    def abort(self, group: int) -> None:
        """Kill the session's process group, which `group` is too."""
        del group
        if self._shell.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._shell.pid, signal.SIGKILL)
        os.write(self._waker, b"!")

    def close(self) -> None:
        """Reap the shell and close the pipes."""
        self._shell.wait(self._close_s)
        for end in (self._stdin, self._stdout, self._stderr):
            end.close()
        os.close(self._woken)
        os.close(self._waker)

    def _read(self, pipe: IO[bytes], size: int) -> bytes:
        return os.read(pipe.fileno(), size) if self._is_ready(pipe, select.POLLIN) else b""

    def _is_ready(self, pipe: IO[bytes], event: int) -> bool:
        """Wait until `pipe` can be used; False once the command was aborted, for a descendant may hold the other end for ever."""
        poll = select.poll()
        poll.register(pipe, event)
        poll.register(self._woken, select.POLLIN)
        return self._woken not in dict(poll.poll())


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    pipe = cast("IO[bytes]", end)
    os.set_blocking(pipe.fileno(), False)
    return pipe
