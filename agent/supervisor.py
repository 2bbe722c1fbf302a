"""Owns one launch: detaches from the link, spawns the worker, watches its deadline, writes the spool."""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from agent import VERSION, blobs, conditions, lease, memory, power, settle, telemetry, worker
from agent.cache import Cache, Lock, boot_id, disk_fault, is_held, read_object, unlink, write_json
from agent.schema import Fault, FaultError, LaunchSpec, Measurement, SchemaError, decode, dump, encode, load
from agent.spool import Spool

LOG_TAIL_BYTES = 16384
MAX_LINE_BYTES = 1 << 19
MAX_EVENTS = 5000
READ_BYTES = 65536
MAX_PIPE_BYTES = 1 << 20
GRACE_S = 5.0  # for a worker to end after its last word, or to be killed
LEASE_MARGIN_S = 30.0  # for what a launch does before and after its deadline runs
BUSY_S = 1.0  # for somebody who looks whether a launch runs to be done looking
PASSED_ON = ("phase", "sample", "measure", "operations", "log")
UNSTARTED = ".starting-"
STARTED = b"started"


def start(cache: Cache, spec: LaunchSpec, root: str = "/") -> bool:
    """Start a launch in a process of its own session; False if a launch of that id had been started before.

    The device's state is read below `root`. Once it is true, or the caller is killed, the launch's folder is there if and only if its
    supervisor has begun. Raises FaultError: `busy` without a lease or while another launch runs here, `protocol` if a file is missing,
    `disk_full`, ...
    """
    blobs.check(cache, spec)
    with Lock(cache.path("start.lock")) as starting:
        if os.path.isdir(cache.launch(spec.launch)):
            return False
        with contextlib.closing(Lock(cache.path("busy.lock"))) as busy:  # the supervisor inherits it
            if not busy.acquire_within(BUSY_S):
                raise FaultError("busy", "another launch is running here", "wait until it is done", "start")
            lease.extend(cache, spec.owner, spec.settle_timeout_s + spec.deadline_s + 2 * spec.idle_s + LEASE_MARGIN_S)
            _detach(cache, spec, root, [starting.descriptor, busy.descriptor])
    return True


