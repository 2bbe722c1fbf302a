"""What every transport does: run commands on a device and move files there, over nothing but standard streams.

No SFTP: a login shell that prints a banner breaks sftp-server, not us.
"""

import io
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from agent.schema import FaultError
from controller import shellwords
from controller.process import Process, Source, Streams
from controller.timeouts import Timeouts

SLOWEST_BYTES_PER_S = 32 * 1024
MAX_STDOUT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended: all of its standard output, the end of its standard error, its exit status."""

    stdout: bytes
    stderr_tail: str
    status: int


class Transport(ABC):
    """A way to a device called `name` at `address`."""

    def __init__(self, name: str, address: str, timeouts: Timeouts) -> None:
        self.name = name
        self.address = address
        self.timeouts = timeouts
        self._home = ""

    @property
    def description(self) -> str:
        """The device as errors call it."""
        return f"{self.name} ({self.address})"

    def exec(self, argv: Sequence[str], *, stdin: bytes | Source | None = None, timeout_s: float | None, name: str = "") -> Process:
        """`argv` running on the device, word for word, to be used in a `with` block; returns once it has begun.

        `stdin` is sent by a thread of its own; errors call the command by its `name`, or its first words. Raises FaultError
        `link_lost`, `timeout` or `protocol`, here and when it is used.
        """
        what = f"{self.description}: {name or ' '.join(shlex.join(argv).split())[:80]}"
        try:
            line = shellwords.wrap(argv)
        except ValueError as error:
            raise FaultError("protocol", f"{what}: {error}", "look at what the device or its inventory entry calls so") from error
        return Process(self._start(line), what, stdin, timeout_s, self.timeouts)

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Source | None = None, timeout_s: float | None, max_bytes: int = MAX_STDOUT_BYTES
    ) -> Completed:
        """`argv` run to its end; FaultError `protocol` if it prints more than `max_bytes`, else as `exec`."""
        with self.exec(argv, stdin=stdin, timeout_s=timeout_s) as process:
            stdout = process.stdout.read_all(max_bytes)
            status = process.wait()
            return Completed(stdout, process.stderr_tail(), status)

    def put(self, local: Path | bytes, remote: str, *, offset: int = 0, progress: Callable[[int], None] | None = None) -> None:
        """Write `local` to the file `remote`, or append what follows `offset` where the device has that much of it already.

        `progress`, called in another thread, gets the bytes that are on their way, `offset` included. Raises FaultError `disk_full`,
        `protocol` (the file cannot be written) or `link_lost`; what arrived before stays for a later `offset`. Nothing is verified.
        """
        with io.BytesIO(local) if isinstance(local, bytes) else local.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset)
            script = f'umask 077; exec cat {">>" if offset else ">"} "$1"'
            self._transfer(script, remote, size - offset, 0, _Counted(file, progress) if progress else file)

    def get(self, remote: str, *, max_bytes: int) -> bytes:
        """The content of the file `remote`; FaultError `protocol` if it cannot be read or is larger than `max_bytes`."""
        return self._transfer('exec cat < "$1"', remote, max_bytes, max_bytes, None)

    def home(self) -> str:
        """The home folder on the device, an absolute path."""
        if not self._home:
            done = self.run(["/bin/sh", "-c", 'printf %s "$HOME"'], timeout_s=self.timeouts.answer_s, max_bytes=4096)
            self._home = os.fsdecode(done.stdout)
            if not self._home.startswith("/"):
                raise FaultError("protocol", f"{self.description} has no home folder: HOME is {self._home!a}", "set the user's home folder")
        return self._home

    @abstractmethod
    def close(self) -> None:
        """Close the link and all that runs over it."""

    @abstractmethod
    def _start(self, line: str) -> Streams: ...

    def _transfer(self, script: str, remote: str, size: int, max_bytes: int, stdin: Source | None) -> bytes:
        timeout_s = self.timeouts.transfer_s + size / SLOWEST_BYTES_PER_S
        argv = ["/bin/sh", "-c", f"LC_ALL=C PATH=$PATH:/usr/bin:/bin; export LC_ALL PATH; {script}", "sh", remote]
        done = self.run(argv, stdin=stdin, timeout_s=timeout_s, max_bytes=max_bytes)
        if done.status:
            why = (done.stderr_tail.strip().splitlines() or [f"cat ended with {done.status}"])[-1]
            full = "No space left" in why or "quota exceeded" in why
            next_step = "free some space on the device" if full else "check the path and its permissions on the device"
            raise FaultError("disk_full" if full else "protocol", f"{self.description}: {remote}: {why[:200]!a}", next_step, "transfer")
        return done.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Counted:
    """A file that tells how far it has been read."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None]) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._progress(self._file.tell())
        return data
