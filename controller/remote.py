"""A typed client of the agent's verbs, over any transport. Whatever a device answers is validated here."""

import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from agent.cache import DEFAULT
from agent.description import Interpreter, Probe
from agent.schema import PROTOCOL, REASONS, Event, Fault, FaultError, LaunchSpec, SampleFile, SchemaError, decode, encode, load
from controller import limits
from controller.deploy import Zipapp, build_zipapp
from controller.transport import Transport

VERB_TIMEOUT_S = 60.0
INSTALL_TIMEOUT_S = 600.0
SILENCE = "set agent.python in inventory.yaml to a Python 3.6 or later on the device"

# Runs before the agent is there: makes its folder, moves a complete upload into place, tells whether the agent is whole.
BOOTSTRAP = """
import hashlib, json, os, sys
root, name, sha256 = sys.argv[1:4]
path = os.path.join(root, name)
answer = {"python": list(sys.version_info[:3]), "present": False, "error": ""}
os.umask(0o077)
try:
    os.makedirs(root, mode=0o700, exist_ok=True)
    for found in (path + ".part", path):
        if os.path.exists(found):
            with open(found, "rb") as file:
                whole = hashlib.sha256(file.read()).hexdigest() == sha256
            if whole:
                os.replace(found, path)
                answer["present"] = True
                break
            os.unlink(found)
except OSError as error:
    answer["error"] = "%s: %s" % (root, error.strerror)
print(json.dumps(answer))
"""


class BlobState(NamedTuple):
    """Whether a file is on the device, and how much of an unfinished upload."""

    present: bool
    partial_bytes: int
    corrupt: bool


class LeaseState(NamedTuple):
    """Who holds a host, empty for nobody, for how long still, and whether a launch runs there."""

    owner: str
    left_s: float
    running: bool


class ClockState(NamedTuple):
    """A device's monotonic time in seconds."""

    monotonic_s: float


class Garbage(NamedTuple):
    """What lies in the agent's folder by kind, in bytes, and who keeps it from being deleted: empty for nobody."""

    size_bytes: dict[str, int]
    busy: str


