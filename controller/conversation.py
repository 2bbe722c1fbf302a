"""The agent on a device as one process that answers one request after the other; it puts itself there if it is not."""

import io
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

from agent.schema import FaultError, SchemaError, decode, encode, load
from controller import answers, limits
from controller.context import LOG
from controller.deploy import Zipapp
from controller.process import RECONNECT, Source
from controller.transport import Transport

SILENCE = "set agent.python in inventory.yaml to a Python 3.6 or later on the device"

# Runs before the agent is there: makes its folder, takes the agent from standard input if it is not whole, and becomes it.
BOOTSTRAP = """
import hashlib, json, os, runpy, sys
root, name, sha256, size, idle = sys.argv[1:6]
python = list(sys.version_info[:3])
def tell(**answer):
    print(json.dumps(dict(answer, python=python)))
    sys.stdout.flush()
def is_whole(content):
    return hashlib.sha256(content).hexdigest() == sha256
def find(path):
    try:
        with open(path, "rb") as file:
            return is_whole(file.read())
    except FileNotFoundError:
        return False
def receive(left):
    content = b""
    while len(content) < left:
        more = os.read(0, left - len(content))
        if not more:
            sys.exit(1)
        content += more
    return content
os.umask(0o077)
try:
    root = os.path.abspath(os.path.expanduser(root))
    path = os.path.join(root, name)
    os.makedirs(root, mode=0o700, exist_ok=True)
    own, link = os.stat(root), os.lstat(root)
    if own.st_uid != os.geteuid() or link.st_uid not in (0, own.st_uid) or own.st_mode & 0o022:
        raise OSError(0, "somebody else can write to it")
    present = find(path)
    tell(root=root, present=present, error="")
    if not present:
        content = receive(int(size))
        part = "%s.%d.part" % (path, os.getpid())
        try:
            with open(part, "wb") as file:
                file.write(content)
            if is_whole(content):
                os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.unlink(part)
        present = find(path)
        tell(root=root, present=present, error="")
except OSError as error:
    tell(root=root, present=False, error="%s: %s" % (root, error.strerror))
    sys.exit(1)
if present:
    sys.argv[:] = [path, "serve", "--cache", root, "--idle", idle]
    runpy.run_path(path, run_name="__main__")
"""


class Beginning(NamedTuple):
    """What the bootstrap says: where the agent's folder is, whether the agent is whole in it, or what is wrong with the folder."""

    root: str
    present: bool
    error: str
    python: list[int]


