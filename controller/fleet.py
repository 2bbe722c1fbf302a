"""Measures cells on many devices: one lane per host, its cells interleaved in rounds, every launch stored as it lands."""

import contextvars
import functools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from agent.schema import FaultError
from controller import lanes, outputs
from controller.durations import now
from controller.estimate import Estimate
from controller.inventory import Device
from controller.lane import Lane
from controller.links import Links
from controller.listener import Listener
from controller.queueing import Patience
from controller.session import Job, Session
from controller.store import Store

POLL_S = 0.2


@dataclass(slots=True)
class Fleet:
    """One run's measuring: `done` are the launches that the store has of each cell by round.

    `unprofiled` are the cells whose operations are to be timed, in a launch more after all others of their lane; `stored` are all launches
    by device that the store has from before, `begun` how many of each cell have been begun.
    """

    run_id: str
    store: Store
    launches: int
    listener: Listener
    open_session: Callable[[Device], Session]
    reference: outputs.References
    done: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    pending: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])
    stored: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    begun: Counter[str] = field(default_factory=Counter[str], init=False)
    owner: str = ""  # as others are told of it who wait
    patience: Patience = field(default_factory=lambda: Patience(waits=False))
    estimate: Estimate = field(default_factory=Estimate)
    links: Links = field(default_factory=Links)
    is_crowded: bool = False
    sessions: list[Session] = field(default_factory=list[Session])
    unprofiled: set[str] = field(default_factory=set[str])

    @property
    def stopping(self) -> threading.Event:
        """Whether no launch is to begin any more."""
        return self.patience.stopped

    def begin(self, job: Job, round_: int, launch: str) -> None:
        """Note that a launch is about to start."""
        self.begun[job.id] += 1
        self.store.begin_launch(self.run_id, job.id, round_, launch, now(), self.begun[job.id])

    def session(self, device: Device) -> Session:
        """Give a device's session, with what it shares with the others."""
        session = self.open_session(device)
        session.link.patience, session.link.links = self.patience, self.links
        session.link.on_queue = functools.partial(self.listener.phase, device.name, "wait")
        return session

    def run(self, devices: Sequence[Device], jobs: Sequence[Job]) -> None:
        """Measure all jobs. On Ctrl-C the running launches are ended, what is done is kept, and KeyboardInterrupt goes on.

        An error that is no device's, such as the store's, stops all lanes and is raised; running launches go on, to be collected later.
        """
        found = self.lanes(devices, jobs)
        self.begun = self.store.begun(self.run_id)
        self.is_crowded = len(devices) > self.links.limit
        if not found:
            return
        for lane in found:
            lane.tell_left()
        with ThreadPoolExecutor(len(found), thread_name_prefix="lane") as pool:
            futures = [pool.submit(contextvars.copy_context().run, lane.run) for lane in found]
            try:
                _wait(futures)
            except KeyboardInterrupt:
                self.listener.say("interrupted: ending the running launches")
                self.stopping.set()
                for session in list(self.sessions):
                    _interrupt(session)
                wait(futures)
                raise
            if any(future.done() and future.exception() for future in futures):
                self.stopping.set()
                for session in list(self.sessions):
                    session.link.give_up()
                wait(futures)
        for future in futures:
            future.result()

    def lanes(self, devices: Sequence[Device], jobs: Sequence[Job]) -> list[Lane]:
        """Give the lanes that work at the same time."""
        return [self._lane(lane, jobs) for lane in lanes.group(devices)]

    def _lane(self, devices: Sequence[Device], jobs: Sequence[Job]) -> Lane:
        """In an order that every controller has: two that share several hosts do not each hold what the other waits for."""
        names = {device.name for device in devices}
        return Lane(self, sorted(devices, key=lanes.address), [job for job in jobs if job.cell.device in names])


def _wait(futures: Sequence[Future[None]]) -> None:
    """Until all have ended, or one by an error."""
    while not any(future.done() and future.exception() for future in futures):
        if not wait(futures, POLL_S, FIRST_EXCEPTION).not_done:
            return


def _interrupt(session: Session) -> None:
    try:
        session.interrupt()
    except FaultError as error:
        session.say(f"{session.device.name}: {error}")
