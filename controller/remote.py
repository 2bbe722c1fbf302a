"""A typed client of the agent's verbs, over any transport. Whatever a device answers is validated here."""

import posixpath
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from agent.cache import DEFAULT
from agent.description import Interpreter, Probe
from agent.schema import Event, LaunchSpec, SampleFile, SchemaError, encode
from controller import answers, limits
from controller.base_transport import SLOWEST_BYTES_PER_S
from controller.conversation import Conversation
from controller.deploy import build_zipapp
from controller.transport import Transport

UPLOADS = 3  # of a file that arrives damaged


class BlobState(NamedTuple):
    """Whether a file is on the device, and how much of an unfinished upload."""

    present: bool
    partial_bytes: int
    corrupt: bool


class LeaseState(NamedTuple):
    """Who holds a host, empty for nobody, since when and for how long still, and whether a launch runs there."""

    owner: str
    left_s: float
    running: bool
    age_s: float = 0.0


class ClockState(NamedTuple):
    """A device's monotonic time in seconds."""

    monotonic_s: float


class Garbage(NamedTuple):
    """What lies in the agent's folder by kind, in bytes, and who keeps it from being deleted: empty for nobody."""

    size_bytes: dict[str, int]
    busy: str


class Remote:
    """The agent on one device; `python` is the interpreter it runs under, `cache_dir` its folder there (~ is the user's home).

    `environ` are the environment variables that runtimes get there. The first question puts the agent there, where it is not. For one
    thread at a time but for `cancel`.
    """

    def __init__(
        self, transport: Transport, name: str, python: str = "python3", cache_dir: str = DEFAULT, environ: Mapping[str, str] | None = None
    ) -> None:
        self.transport = transport
        self.name = name
        self.python = python
        self.environ = dict(environ or {})
        self.cache_dir = cache_dir
        self._conversation: Conversation | None = None

    def deploy(self) -> int:
        """Put the agent on the device, if it is not there; give the bytes shipped. Raises FaultError `no_python`, `disk_full`, ..."""
        return self._talk().shipped_bytes

    @property
    def root(self) -> str:
        """Where the agent's folder is on the device, an absolute path."""
        return self._talk().root

    def _talk(self) -> Conversation:
        if self._conversation is None:
            self._conversation = Conversation(self.transport, self.name, self.python, self.cache_dir, build_zipapp())
        return self._conversation

    @property
    def is_talking(self) -> bool:
        """Whether there is an agent's process that waits for the next question, or answers one."""
        return self._conversation is not None

    def hang_up(self) -> None:
        """End the agent's process there; what it started goes on. The next question begins anew."""
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None

    def give_up(self) -> None:
        """End what the agent is being asked, from another thread: that raises `link_lost`."""
        if self._conversation is not None:
            self._conversation.give_up()

    def close(self) -> None:
        """Hang up and close the link."""
        self.hang_up()
        self.transport.close()

    @contextmanager
    def _talking(self) -> Generator[Conversation]:
        """The conversation, which is over if it is left by an error of ours: what the agent still says would answer the next question."""
        try:
            yield self._talk()
        except answers.ToldError:
            raise
        except BaseException:
            self.hang_up()
            raise

    def probe(self, environments: Mapping[str, str] | None = None) -> Probe:
        """Give what the device says it is; with `environments` (by backend) it tries the runtimes too, which takes seconds.

        Raises FaultError `protocol` where a text or list of it is longer than any device's.
        """
        request = {"environments": dict(environments), "environ": self.environ} if environments is not None else {}
        found = self._work("probe", request, *([] if environments is not None else ["--quick"]))
        try:
            answers.check_sizes(found)
        except SchemaError as error:
            raise answers.fault(self.name, f"the agent's probe has {error}") from error
        return self._record(Probe, found)

    @cached_property
    def interpreters(self) -> Sequence[Interpreter]:
        """The Pythons of the device, asked for once: a full probe tries every runtime."""
        return tuple(self.probe({}).interpreters)

    def lease(self) -> LeaseState:
        """Give who holds the host, or whose launch runs there."""
        found: LeaseState = self._record(LeaseState, self._ask("lease", {"action": "show"}))
        return found._replace(owner=found.owner[: limits.MAX_TEXT_CHARACTERS])

    def acquire(self, owner: str, ttl_s: float) -> None:
        """Take or renew the host's lease; raises FaultError `busy` naming the holder."""
        self._ask("lease", {"action": "acquire", "owner": owner, "ttl_s": ttl_s})

    def release(self, owner: str) -> None:
        """Give the lease back."""
        self._ask("lease", {"action": "release", "owner": owner})

    def upload(self, files: Mapping[str, Path]) -> int:
        """Put files on the device by their sha256, from where an earlier upload stopped; give the bytes shipped."""
        missing = {sha256: state for sha256, state in self._verify(list(files)).items() if not state.present}
        return sum(self._put(files[sha256], sha256, state.partial_bytes) for sha256, state in missing.items())

    def _verify(self, sha256s: list[str]) -> dict[str, BlobState]:
        states: dict[str, BlobState] = self._record(dict[str, BlobState], self._work("verify", {"blobs": sha256s}).get("blobs"))
        if set(states) != set(sha256s):
            raise answers.fault(self.name, "verify answered for other files than those asked for")
        return states

    def _put(self, path: Path, sha256: str, there: int) -> int:
        """Upload a file, of which `there` bytes have arrived before; give the bytes shipped. What arrives damaged is sent again, whole."""
        shipped = 0
        for _ in range(UPLOADS):
            size = path.stat().st_size
            offset = there if 0 <= there < size else 0
            shipped += size - offset
            if self._send(path, sha256, offset, size).present:
                return shipped
            there = 0
        raise answers.fault(self.name, f"{path.name} arrived damaged {UPLOADS} times and was deleted there")

    def _send(self, path: Path, sha256: str, offset: int, size: int) -> BlobState:
        """Send a file from `offset` on. After a refusal there is no telling what the agent makes of the rest."""
        timeouts = self.transport.timeouts
        timeout_s = timeouts.work_s + timeouts.transfer_s + (size - offset) / SLOWEST_BYTES_PER_S
        try:
            with path.open("rb") as file, self._talking() as talk:
                file.seek(offset)
                talk.send("put", {"sha256": sha256, "offset": offset, "size_bytes": size - offset}, content=file, size=size - offset)
                return self._record(BlobState, talk.answer("put", timeout_s))
        except answers.ToldError:
            self.hang_up()
            raise

    def install(self, environment: str, archive_sha256: str) -> None:
        """Have an uploaded archive unpacked as an environment."""
        self._work("install", {"environment": environment, "archive": archive_sha256})

    def start(self, spec: LaunchSpec) -> bool:
        """Start a launch that goes on without us; False if it had been started before."""
        return bool(self._ask("start", spec).get("started"))

    def follow(self, launch: str, start: int = 0, allowance: limits.Allowance | None = None) -> Iterator[Event]:
        """Give a launch's events from number `start` on, until it ends; raises FaultError `link_lost` if the link does.

        `allowance` is what the launch may still tell, by default what a whole one may; `protocol` is raised for more.
        """
        allowance = allowance or limits.Allowance(limits.MAX_SPOOL_BYTES)
        with self._talking() as talk:
            talk.send("follow", {"launch": launch, "from": start})
            while True:
                line = talk.line("follow", None, limits.MAX_EVENT_BYTES)
                if not allowance.takes(len(line)):
                    raise answers.fault(self.name, f"launch {launch} tells more than a launch has to tell")
                event = answers.event(self.name, line)
                if event.type != "lost" and event.seq != start:
                    raise answers.fault(self.name, f"launch {launch} tells event {event.seq} where {start} is due: its spool was damaged")
                if start >= limits.MAX_EVENTS:
                    raise answers.fault(self.name, f"launch {launch} tells more than {limits.MAX_EVENTS} events")
                start += 1
                yield event
                if event.type in ("end", "lost"):
                    return

    def fetch(self, launch: str, file: SampleFile) -> bytes:
        """Give the content of one of a launch's sample files, not yet compared with its sha256."""
        with self._talking() as talk:
            timeouts = self.transport.timeouts
            found = talk.ask("fetch", {"launch": launch, "sha256": file.sha256}, timeout_s=timeouts.answer_s)
            size = self._record(int, found.get("size_bytes"))
            if not 0 <= size <= limits.MAX_FILE_BYTES:
                raise answers.fault(self.name, f"a sample file of {size} bytes")
            return talk.read(size, timeouts.transfer_s + size / SLOWEST_BYTES_PER_S)

    def cancel(self, launch: str) -> None:
        """End a running launch, over a process of its own: the other one may be following it."""
        root = self.root
        argv = [self.python, "-I", posixpath.join(root, build_zipapp().name), "cancel", "--cache", root]
        done = self.transport.run(argv, stdin=encode({"launch": launch}), timeout_s=self.transport.timeouts.answer_s)
        if not done.stdout.strip():
            raise answers.fault(self.name, f"the agent's cancel gave no answer: {answers.last_line(done.stderr_tail)}")
        answers.result(self.name, "cancel", done.stdout)

    def forget(self, launches: list[str]) -> None:
        """Delete launches that have been stored here."""
        self._ask("gc", {"launches": launches})

    def garbage(self) -> Garbage:
        """Give what `empty` would delete."""
        found: Garbage = self._record(Garbage, self._work("gc", {}, "--everything"))
        return found._replace(busy=found.busy[: limits.MAX_TEXT_CHARACTERS])

    def empty(self) -> int:
        """Delete all that is in the agent's folder, the agent last; give the bytes freed. Raises FaultError `busy` naming the holder."""
        freed = self._work("gc", {}, "--everything", "--yes")
        return self._record(int, freed.get("freed_bytes"))

    def clock(self, times: int) -> Iterator[float]:
        """Give the device's monotonic time in seconds so many times, each asked for when it is wanted."""
        for _ in range(times):
            found: ClockState = self._record(ClockState, self._ask("clock", {}))
            yield found.monotonic_s

    def _ask(self, verb: str, request: object, *options: str) -> dict[str, Any]:
        with self._talking() as talk:
            return talk.ask(verb, request, *options, timeout_s=self.transport.timeouts.answer_s)

    def _work(self, verb: str, request: object, *options: str) -> dict[str, Any]:
        """Ask where the answer is much work."""
        with self._talking() as talk:
            return talk.ask(verb, request, *options, timeout_s=self.transport.timeouts.work_s)

    def _record(self, kind: Any, value: object) -> Any:
        return answers.record(self.name, kind, value)
