"""One lane: the devices of one host or meter, their cells interleaved in rounds, every launch stored as it lands."""

import functools
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import tenacity

from agent.schema import Fault, FaultError
from controller import context, landing, outcome, turns
from controller.context import LOG
from controller.inventory import Device
from controller.landing import Ended
from controller.listener import label
from controller.retries import PAUSE
from controller.session import Job, Session
from controller.stored import MEASURED, status_of
from controller.tables import PROFILED

if TYPE_CHECKING:
    from controller.fleet import Fleet

MAX_TRIES = 3
MAX_LOST = 3  # launches in a row, of more than one cell: a cell that brings the device down need not speak for the others


@dataclass(slots=True)
class Lane:
    """The launches of these jobs on these devices, one at a time."""

    fleet: "Fleet"
    devices: Sequence[Device]
    jobs: Sequence[Job]
    _open: dict[str, Session] = field(default_factory=dict[str, Session])
    _set_aside: set[str] = field(default_factory=set[str])  # cell ids
    _lost: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # by device the cells of its launches lost in a row

    @property
    def name(self) -> str:
        """What tells the lane from the others."""
        return self.devices[0].name

    def run(self) -> None:
        """All rounds of this lane's cells, then the launches that time operations."""
        meters = [f"meter {meter}" for meter in sorted({device.meter for device in self.devices if device.meter})]
        try:
            with turns.turn(meters if self._left() else [], self.fleet.owner, self.fleet.patience, self.fleet.listener.say):
                self._run()
        except FaultError as error:
            self._leave_out([(job, error.fault) for job in self.jobs])
        finally:
            for session in self._open.values():
                session.close()

    def _run(self) -> None:
        for device in self.devices:
            with context.at(device=device.name):
                self._prepare(device, [job for job in self.jobs if job.cell.device == device.name])
        for round_ in range(self.fleet.launches):
            self._round(round_)
        for job in self.jobs:
            with context.at(device=job.cell.device, cell=job.id):
                self._profile(job)

    def _left(self) -> list[Job]:
        """The launches that are still to be made, each by its job, those that time operations last."""
        fleet = self.fleet
        jobs = [job for job in self.jobs if job.id not in self._set_aside]
        rounds = [job for job in jobs for _ in range(fleet.launches - len(fleet.done.get(job.id, {})))]
        return rounds + [job for job in jobs if job.id in fleet.unprofiled]

    def _prepare(self, device: Device, jobs: Sequence[Job]) -> None:
        """Connect, collect what an earlier controller left running, ship what is missing."""
        fleet = self.fleet
        missing = self._in_time([job for job in jobs if not self._is_done(job) or job.id in fleet.unprofiled])
        if not missing or fleet.stopping.is_set():
            return
        self._rest_others(device.name)
        session = fleet.session(device)
        try:
            fleet.listener.phase(device.name, "connect")
            fleet.sessions.append(session)
            probe = session.open()
            fleet.store.set_device(fleet.run_id, outcome.device_record(device, probe))
            self._open[device.name] = session
            expected = device.expect.power_mode
            if expected and probe.power_mode != expected:
                fleet.listener.say(f"{device.name}: its power mode is {probe.power_mode or 'not told'}, {expected} is expected")
            session.forget(*fleet.stored.get(device.name, ()))  # a controller may have died before it did
            self._collect_pending(session, jobs)
            fleet.listener.phase(device.name, "ship")
            faults = session.ship(missing, probe)
        except FaultError as error:
            fleet.listener.say(f"{device.name}: {error}")
            faults = {} if fleet.stopping.is_set() else {job.id: error for job in missing}
        if device.name not in self._open:
            session.abandon()
        shipped = session.shipped
        if device.name in self._open:
            total = shipped.agent + shipped.environments + shipped.artifacts
            parts = f"agent {shipped.agent:,}, environments {shipped.environments:,}, artifacts {shipped.artifacts:,}"
            fleet.listener.say(f"{device.name}: shipped {total:,} bytes ({parts})")
        fleet.listener.phase(device.name, "wait")
        self._leave_out([(job, faults[job.id].fault) for job in missing if job.id in faults])

    def _leave_out(self, left: Sequence[tuple[Job, Fault]]) -> None:
        """Note why cells cannot be measured; those that have all their launches, or were set aside before, stay as they are."""
        faults = [(job, fault) for job, fault in left if job.id not in self._set_aside and not self._is_done(job)]
        self.fleet.store.cell_faults(self.fleet.run_id, {job.id: fault for job, fault in faults})
        for job, fault in faults:
            self._set_aside.add(job.id)
            self.tell_left()
            told = {"device": job.cell.device, "cell": job.id, "code": fault.code}
            LOG.warning("%s is left out: %s", label(job), fault.message, extra={"fields": told})
            for _ in range(self.fleet.launches - len(self.fleet.done.get(job.id, {}))):
                self.fleet.listener.landed(job, status_of(fault))

    def _is_done(self, job: Job) -> bool:
        return len(self.fleet.done.get(job.id, {})) >= self.fleet.launches

    def _collect_pending(self, session: Session, jobs: Sequence[Job]) -> None:
        """Launches that were started for these cells and never stored: those that ran to their end count, the others run again."""
        by_id = {job.id: job for job in jobs}
        for launch, cell_id, round_ in self.fleet.pending:
            if cell_id in by_id:
                job = by_id[cell_id]
                follow = functools.partial(session.collect, launch, _ignore, profiled=round_ == PROFILED)
                with context.at(cell=job.id, launch=launch):
                    self.fleet.listener.phase(job.cell.device, "collect", job)
                    ended = landing.land(self.fleet, session, job, launch, round_, follow)
                if not ended.is_lost and ended.status != "cancelled" and round_ != PROFILED:
                    self._landed(job, ended.status)

    def _round(self, round_: int) -> None:
        fleet = self.fleet
        order = [job for job in self.jobs if round_ not in fleet.done.get(job.id, {})]
        random.Random(f"{fleet.run_id} {round_}").shuffle(order)  # noqa: S311 - an order, not a secret
        for job in interleaved(order):
            if fleet.stopping.is_set():
                return
            if job.cell.device not in self._open or job.id in self._set_aside or not self._in_time([job]):
                continue
            with context.at(device=job.cell.device, cell=job.id):
                self._rest_others(job.cell.device)
                try:
                    self._measure(job, round_)
                except FaultError as error:
                    if fleet.stopping.is_set():
                        return
                    self._lose(job.cell.device, error)

    def _in_time(self, jobs: Sequence[Job]) -> list[Job]:
        """Those whose next launch ends before the run's deadline; the others are left out."""
        end_s = self.fleet.patience.until_s - time.monotonic()
        late = [job for job in jobs if self.fleet.estimate.launch_s(job.id) > end_s]
        if late:
            why = "the run's deadline would have come before the end of its next launch"
            fault = Fault("deadline", "launch", why, "fleetmark run --resume goes on, with a later --deadline or none")
            self._leave_out([(job, fault) for job in late])
        return [job for job in jobs if job not in late]

    def _rest_others(self, device: str) -> None:
        """Let the lane's other hosts keep their leases while this one works, and where links are scarce close the others'."""
        for name, session in list(self._open.items()):
            if name != device:
                try:
                    session.link.keep(max(map(self.fleet.estimate.launch_s, [job.id for job in self.jobs]), default=0.0))
                except FaultError as error:
                    self._lose(name, error)
                if self.fleet.is_crowded:
                    session.link.drop()

    def _lose(self, device: str, error: FaultError) -> None:
        """Set a device aside; what it has finished by then, a resumed run collects."""
        self.fleet.listener.say(f"{device}: {error}; its other launches are left out")
        self._open.pop(device).abandon()
        self._leave_out([(job, error.fault) for job in self.jobs if job.cell.device == device])

    def _measure(self, job: Job, round_: int) -> None:
        """One launch, up to MAX_TRIES times if the device lost it, after growing pauses."""
        fleet, attempts = self.fleet, iter(range(MAX_TRIES))
        ended: Ended = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda ended: ended.is_lost),
            stop=lambda state: state.attempt_number >= MAX_TRIES or fleet.patience.is_over,
            wait=PAUSE,
            sleep=fleet.patience.sleep,
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )(lambda: self._try(job, round_, next(attempts)))
        self._landed(job, ended.status)

    def _try(self, job: Job, round_: int, attempt: int) -> Ended:
        fleet, session = self.fleet, self._open[job.cell.device]
        if attempt:
            session.upload_again(job)  # what is damaged or gone there may be why the launch was lost
        launch = f"{fleet.run_id}-{job.id}-{round_}-{attempt}-{secrets.token_hex(2)}"
        fleet.begin(job, round_, launch)
        measure = functools.partial(session.measure, job, launch, not fleet.done.get(job.id), functools.partial(self._hear, job))
        begun_s, queued_s = time.monotonic(), session.link.queued_s
        with context.at(launch=launch):
            self._hear(job, "start", None)
            ended = landing.land(fleet, session, job, launch, round_, measure)
        if ended.status in MEASURED:
            fleet.estimate.took(job.id, time.monotonic() - begun_s - (session.link.queued_s - queued_s))
        self._count_lost(job, ended)
        return ended

    def _count_lost(self, job: Job, ended: Ended) -> None:
        """Raises FaultError for a device that keeps losing launches, whichever cell they are of."""
        device = job.cell.device
        lost = [*self._lost.get(device, []), job.id] if ended.is_lost else []
        self._lost[device] = lost
        if ended.fault and len(lost) >= MAX_LOST and len(set(lost)) > 1:
            why = f"{device} was set aside after {len(lost)} lost launches in a row, the last: {ended.fault.message}"
            raise FaultError(ended.fault.code, why, f"fleetmark doctor {device}, then fleetmark run --resume", "launch")

    def _profile(self, job: Job) -> None:
        """One launch that times a measured cell's operations; whatever becomes of it, the cell stays as it is."""
        fleet, session = self.fleet, self._open.get(job.cell.device)
        wanted = job.id in fleet.unprofiled and job.id not in self._set_aside and self._is_done(job)
        late = time.monotonic() + fleet.estimate.launch_s(job.id) > fleet.patience.until_s
        if session is None or not wanted or fleet.patience.stopped.is_set() or late:
            return
        self._rest_others(job.cell.device)
        launch = f"{fleet.run_id}-{job.id}-operations-{secrets.token_hex(2)}"
        fleet.begin(job, PROFILED, launch)
        measure = functools.partial(session.profile_operations, job, launch, functools.partial(self._hear, job))
        try:
            with context.at(launch=launch):
                self._hear(job, "start", None)
                status = landing.land(fleet, session, job, launch, PROFILED, measure).status
            if status != "valid":
                fleet.listener.say(f"{job.cell.device}: the operations of {label(job)} could not be timed ({status})")
            self.tell_left()
        except FaultError as error:
            if not fleet.stopping.is_set():
                self._lose(job.cell.device, error)

    def _hear(self, job: Job, phase: str, clock_s: float | None) -> None:
        self.fleet.listener.phase(job.cell.device, phase, job, clock_s)

    def _landed(self, job: Job, status: str) -> None:
        """Tell of a launch that is over; a cell whose launch failed is set aside."""
        if status not in MEASURED | {"cancelled"}:
            self._set_aside.add(job.id)
        self.tell_left()
        self.fleet.listener.landed(job, status)

    def tell_left(self) -> None:
        """Tell the estimate what this lane has to do still."""
        self.fleet.estimate.has_left(self.name, [job.id for job in self._left()])


def interleaved(jobs: Sequence[Job]) -> Iterator[Job]:
    """The jobs of each device in their order, one device after the other: what one heats up cools while another works."""
    by_device: dict[str, list[Job]] = {}
    for job in jobs:
        by_device.setdefault(job.cell.device, []).append(job)
    return (job for job in chain.from_iterable(zip_longest(*by_device.values())) if job is not None)


def _ignore(*_: object) -> None:
    pass
