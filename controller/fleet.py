"""Measures cells on many devices: one lane per host, its cells interleaved in rounds, every launch stored as it lands."""

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from agent.schema import FaultError
from controller import outputs
from controller.inventory import Device
from controller.lane import Lane
from controller.listener import Listener
from controller.session import Job, Session
from controller.store import Store
from controller.visit import lane_address

MAX_OPEN = 64
POLL_S = 0.2


@dataclass(slots=True)
class Fleet:
    """One run's measuring: `done` are the launches that the store has of each cell by round.

    `unprofiled` are the cells whose operations are to be timed, in a launch more after all others of their lane.
    """

    run_id: str
    store: Store
    launches: int
    listener: Listener
    open_session: Callable[[Device], Session]
    reference: outputs.References
    done: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    pending: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])
    stopping: threading.Event = field(default_factory=threading.Event)
    sessions: list[Session] = field(default_factory=list[Session])
    unprofiled: set[str] = field(default_factory=set[str])

    def run(self, devices: Sequence[Device], jobs: Sequence[Job]) -> None:
        """Measure all jobs. On Ctrl-C the running launches are ended, what is done is kept, and KeyboardInterrupt goes on."""
        lanes = [Lane(self, lane, jobs) for lane in group(devices)]
        if not lanes:
            return
        with ThreadPoolExecutor(min(len(lanes), MAX_OPEN), thread_name_prefix="lane") as pool:
            futures = [pool.submit(contextvars.copy_context().run, lane.run) for lane in lanes]
            try:
                _wait(futures)
            except KeyboardInterrupt:
                self.listener.say("interrupted: ending the running launches")
                self.stopping.set()
                for session in list(self.sessions):
                    _interrupt(session)
                wait(futures)
                raise
        for future in futures:
            future.result()


def _wait(futures: Sequence[Future[None]]) -> None:
    while wait(futures, timeout=POLL_S).not_done:
        pass


def _interrupt(session: Session) -> None:
    try:
        session.interrupt()
    except FaultError as error:
        session.say(f"{session.device.name}: {error}")


def group(devices: Sequence[Device]) -> list[list[Device]]:
    """Give the lanes: devices of the same host and port, or on the same meter, never run at the same time."""
    lanes: list[tuple[set[str], list[Device]]] = []
    for device in devices:
        keys = {f"host {_address(device)}", *([f"meter {device.meter}"] if device.meter else [])}
        shared = [lane for lane in lanes if lane[0] & keys]
        lanes = [lane for lane in lanes if not lane[0] & keys]
        merged = [member for _, members in shared for member in members]
        lanes.append((keys.union(*(other for other, _ in shared)), [*merged, device]))
    return [members for _, members in lanes]


def _address(device: Device) -> str:
    try:
        return lane_address(device)
    except FaultError:  # it cannot be reached, which its own lane will tell
        return device.name