class Conversation:
    """An agent that has begun to serve; `root` is its folder, `shipped_bytes` what had to be sent of it.

    Raises FaultError: `no_python`, `disk_full`, `env_missing`, `protocol`, and what `transport.exec` raises. After one the conversation
    is over and has to be closed.
    """

    def __init__(self, transport: Transport, name: str, python: str, cache_dir: str, zipapp: Zipapp) -> None:
        self._name = name
        self._timeouts = transport.timeouts
        self._outgoing = _Outgoing()
        self._is_asked, self._asked_s = True, time.monotonic()  # so that its answer may still come
        words = [cache_dir, zipapp.name, zipapp.sha256, str(len(zipapp.content)), f"{transport.timeouts.lease_s:g}"]
        self._process = transport.exec([python, "-I", "-c", BOOTSTRAP, *words], stdin=self._outgoing, timeout_s=None, name="the agent")
        try:
            beginning = self._beginning(python)
            self.shipped_bytes = 0 if beginning.present else len(zipapp.content)
            if not beginning.present:
                self._outgoing.put(zipapp.content)
                if not self._beginning(python).present:
                    raise self._fault("protocol", "the uploaded agent is not what was sent", "run again")
            self.root = beginning.root
            self._is_asked = False
            LOG.debug("%s: the agent serves, after %.4f s", self._name, time.monotonic() - self._asked_s)
        except BaseException:
            self.close()
            raise

    def _beginning(self, python: str) -> Beginning:
        self._process.expect("begin", self._timeouts.answer_s)
        line = self._process.stdout.readline(limits.MAX_EVENT_BYTES)
        if not line.endswith(b"\n"):
            self._refuse_silence(python)
        try:
            found: Beginning = load(Beginning, decode(line))
        except SchemaError as problem:
            raise self._no_python(python) from problem
        if tuple(found.python) < (3, 6):
            version = ".".join(map(str, found.python[:3]))
            raise self._fault("no_python", f"{python} is Python {version}, the agent needs 3.6", SILENCE)
        if found.error or not found.root.startswith("/"):
            error = found.error[: limits.MAX_TEXT_CHARACTERS] or "the agent's folder is no absolute path"
            raise self._fault("disk_full" if "No space" in error else "env_missing", error, "set agent.cache_dir in inventory.yaml")
        return found

    def _refuse_silence(self, python: str) -> None:
        """Python that ends before it has said anything."""
        status = self._process.wait(self._timeouts.answer_s)
        if status in (126, 127):
            why = answers.last_line(self._process.stderr_tail())
            raise self._fault("no_python", f"{python} cannot be run there: {why}", SILENCE)
        raise self._no_python(python)

    def _no_python(self, python: str) -> FaultError:
        why = answers.last_line(self._process.stderr_tail())
        return self._fault("no_python", f"{python} did not answer as Python 3 does: {why}", SILENCE)

    def ask(self, verb: str, request: object, *options: str, timeout_s: float | None) -> dict[str, Any]:
        """Give what the agent answers within `timeout_s`."""
        self.send(verb, request, *options)
        return self.answer(verb, timeout_s)

    def send(self, verb: str, request: object, *options: str, content: Source | None = None, size: int = 0) -> None:
        """Send a request, and after it `size` bytes of an open file."""
        self._is_asked, self._asked_s = True, time.monotonic()
        self._outgoing.put(encode({"verb": verb, "options": list(options), "request": request}) + b"\n")
        if content is not None:
            self._outgoing.put(content, size)

    def answer(self, verb: str, timeout_s: float | None) -> dict[str, Any]:
        """Give the answer to the request that was sent."""
        line = self.line(verb, timeout_s)
        self._is_asked = False
        taken_s = round(time.monotonic() - self._asked_s, 4)
        LOG.debug("%s: %s answered in %g s", self._name, verb, taken_s, extra={"fields": {"verb": verb, "duration_s": taken_s}})
        return answers.result(self._name, verb, line)

    def line(self, verb: str, timeout_s: float | None, limit: int = limits.MAX_ANSWER_BYTES) -> bytes:
        """Give the next line of what answers a request, with its newline, of at most `limit` bytes."""
        self._process.expect(f"answer {verb}", timeout_s)
        line = self._process.stdout.readline(limit)
        if not line.endswith(b"\n"):
            raise self._ended(verb)
        return line

    def read(self, size: int, timeout_s: float) -> bytes:
        """Give the `size` bytes that follow a line."""
        self._process.expect("send a file", timeout_s)
        whole = bytearray()
        while len(whole) < size:
            data = self._process.stdout.read(size - len(whole))
            if not data:
                raise self._ended("fetch")
            whole += data
        return bytes(whole)

    def _ended(self, verb: str) -> FaultError:
        """The agent's process is gone: killed, or after an idle while, which another connection mends; or by an error of its own."""
        status = self._process.wait(self._timeouts.answer_s)
        if status == 0 or status > 128:
            return self._fault("link_lost", f"its agent was ended before it answered {verb} (status {status})", RECONNECT)
        return self._fault("protocol", f"the agent's {verb} gave no answer: {answers.last_line(self._process.stderr_tail())}", "run again")

    def give_up(self) -> None:
        """Kill the agent's process there, from another thread; whoever waits for it hears `link_lost`."""
        self._process.give_up()

    def close(self) -> None:
        """End the agent's process there, and what it waits for here. It ends by itself where it has nothing to do, else it is killed."""
        self._outgoing.end()
        if not self._is_asked:
            with suppress(FaultError):
                self._process.wait(self._timeouts.close_s)
        self._process.close()

    def _fault(self, code: str, message: str, next_step: str) -> FaultError:
        return FaultError(code, f"{self._name}: {message}", next_step)


class _Outgoing:
    """Standard input that is put together while the command runs."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Source, int] | None] = SimpleQueue()
        self._current: tuple[Source, int] | None = None

    def put(self, content: bytes | Source, size: int = 0) -> None:
        """Send bytes, or the next `size` of a source, after what was put before; the source is left alone once they are read."""
        self._queue.put((io.BytesIO(content), len(content)) if isinstance(content, bytes) else (content, size))

    def end(self) -> None:
        """End the input after what was put before."""
        self._queue.put(None)

    def read(self, size: int, /) -> bytes:
        """Give what comes next, as soon as there is something; b"" at the end."""
        while (current := self._current or self._queue.get()) is not None:
            source, left = current
            data = source.read(min(size, left))
            if left and not data:
                raise FaultError("protocol", "a file became shorter while it was sent", "run again")
            left -= len(data)
            self._current = (source, left) if left else None
            if data:
                return data
        return b""
