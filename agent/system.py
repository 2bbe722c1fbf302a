"""A system's files and programs below one root folder: what they say is bounded in size and time, and cleaned before anybody sees it."""

import contextlib
import glob
import grp
import os
import pwd
import signal
import time
from typing import IO, Any, List, Mapping, Optional, Tuple

MAX_TEXT_BYTES = 1 << 16
MAX_CHARACTERS = 200
MAX_ENTRIES = 256
PROGRAM_TIMEOUT_S = 5.0
KILLED_WITHIN_S = 2.0
# Where programs are beside the PATH: root's own, which the PATH of a session over SSH lacks, and those of vendors.
PROGRAM_FOLDERS = ("usr/local/bin", "usr/bin", "bin", "usr/local/sbin", "usr/sbin", "sbin", "usr/src/tensorrt/bin", "opt/vc/bin")


class System:
    """The system below `root`; with `programs` off it starts none and finds none. Names are paths relative to the root."""

    def __init__(self, root: str = "/", programs: bool = True) -> None:
        self.root = root
        self.programs = programs

    def path(self, name: str) -> str:
        """Return where a file of that system is."""
        return os.path.join(self.root, name)

    def content(self, name: str, limit: int = MAX_TEXT_BYTES) -> bytes:
        """Return the first `limit` bytes of a file, none where it cannot be read; never waits, as a pipe would have it."""
        try:
            with open(self.path(name), "rb", opener=_without_waiting) as file:
                return file.read(limit) or b""
        except (OSError, ValueError):
            return b""

    def text(self, name: str) -> str:
        """Return a file's text, not yet cleaned."""
        return self.content(name).decode("utf-8", "replace")

    def line(self, name: str) -> str:
        """Return a file's first line, up to its first NUL, cleaned."""
        return clean(self.text(name).split("\0")[0].split("\n")[0])

    def items(self, name: str) -> List[str]:
        """Return the strings of a file in which NUL ends each, as in a device tree; cleaned."""
        return [clean(item) for item in self.text(name).split("\0") if item.strip()][:MAX_ENTRIES]

    def number(self, name: str) -> Optional[float]:
        """Return the number that a file holds, None where it holds none."""
        try:
            value = float(self.line(name))
        except ValueError:
            return None
        return value if abs(value) < float("inf") else None

    def names(self, pattern: str) -> List[str]:
        """Return the names that match a pattern of the shell, sorted, at most MAX_ENTRIES."""
        found = sorted(glob.glob(os.path.join(glob.escape(self.root), pattern)))[:MAX_ENTRIES]
        return [os.path.relpath(path, self.root) for path in found]

    def exists(self, name: str) -> bool:
        """Tell whether there is such a file or folder."""
        return os.path.exists(self.path(name))

    def target(self, name: str) -> str:
        """Return the last part of what a link leads to, cleaned; empty where it is no link."""
        return clean(os.path.basename(os.path.realpath(self.path(name)))) if os.path.islink(self.path(name)) else ""

    def refusal(self, name: str, write: bool = False) -> str:
        """Return why this user may not read (and write) a file, in one line; empty if they may."""
        path = self.path(name)
        try:
            status = os.stat(path)
        except OSError as error:
            return clean("/{}: {}".format(name, error.strerror))
        if os.access(path, os.R_OK | (os.W_OK if write else 0)):
            return ""
        owner = "mode {:04o}, group {}".format(status.st_mode & 0o7777, group_name(status.st_gid))
        return clean("{} may not {} /{} ({})".format(user_name(), "open" if write else "read", name, owner))

    def program(self, name: str) -> str:
        """Return the path of a program, empty where there is none."""
        if not self.programs:
            return ""
        paths = (os.path.join(folder, name) for folder in self.program_folders())
        return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), "")

    def program_folders(self) -> List[str]:
        """Return the folders that programs are looked for in: those of the PATH only where the root is the system's own."""
        on_path = os.environ.get("PATH", "").split(os.pathsep) if self.root == "/" else []
        return [folder for folder in on_path if os.path.isabs(folder)] + [self.path(folder) for folder in PROGRAM_FOLDERS]

    def ask(self, name: str, *arguments: str) -> str:
        """Return what a program prints on both its streams, cleaned but for line ends; empty where it is missing or takes too long."""
        path = self.program(name)
        return output_of([path, *arguments]) if path else ""


def output_of(argv: List[str], timeout_s: float = PROGRAM_TIMEOUT_S) -> str:
    """Return at most MAX_TEXT_BYTES of what a program prints on both its streams, empty if it cannot be started or is not done in time."""
    try:
        content, _ = run(argv, timeout_s, {**os.environb, b"LC_ALL": b"C"}, errors=True)
    except (OSError, ValueError):
        return ""
    return "\n".join(clean(line) for line in content.decode("utf-8", "replace").split("\n"))


def run(argv: List[str], timeout_s: float, environ: Mapping[Any, bytes], errors: bool) -> Tuple[bytes, Optional[int]]:
    """Return at most MAX_TEXT_BYTES of what a program prints, with `errors` on both its streams, and its status.

    Nothing and None for one that is not done in time. It is killed then, with all that it started; one that is stuck in a driver, where
    no signal reaches it, is left alone. Raises OSError and ValueError if it cannot be started.
    """
    import subprocess

    process = subprocess.Popen(
        argv,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    with process.stdout:
        try:
            content = _read_until(process.stdout, time.monotonic() + timeout_s)
        finally:
            _end(process)
    try:
        status = process.wait(KILLED_WITHIN_S)
    except subprocess.TimeoutExpired:
        return b"", None
    return (b"", None) if content is None else (content, status)


def _read_until(stream: IO[bytes], end_s: float) -> Optional[bytes]:
    """What comes from `stream` until it ends or has given MAX_TEXT_BYTES; None if that takes too long."""
    import select

    content = b""
    while len(content) < MAX_TEXT_BYTES:
        ready, _, _ = select.select([stream], [], [], max(0.0, end_s - time.monotonic()))
        if not ready:
            return None
        chunk = os.read(stream.fileno(), MAX_TEXT_BYTES - len(content))
        if not chunk:
            break
        content += chunk
    return content


def _end(process: Any) -> None:
    """The program and what it started: what has not ended by itself is killed."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


def clean(text: str) -> str:
    """Return at most MAX_CHARACTERS of a text in one line without what cannot be shown; white space is collapsed."""
    shown = "".join(character for character in text[: 4 * MAX_CHARACTERS].replace("\t", " ") if character.isprintable())
    return " ".join(shown.split())[:MAX_CHARACTERS]


def user_name(user: Optional[int] = None) -> str:
    """Return the name of a user, without one of whom this runs as; the number where it has none."""
    number = os.geteuid() if user is None else user
    try:
        return clean(pwd.getpwuid(number).pw_name)
    except KeyError:
        return str(number)


def group_name(group: int) -> str:
    """Return a group's name, its number where it has none."""
    try:
        return clean(grp.getgrgid(group).gr_name)
    except KeyError:
        return str(group)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
