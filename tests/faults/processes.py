"""Faults of processes on a device, and of the device as a whole."""

import os
import resource
import signal
from collections.abc import Generator
from contextlib import suppress

from faults.device import Device
from faults.kinds import Missed, Scene, kind
from faults.links import LINK
from faults.machine import Machine

SMALL_BYTES = 32 << 20


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@kind("worker killed", "oom", "crash")
def worker_killed(scene: Scene) -> Generator[float]:
    """SIGKILL, as the kernel does for want of memory: the agent says which of the two it was where the kernel counts."""
    _send(scene.wait(scene.device.workers), signal.SIGKILL)
    yield 0.0


@kind("worker segfaults", "crash")
def worker_segfaults(scene: Scene) -> Generator[float]:
    """As a runtime's own code may."""
    _send(scene.wait(scene.device.workers), signal.SIGSEGV)
    yield 0.0


@kind("worker hangs", "deadline")
def worker_hangs(scene: Scene) -> Generator[float]:
    """It stops until its launch's deadline."""
    _send(scene.wait(scene.device.workers), signal.SIGSTOP)
    yield 0.0


@kind("worker out of memory", "oom", "crash", "bad_model", "bad_data", "env_missing")
def worker_out_of_memory(scene: Scene) -> Generator[float]:
    """It gets no more memory than it has: what that breaks first is the runtime's own matter."""
    (worker, *_) = scene.wait(scene.device.workers)
    try:
        with open(f"/proc/{worker}/statm") as file:
            size_bytes = int(file.read().split()[0]) * resource.getpagesize()
        resource.prlimit(worker, resource.RLIMIT_AS, (size_bytes + SMALL_BYTES, size_bytes + SMALL_BYTES))
    except OSError:
        raise Missed from None
    yield 0.0


@kind("supervisor killed", "crash")
def supervisor_killed(scene: Scene) -> Generator[float]:
    """The launch has nobody left."""
    _send(scene.wait(scene.device.supervisors), signal.SIGKILL)
    yield 0.0


@kind("supervisor hangs", "deadline", *LINK)
def supervisor_hangs(scene: Scene) -> Generator[float]:
    """It stops, and goes on."""
    stopped = scene.wait(scene.device.supervisors)
    _send(stopped, signal.SIGSTOP)
    yield scene.stop_s()
    _send(stopped, signal.SIGCONT)


@kind("agent killed", *LINK)
def agent_killed(scene: Scene) -> Generator[float]:
    """The process that answers the controller."""
    _send(scene.wait(scene.device.servers), signal.SIGKILL)
    yield 0.0


@kind("agent hangs", *LINK)
def agent_hangs(scene: Scene) -> Generator[float]:
    """The process that answers the controller stops, and goes on."""
    stopped = scene.wait(scene.device.servers)
    _send(stopped, signal.SIGSTOP)
    yield scene.stop_s()
    _send(stopped, signal.SIGCONT)


@kind("device rebooted", "rebooted", "busy", *LINK)
def rebooted(scene: Scene) -> Generator[float]:
    """All of its processes end at once; it comes back with another boot id."""
    scene.device.power_off()
    yield scene.rng.uniform(0.2, 2.0)
    scene.device.power_on()


@kind("device rebooted, a line half-written", "rebooted", "busy", "protocol", *LINK)
def rebooted_half_written(scene: Scene) -> Generator[float]:
    """What it wrote last is there in part."""
    folders = scene.wait(scene.device.running)
    scene.device.power_off()
    for folder in folders:
        with suppress(OSError):
            spool = folder / "events.jsonl"
            os.truncate(spool, max(0, spool.stat().st_size - scene.rng.randint(1, 60)))
    yield scene.rng.uniform(0.2, 2.0)
    scene.device.power_on()


def _a_silent_log(device: Machine) -> None:
    """A power meter's log that is a pipe to which nobody writes: whoever opens it waits."""
    assert isinstance(device, Device)
    log = device.clock.with_name("power.csv")
    os.mkfifo(log)
    device.power = {"driver": "csv_log", "path": str(log), "boundary": "board"}


@kind("sensor hangs", prepare=_a_silent_log, where="loopback")
def sensor_hangs(_: Scene) -> Generator[float]:
    """Its first reading never ends, in every launch."""
    yield 0.0
