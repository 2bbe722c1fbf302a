"""Owns one launch: detaches from the link, spawns the worker, watches its deadline, writes the spool."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from typing import Any, Dict, Optional

from agent import VERSION, conditions, lease
from agent.cache import Cache, Lock, boot_id, disk_fault, is_held, read_object, write_json
from agent.schema import Fault, FaultError, LaunchSpec, SchemaError, decode, dump
from agent.spool import Spool

LOG_TAIL_BYTES = 16384
MAX_LINE_BYTES = 1 << 20
DEADLINE_GRACE_S = 5.0
PASSED_ON = ("phase", "sample", "measure", "log", "fault")


def start(cache: Cache, spec: LaunchSpec) -> bool:
    """Start a launch in a process of its own session; False if a launch of that id had been started before.

    Raises FaultError `busy` without a lease or while another launch runs here.
    """
    if os.path.isdir(cache.launch(spec.launch)):
        return False
    lease.extend(cache, spec.owner, spec.deadline_s + DEADLINE_GRACE_S)
    busy = Lock(cache.path("busy.lock"))
    if not busy.acquire(wait=False):
        raise FaultError("busy", "another launch is running here", "wait until it is done", "start")
    try:
        os.mkdir(cache.launch(spec.launch), 0o700)
        os.mkdir(cache.launch(spec.launch, "files"), 0o700)
    except OSError as error:
        raise disk_fault(error, cache.launch(spec.launch)) from error
    alive = Lock(cache.launch(spec.launch, "alive.lock"))
    alive.acquire()
    write_json(cache.launch(spec.launch, "spec.json"), dump(spec))
    write_json(cache.launch(spec.launch, "supervisor.json"), {"boot_id": boot_id(), "pid": 0})
    _detach(cache, spec)
    busy.close()  # the supervisor has inherited both locks
    alive.close()
    return True


def _detach(cache: Cache, spec: LaunchSpec) -> None:
    """Run the supervisor in a grandchild without terminal or standard streams; the caller goes on at once."""
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    status = 1
    try:
        Supervisor(cache, spec).run()
        status = 0
    finally:
        os._exit(status)


def cancel(cache: Cache, launch: str) -> bool:
    """End a running launch; False if it was not running. Its spool ends with status `cancelled`."""
    if not is_held(cache.launch(launch, "alive.lock")):
        return False
    written = read_object(cache.launch(launch, "supervisor.json"))
    pid = written.get("pid")
    if isinstance(pid, int) and pid > 1 and written.get("boot_id") == boot_id():
        os.kill(pid, signal.SIGTERM)
        return True
    return False


class Supervisor:
    """One launch from its first event to its last."""

    def __init__(self, cache: Cache, spec: LaunchSpec) -> None:
        self.cache = cache
        self.spec = spec
        self.spool = Spool(cache.launch(spec.launch, "events.jsonl"))
        self.quiet = Lock(cache.launch(spec.launch, "quiet.lock"))
        self.phase = "spawn"
        self.fault: Optional[Fault] = None
        self.cancelled = False
        self.worker: Optional[subprocess.Popen[bytes]] = None
        self.log = b""
        self.pending = b""

    def run(self) -> None:
        """Supervise the worker until it has ended, however it ends."""
        signal.signal(signal.SIGTERM, self._on_cancel)
        write_json(self.cache.launch(self.spec.launch, "supervisor.json"), {"boot_id": boot_id(), "pid": os.getpid()})
        self.spool.write("hello", {"agent": VERSION, "boot_id": boot_id(), "wall_time_s": time.time(), "python": sys.version.split()[0]})
        if self.spec.environment:
            sys.path.append(self.cache.environment(self.spec.environment))  # for psutil
        watch = conditions.Watch()
        self.spool.write("conditions", dump(watch.read("before")))
        try:
            self._supervise()
        except FaultError as error:
            self.fault = error.fault
        except OSError as error:
            self.fault = disk_fault(error, self.cache.root).fault
        self._end(watch)

    def _supervise(self) -> None:
        reading, writing = os.pipe()
        self.worker = _spawn(self.cache, self.spec, writing)
        os.close(writing)
        assert self.worker.stderr is not None  # noqa: S101 - for the type checker: it is a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(reading, selectors.EVENT_READ, self._on_events)
            selector.register(self.worker.stderr, selectors.EVENT_READ, self._on_log)
            self._loop(selector, time.monotonic() + self.spec.deadline_s)
        os.close(reading)
        self._reap()

    def _loop(self, selector: selectors.BaseSelector, deadline: float) -> None:
        while selector.get_map() and not self.cancelled:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                message = "the launch took longer than its deadline of {:g} s".format(self.spec.deadline_s)
                self.fault = Fault("deadline", self.phase, message, "raise the deadline, or choose a smaller profile")
                return
            for key, _ in selector.select(left_s):
                descriptor = key.fd
                text = os.read(descriptor, 65536)
                if text:
                    key.data(text)
                else:
                    selector.unregister(key.fileobj)

    def _on_events(self, text: bytes) -> None:
        lines = (self.pending + text).split(b"\n")
        self.pending = lines.pop()
        if len(self.pending) > MAX_LINE_BYTES:
            raise FaultError("protocol", "the worker sent a line of over {} bytes".format(MAX_LINE_BYTES), "", self.phase)
        for line in lines:
            self._on_event(line)

    def _on_event(self, line: bytes) -> None:
        try:
            event = decode(line)
            kind, data = event["type"], event["data"]
        except (SchemaError, KeyError, TypeError) as error:
            raise FaultError("protocol", "the worker's events are garbled: {!r}".format(line[:80]), "", self.phase) from error
        if kind not in PASSED_ON:
            return
        if kind == "phase":
            self._on_phase(str(data.get("name")))
        self.spool.write(kind, data)
        if kind == "phase" and self.phase == "measure":
            self.spool.hold(True)

    def _on_phase(self, name: str) -> None:
        if self.phase == "measure":
            self.quiet.release()
            self.spool.hold(False)
        if name == "measure":
            self.quiet.acquire()
        self.phase = name

    def _on_log(self, text: bytes) -> None:
        self.log = (self.log + text)[-LOG_TAIL_BYTES:]

    def _on_cancel(self, *_: Any) -> None:
        self.cancelled = True
        self._kill()

    def _kill(self) -> None:
        if self.worker is not None and self.worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.worker.pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Wait for the worker; a death that nobody asked for and no fault explains is a crash, named by its signal."""
        assert self.worker is not None  # noqa: S101 - for the type checker
        if self.fault is None and not self.cancelled:
            try:
                self.worker.wait(DEADLINE_GRACE_S)
            except subprocess.TimeoutExpired:
                self.fault = Fault("timeout", self.phase, "the worker closed its events but did not end", "")
        self._kill()
        status = self.worker.wait()
        if self.worker.stderr is not None:
            self.worker.stderr.close()
        if self.fault is None and not self.cancelled and status != 0:
            self.fault = _death(status, self.phase)

    def _end(self, watch: "conditions.Watch") -> None:
        self.quiet.release()
        self.spool.hold(False)
        self.spool.write("conditions", dump(watch.read("after")))
        if self.log:
            self.spool.write("log", {"text": self.log.decode("utf-8", "replace")})
        if self.cancelled:
            self.fault = Fault("cancelled", self.phase, "the launch was cancelled", "fleetmark run --resume measures it again")
        if self.fault is not None:
            self.spool.write("fault", dump(self.fault))
        self.spool.write("end", {})
        self.spool.close()