class Remote:
    """The agent on one device; `python` is the interpreter it runs under, `cache_dir` its folder there (~ is the user's home).

    `environ` are the environment variables that runtimes get there.
    """

    def __init__(
        self, transport: Transport, name: str, python: str = "python3", cache_dir: str = DEFAULT, environ: Mapping[str, str] | None = None
    ) -> None:
        self.transport = transport
        self.name = name
        self.python = python
        self.cache_dir = expand(cache_dir, transport)
        self.environ = dict(environ or {})
        self._zipapp: Zipapp = build_zipapp()

    def path(self, *parts: str) -> str:
        """Give a path below the agent's folder on the device."""
        return posixpath.join(self.cache_dir, *parts)

    def deploy(self) -> int:
        """Put the agent on the device, if it is not there; give the bytes shipped. Raises FaultError `no_python`, `disk_full`, ..."""
        if self._bootstrap():
            return 0
        self.transport.put(self._zipapp.content, self.path(self._zipapp.name + ".part"))
        if not self._bootstrap():
            raise self._fault("protocol", "the uploaded agent is not what was sent", "run again")
        return len(self._zipapp.content)

    def _bootstrap(self) -> bool:
        argv = [self.python, "-I", "-c", BOOTSTRAP, self.cache_dir, self._zipapp.name, self._zipapp.sha256]
        done = self.transport.run(argv, timeout_s=VERB_TIMEOUT_S)
        if done.status in (126, 127):
            raise self._fault("no_python", f"{self.python} cannot be run there: {_last_line(done.stderr_tail)}", SILENCE)
        try:
            answer: Any = decode(done.stdout.splitlines()[-1])
            version, present = tuple(load(list[int], answer["python"])), answer["present"] is True
            error = load(str, answer["error"])[: limits.MAX_TEXT_CHARACTERS]
        except (SchemaError, LookupError, TypeError) as problem:
            message = f"{self.python} did not answer as Python 3 does: {_last_line(done.stderr_tail)}"
            raise self._fault("no_python", message, SILENCE) from problem
        if version < (3, 6):
            raise self._fault("no_python", f"{self.python} is Python {'.'.join(map(str, version))}, the agent needs 3.6", SILENCE)
        if error:
            raise self._fault("disk_full" if "No space" in error else "env_missing", error, "set agent.cache_dir in inventory.yaml")
        return present

    def probe(self, environments: Mapping[str, str] | None = None) -> Probe:
        """Give what the device says it is; with `environments` (by backend) it tries the runtimes too, which takes seconds.

        Raises FaultError `protocol` where a text or list of it is longer than any device's.
        """
        request = {"environments": dict(environments), "environ": self.environ} if environments is not None else {}
        found = self._call("probe", request, *([] if environments is not None else ["--quick"]), timeout_s=INSTALL_TIMEOUT_S)
        try:
            _check_sizes(found)
        except SchemaError as error:
            raise self._fault("protocol", f"the agent's probe has {error}", "run again") from error
        return self._load(Probe, found)

    @cached_property
    def interpreters(self) -> Sequence[Interpreter]:
        """The Pythons of the device, asked for once: a full probe tries every runtime."""
        return tuple(self.probe({}).interpreters)

    def lease(self) -> LeaseState:
        """Give who holds the host."""
        found: LeaseState = self._load(LeaseState, self._call("lease", {"action": "show"}))
        return found._replace(owner=found.owner[: limits.MAX_TEXT_CHARACTERS])

    def acquire(self, owner: str, ttl_s: float) -> None:
        """Take or renew the host's lease; raises FaultError `busy` naming the holder."""
        self._call("lease", {"action": "acquire", "owner": owner, "ttl_s": ttl_s})

    def release(self, owner: str) -> None:
        """Give the lease back."""
        self._call("lease", {"action": "release", "owner": owner})

    def upload(self, files: Mapping[str, Path], progress: Callable[[int], None] | None = None) -> int:
        """Put files on the device by their sha256, from where an earlier upload stopped; give the bytes shipped."""
        missing = {sha256: state for sha256, state in self._verify(list(files)).items() if not state.present}
        shipped = 0
        for sha256, state in missing.items():
            path, offset = files[sha256], state.partial_bytes
            offset = offset if 0 <= offset < path.stat().st_size else 0
            self._put(path, sha256, offset, progress)
            shipped += path.stat().st_size - offset
        broken = [sha256 for sha256, state in self._verify(list(missing)).items() if not state.present] if missing else []
        if broken:
            self._call("verify", {"discard": broken})
            raise self._fault("protocol", f"{files[broken[0]].name} arrived damaged and was deleted there", "run again")
        return shipped

    def _put(self, path: Path, sha256: str, offset: int, progress: Callable[[int], None] | None) -> None:
        """Upload a file, or what follows `offset`; what fills the disk does not stay there."""
        try:
            self.transport.put(path, self.path("blobs", sha256 + ".part"), offset=offset, progress=progress)
        except FaultError as error:
            if error.fault.code == "disk_full":
                self._call("verify", {"discard": [sha256]})
            raise

    def _verify(self, sha256s: list[str]) -> dict[str, BlobState]:
        answer = self._call("verify", {"blobs": sha256s}, timeout_s=INSTALL_TIMEOUT_S)
        states: dict[str, BlobState] = self._load(dict[str, BlobState], answer.get("blobs"))
        if set(states) != set(sha256s):
            raise self._fault("protocol", "verify answered for other files than those asked for", "run again")
        return states

    def install(self, environment: str, archive_sha256: str) -> None:
        """Have an uploaded archive unpacked as an environment."""
        self._call("install", {"environment": environment, "archive": archive_sha256}, timeout_s=INSTALL_TIMEOUT_S)

    def start(self, spec: LaunchSpec) -> bool:
        """Start a launch that goes on without us; False if it had been started before."""
        return bool(self._call("start", spec).get("started"))

    def follow(self, launch: str, start: int = 0) -> Iterator[Event]:
        """Give a launch's events from number `start` on, until it ends; raises FaultError `link_lost` if the link does."""
        request = encode({"launch": launch, "from": start})
        with self.transport.exec(self._argv("follow"), stdin=request, timeout_s=None) as process:
            left = limits.MAX_SPOOL_BYTES
            while True:
                line: bytes = process.stdout.readline(limits.MAX_EVENT_BYTES)
                if not line.endswith(b"\n"):
                    raise self._fault("link_lost", f"the link broke while following launch {launch}", "fleetmark run --resume")
                left -= len(line)
                if left < 0:
                    raise self._fault("protocol", f"launch {launch} tells more than a launch has to tell", "run again")
                event = self._event(line)
                yield event
                if event.type in ("end", "lost"):
                    process.wait(VERB_TIMEOUT_S)
                    return

    def _event(self, line: bytes) -> Event:
        answer = self._decode(line)
        if "fault" in answer:
            raise self._remote_fault(answer["fault"])
        event: Event = self._load(Event, answer)
        if event.v != PROTOCOL:
            raise self._fault("protocol", f"the agent speaks version {event.v} of the protocol, we {PROTOCOL}", "run again")
        return event

    def fetch(self, launch: str, file: SampleFile) -> bytes:
        """Give the content of one of a launch's sample files, not yet compared with its sha256."""
        if len(file.sha256) != 64 or not set(file.sha256) <= set("0123456789abcdef"):
            raise self._fault("protocol", "a sample file's name is not a sha256", "run again")
        return self.transport.get(self.path("launches", launch, "files", file.sha256), max_bytes=limits.MAX_FILE_BYTES)

    def cancel(self, launch: str) -> None:
        """End a running launch."""
        self._call("cancel", {"launch": launch})

    def forget(self, launches: list[str]) -> None:
        """Delete launches that have been stored here."""
        self._call("gc", {"launches": launches})

    def garbage(self) -> Garbage:
        """Give what `empty` would delete."""
        found: Garbage = self._load(Garbage, self._call("gc", {}, "--everything", timeout_s=INSTALL_TIMEOUT_S))
        return found._replace(busy=found.busy[: limits.MAX_TEXT_CHARACTERS])

    def empty(self) -> int:
        """Delete all that is in the agent's folder, the agent last; give the bytes freed. Raises FaultError `busy` naming the holder."""
        freed = self._call("gc", {}, "--everything", "--yes", timeout_s=INSTALL_TIMEOUT_S)
        return self._load(int, freed.get("freed_bytes"))

    def clock(self, times: int) -> Iterator[float]:
        """Give the device's monotonic time in seconds so many times, each asked for when it is wanted."""
        questions = _Questions()
        with self.transport.exec(self._argv("clock"), stdin=questions, timeout_s=VERB_TIMEOUT_S) as process:
            try:
                for _ in range(times):
                    questions.put(b"\n")
                    answer = self._decode(process.stdout.readline(limits.MAX_EVENT_BYTES)).get("ok")
                    yield self._load(ClockState, answer).monotonic_s
            finally:
                questions.put(b"")
            process.wait()

    def _argv(self, verb: str, *options: str) -> list[str]:
        return [self.python, "-I", self.path(self._zipapp.name), verb, "--cache", self.cache_dir, *options]

    def _call(self, verb: str, request: object, *options: str, timeout_s: float = VERB_TIMEOUT_S) -> dict[str, Any]:
        done = self.transport.run(self._argv(verb, *options), stdin=encode(request), timeout_s=timeout_s)
        if not done.stdout.strip():
            raise self._fault("protocol", f"the agent's {verb} gave no answer: {_last_line(done.stderr_tail)}", "run again")
        answer = self._decode(done.stdout)
        if "fault" in answer:
            raise self._remote_fault(answer["fault"])
        found = answer.get("ok")
        if answer.get("v") != PROTOCOL or not isinstance(found, dict):
            raise self._fault("protocol", f"the agent's {verb} answered in an unknown way", "run again")
        return found  # pyright: ignore[reportUnknownVariableType] - JSON

    def _decode(self, text: bytes) -> dict[str, Any]:
        try:
            value: Any = decode(text)
            _check_storable(value)
        except SchemaError as error:
            raise self._fault("protocol", f"the agent's answer is {error}", "run again") from error
        if not isinstance(value, dict):
            raise self._fault("protocol", "the agent's answer is not an object", "run again")
        return value  # pyright: ignore[reportUnknownVariableType]

    def _load(self, kind: Any, value: object) -> Any:
        try:
            return load(kind, value)
        except SchemaError as error:
            raise self._fault("protocol", f"the agent's answer is malformed: {error}", "run again") from error

    def _remote_fault(self, value: object) -> FaultError:
        fault: Fault = self._load(Fault, value)
        if fault.code not in REASONS:
            raise self._fault("protocol", f"{fault.code[:40]!a} is not a reason code", "run again")
        message = f"{self.name}: {fault.message[: limits.MAX_TEXT_CHARACTERS]}"
        return FaultError(fault.code, message, fault.next[: limits.MAX_TEXT_CHARACTERS], fault.phase[:40])

    def _fault(self, code: str, message: str, next_step: str) -> FaultError:
        return FaultError(code, f"{self.name}: {message}", next_step)