def _detach(cache: Cache, spec: LaunchSpec, root: str, locks: List[int]) -> None:
    """Run the supervisor in a grandchild, and wait until it has begun; raises the FaultError for which it could not."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have ignored it
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _begin(cache, spec, root, locks, writing)
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    if not answer:
        raise FaultError("crash", "the supervisor could not be started", "see the device's log", "start")
    if answer != STARTED:
        fault: Fault = load(Fault, decode(answer))
        raise FaultError(fault.code, fault.message, fault.next, fault.phase)


def _begin(cache: Cache, spec: LaunchSpec, root: str, locks: List[int], answer: int) -> None:
    """Be the supervisor: prepare the launch's folder under another name, rename it, tell whoever waits, and run."""
    _let_go([*locks, answer])
    folder = cache.path("launches", UNSTARTED + spec.launch)
    try:
        blobs.clear(cache.path("launches"), UNSTARTED)
        os.makedirs(os.path.join(folder, "files"), 0o700)
        Lock(os.path.join(folder, "alive.lock")).acquire()  # until we end
        write_json(os.path.join(folder, "spec.json"), dump(spec))
        write_json(os.path.join(folder, "supervisor.json"), {"boot_id": boot_id(), "pid": os.getpid()})
        supervisor = Supervisor(cache, spec, root, folder)
        os.rename(folder, cache.launch(spec.launch))
    except (FaultError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        os.write(answer, encode(error.fault if isinstance(error, FaultError) else disk_fault(error, folder).fault))
        return
    with contextlib.suppress(BrokenPipeError):
        os.write(answer, STARTED)
    os.close(answer)
    os.close(locks[0])
    supervisor.run()


def _let_go(keep: List[int]) -> None:
    """Drop what came from whoever started us: standard streams, other descriptors, blocked or ignored signals."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, _notice)


def _notice(*_: Any) -> None:
    """A signal that only has to wake the selector."""


def cancel(cache: Cache, launch: str) -> bool:
    """Tell a running launch to end; False if it was not running. Unless it was ending anyway, its spool ends with fault `cancelled`."""
    pid = read_object(cache.launch(launch, "supervisor.json")).get("pid")
    if not isinstance(pid, int) or not is_held(cache.launch(launch, "alive.lock")):
        return False
    try:
        os.kill(pid, signal.SIGUSR1)
    except ProcessLookupError:
        return False
    return True


class Supervisor:
    """One launch from its first event to its last. SIGUSR1 cancels it; SIGTERM, as in a shutdown, leaves a spool without its end."""

    def __init__(self, cache: Cache, spec: LaunchSpec, root: str, folder: str) -> None:
        self.cache = cache
        self.spec = spec
        self.root = root
        self.recorder = telemetry.Recorder(root)
        self.power = power.Recording(spec.power, root, lambda: self.cancelled, spec.idle_s)
        self.phase = "spawn"
        self.fault: Optional[Fault] = None
        self.cancelled = False
        self.worker: Optional["subprocess.Popen[bytes]"] = None
        self.quiet: Optional[Lock] = None
        self.log = b""
        self.pending = b""
        self.events = 0
        signal.signal(signal.SIGUSR1, self._on_cancel)
        self.spool = Spool(folder)
        self.spool.write("hello", {"agent": VERSION, "boot_id": boot_id(), "wall_time_s": time.time(), "python": sys.version.split()[0]})
        self._check_disk()

    def run(self) -> None:
        """Supervise the worker until it has ended, however it ends."""
        if self.spec.environment:
            sys.path.append(self.cache.environment(self.spec.environment))  # for psutil
        watch = conditions.Watch(self.root)
        try:
            self._settle()
            self.spool.write("conditions", dump(watch.read("before")))
            self.power.before()
            if not self.cancelled:
                self._supervise()
                self.power.after()
        except FaultError as error:
            self._fail(error.fault)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here, the launch must have its end
            self._fail(Fault("crash", self.phase, "the supervisor failed: {!r}".format(error)[:300], "report this as a bug"))
        self._end(watch)

    def _settle(self) -> None:
        """Wait at the start gate, where the launch has one."""
        if self.spec.settle_max_temp_c is not None:
            self._pass_on("phase", {"name": "settle"})
        gate = settle.wait(self.spec.settle_max_temp_c, self.spec.settle_timeout_s, lambda: self.cancelled, self.root)
        if gate is not None:
            self.spool.write("measure", dump(Measurement("settle_s", "s", [gate.seconds])))
            self.spool.write("measure", dump(Measurement("settled", "1", [float(gate.settled)])))

    def _fail(self, fault: Fault) -> None:
        self.fault = self.fault or fault._replace(phase=fault.phase or self.phase)

    def _supervise(self) -> None:
        (events, events_end), (log, log_end), (woken, wake) = os.pipe(), os.pipe(), os.pipe()
        for descriptor in (events, log, woken, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake)
        killed_before = memory.oom_kills()
        try:
            self.worker = worker.spawn(self.cache, self.spec, events_end, log_end)
        finally:
            os.close(events_end)
            os.close(log_end)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(events, selectors.EVENT_READ, self._on_events)
                selector.register(log, selectors.EVENT_READ, self._on_log)
                selector.register(woken, selectors.EVENT_READ, _notice)
                self._watch(selector, time.monotonic() + self.spec.deadline_s)
        finally:
            status = self._end_worker()
            _drain(log, self._on_log)
        _drain(events, self._on_events)
        if status != 0 and not self.cancelled:
            self._fail(worker.death(status, self.phase, killed_before))
        elif self.phase != "done":
            self._fail(Fault("crash", self.phase, "the worker ended before its work was done", "see the log"))

    def _watch(self, selector: selectors.BaseSelector, end: float) -> None:
        """Take in what the worker says until it has ended or is to be ended."""
        late = "deadline", "the launch took longer than {:g} s".format(self.spec.deadline_s), "raise the deadline, or measure less"
        while not self.cancelled and not self._has_ended():
            left_s = end - time.monotonic()
            if left_s <= 0:
                code, message, next_step = late
                raise FaultError(code, message, next_step, self.phase)
            for key, _ in selector.select(min(left_s, self.recorder.due_s())):
                if _take(key.fd, key.data):
                    continue
                selector.unregister(key.fd)
                if key.data == self._on_events:
                    late = "timeout", "the worker closed its events but did not end", "see the log"
                    end = min(end, time.monotonic() + GRACE_S)
            self.recorder.read_if_due()

    def _has_ended(self) -> bool:
        """Whether the worker has ended; it stays to be reaped, so that nobody else gets its number."""
        assert self.worker is not None  # noqa: S101 - for the type checker
        return os.waitid(os.P_PID, self.worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _end_worker(self) -> int:
        """Kill whatever is left of the worker's group and return the worker's status; one that cannot be killed is left alone."""
        assert self.worker is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.worker.pid, signal.SIGKILL)
        try:
            return self.worker.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._fail(Fault("timeout", self.phase, "the worker cannot be killed: it is stuck in a driver", "reboot the device"))
            return -signal.SIGKILL

    def _on_events(self, text: bytes) -> None:
        *lines, self.pending = (self.pending + text).split(b"\n")
        self.events += len(lines)
        if max(map(len, [*lines, self.pending])) > MAX_LINE_BYTES or self.events > MAX_EVENTS:
            raise FaultError("protocol", "the worker sends too much", "see the log", self.phase)
        for line in lines:
            kind, data = self._event(line)
            if kind == "fault":
                self._fail(load(Fault, data))
            elif kind in PASSED_ON:
                self._pass_on(kind, data)

    def _event(self, line: bytes) -> Tuple[str, Dict[str, Any]]:
        try:
            event = load(Dict[str, Any], decode(line), "event")
            return load(str, event["type"]), load(Dict[str, Any], event["data"])
        except (SchemaError, KeyError) as error:
            raise FaultError("protocol", "the worker's events are garbled: {!r}".format(line[:80]), "see the log", self.phase) from error

    def _pass_on(self, kind: str, data: Dict[str, Any]) -> None:
        if kind == "phase":
            self.phase = str(data.get("name"))[:40]
            self.power.phase(self.phase)
            if self.phase == "measure":
                self.recorder.begin()
            elif self.phase == "measured":
                self.recorder.end()
        if self.phase == "measured" and self.quiet is not None:
            self._hush(False)
        self.spool.write(kind, data)
        self._check_disk()
        if self.phase == "warmup" and self.quiet is None:
            self._hush(True)

    def _hush(self, on: bool) -> None:
        """Write nothing, and have followers sleep, from the warm-up on until the measuring window is over.

        The lock is held before its file has its name: nobody can have taken it first.
        """
        path = self.cache.launch(self.spec.launch, "quiet.lock")
        if on:
            self.quiet = Lock(path + ".new")
            self.quiet.acquire()
            os.rename(path + ".new", path)
        elif self.quiet is not None:
            unlink(path)
            self.quiet.close()
            self.quiet = None
        self.spool.hold(on)

    def _check_disk(self) -> None:
        """A launch on a full disk is over, unless its work is done: its last words fit."""
        if self.spool.error is not None and self.phase != "done":
            raise disk_fault(self.spool.error, self.cache.root)

    def _on_log(self, text: bytes) -> None:
        self.log = (self.log + text)[-LOG_TAIL_BYTES:]

    def _on_cancel(self, *_: Any) -> None:
        self.cancelled = True

    def _save_power(self) -> None:
        try:
            for kind, data in self.power.save(self.cache.launch(self.spec.launch, "files")):
                self.spool.write(kind, data)
        except OSError as error:
            self._fail(disk_fault(error, self.cache.root).fault)

    def _end(self, watch: "conditions.Watch") -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        self._hush(False)
        for series in [] if self.spool.error else self.recorder.series():
            self.spool.write("measure", dump(series))
        self._save_power()
        self.spool.write("conditions", dump(watch.read("after", self.recorder.peaks_c)))
        if self.log:
            self.spool.write("log", {"text": self.log.decode("utf-8", "replace")})
        if self.cancelled:
            self.fault = Fault("cancelled", self.phase, "the launch was cancelled", "fleetmark run --resume measures it again")
        else:
            self.fault = blobs.damage(self.cache, self.spec) or self.fault  # whatever came of a damaged model is not the model's
        if self.fault is not None:
            self.spool.write("fault", dump(self.fault))
        self.spool.write("end", {})
        self.spool.close()


def _take(descriptor: int, use: Callable[[bytes], None]) -> bool:
    """Hand on what can be read now; False at the end of the pipe."""
    try:
        text = os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return True
    use(text)
    return bool(text)


def _drain(descriptor: int, use: Callable[[bytes], None]) -> None:
    """Hand on what a pipe still holds; no more than it can, for a stray process may go on writing."""
    for _ in range(MAX_PIPE_BYTES // READ_BYTES):
        _take(descriptor, use)