def _spawn(cache: Cache, spec: LaunchSpec, events: int) -> "subprocess.Popen[bytes]":
    """The worker: a fresh process in its own session, the environment first on its path, no other Python settings."""
    environ = worker_environ(cache, spec.environment, spec.environ)
    command = [spec.python or sys.executable, os.path.abspath(sys.argv[0]), "worker", "--cache", cache.root]
    command += ["--launch", spec.launch, "--events", str(events), "--spawned", repr(time.monotonic())]
    try:
        return subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(events,),
            start_new_session=True,
            cwd=cache.launch(spec.launch),
        )
    except OSError as error:
        message = "cannot start {}: {}".format(command[0], error.strerror)
        raise FaultError("no_python", message, "set agent.python in inventory.yaml", "spawn") from error


def worker_environ(cache: Cache, environment: str, extra: Dict[str, str]) -> Dict[str, str]:
    """Return the environment variables of a process that runs a runtime: ours, less Python's, plus the device's and the environment."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environ.update(extra)
    if environment:
        environ["PYTHONPATH"] = cache.environment(environment)
        environ["PYTHONNOUSERSITE"] = "1"
    return environ


def _death(status: int, phase: str) -> Fault:
    if status >= 0:
        return Fault("crash", phase, "the worker ended with status {}".format(status), "see the log")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "signal {}".format(-status)
    if -status == signal.SIGKILL:
        return Fault("oom", phase, "the worker was killed by SIGKILL, as the kernel does when memory runs out", "try a smaller model")
    return Fault("crash", phase, "the worker was killed by {}".format(name), "try another version of the runtime; see the log")