class _Questions(SimpleQueue[bytes]):
    """Standard input that is written bit by bit; it ends with nothing, or when nothing comes."""

    def read(self, size: int, /) -> bytes:
        """What was put in next, as soon as it was."""
        del size
        try:
            return self.get(timeout=VERB_TIMEOUT_S)
        except Empty:
            return b""


def _check_storable(value: Any) -> None:
    """Refuse numbers that neither the store nor a float can hold, and half characters, which nothing can show."""
    match value:
        case str() if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise SchemaError("text with half a character")
        case int() if abs(value) > limits.MAX_WHOLE:
            raise SchemaError("a whole number of more than 64 bits")
        case dict():
            _check_storable([*value, *value.values()])  # pyright: ignore[reportUnknownArgumentType] - JSON
        case list():
            for item in value:  # pyright: ignore[reportUnknownVariableType]
                _check_storable(item)
        case _:
            pass


def _check_sizes(value: Any) -> None:
    """Refuse a probe that is larger than a device's can be, before it is stored and shown."""
    match value:
        case str() if len(value) > limits.MAX_PATH_CHARACTERS:
            raise SchemaError(f"a text of {len(value)} characters")
        case dict() | list() if len(value) > limits.MAX_PROBE_ENTRIES:  # pyright: ignore[reportUnknownArgumentType] - JSON
            raise SchemaError(f"a list of {len(value)} entries")  # pyright: ignore[reportUnknownArgumentType]
        case dict() | list():
            for item in [*value, *value.values()] if isinstance(value, dict) else value:  # pyright: ignore[reportUnknownVariableType]
                _check_sizes(item)
        case _:
            pass


def expand(cache_dir: str, transport: Transport) -> str:
    """Give a path on a device, ~ replaced by the user's home there."""
    return posixpath.join(transport.home(), cache_dir[2:]) if cache_dir.startswith("~/") else cache_dir


def _last_line(text: bytes | str) -> str:
    lines = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).strip().splitlines()
    return json.dumps(lines[-1][:200])[1:-1] if lines else "no message"
