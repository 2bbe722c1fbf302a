"""One lane: the devices of one host or meter, their cells interleaved in rounds, every launch stored as it lands."""

import functools
import logging
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.schema import Fault, FaultError
from controller import context, outcome, outputs
from controller.collect import Collected, Samples
from controller.context import LOG
from controller.inventory import Device
from controller.listener import label
from controller.session import Job, Session, is_passing
from controller.stored import status_of
from controller.tables import PROFILED

if TYPE_CHECKING:
    from controller.fleet import Fleet

MAX_TRIES = 3
AGAIN = frozenset({"link_lost", "rebooted", "crash", "protocol"})  # of a launch whose supervisor or link is gone


@dataclass(slots=True)
class Lane:
    """The launches of these jobs on these devices, one at a time."""

    fleet: "Fleet"
    devices: Sequence[Device]
    jobs: Sequence[Job]
    _open: dict[str, Session] = field(default_factory=dict[str, Session])
    _set_aside: set[str] = field(default_factory=set[str])  # cell ids

    def run(self) -> None:
        """All rounds of this lane's cells, then the launches that time operations."""
        try:
            for device in self.devices:
                with context.at(device=device.name):
                    self._prepare(device, [job for job in self.jobs if job.cell.device == device.name])
            for round_ in range(self.fleet.launches):
                self._round(round_)
            for job in self.jobs:
                with context.at(device=job.cell.device, cell=job.id):
                    self._profile(job)
        finally:
            for session in self._open.values():
                session.close()

    def _prepare(self, device: Device, jobs: Sequence[Job]) -> None:
        """Connect, collect what an earlier controller left running, ship what is missing."""
        fleet = self.fleet
        missing = [job for job in jobs if not self._is_done(job) or job.id in fleet.unprofiled]
        if not missing or fleet.stopping.is_set():
            return
        session = fleet.open_session(device)
        try:
            fleet.listener.phase(device.name, "connect")
            fleet.sessions.append(session)
            probe = session.open()
            fleet.store.set_device(fleet.run_id, outcome.device_record(device, probe))
            self._open[device.name] = session
            expected = device.expect.power_mode
            if expected and probe.power_mode != expected:
                fleet.listener.say(f"{device.name}: its power mode is {probe.power_mode or 'not told'}, {expected} is expected")
            self._collect_pending(session, jobs)
            fleet.listener.phase(device.name, "ship")
            faults = session.ship(missing, probe)
        except FaultError as error:
            fleet.listener.say(f"{device.name}: {error}")
            faults = {job.id: error for job in missing}
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
                    status, again = self._finish(session, job, launch, round_, follow)
                if not again and status != "cancelled" and round_ != PROFILED:
                    self._landed(job, status)

    def _round(self, round_: int) -> None:
        fleet = self.fleet
        order = [job for job in self.jobs if round_ not in fleet.done.get(job.id, {})]
        random.Random(f"{fleet.run_id} {round_}").shuffle(order)  # noqa: S311 - an order, not a secret
        for job in order:
            if fleet.stopping.is_set():
                return
            if job.cell.device not in self._open or job.id in self._set_aside:
                continue
            with context.at(device=job.cell.device, cell=job.id):
                try:
                    self._measure(job, round_)
                except FaultError as error:
                    self._lose(job.cell.device, error)

    def _lose(self, device: str, error: FaultError) -> None:
        """Set a device aside that cannot be reached any more; what it has finished by then, a resumed run collects."""
        self.fleet.listener.say(f"{device}: {error}; its other launches are left out")
        self._open.pop(device).abandon()
        self._leave_out([(job, error.fault) for job in self.jobs if job.cell.device == device])

    def _measure(self, job: Job, round_: int) -> None:
        """One launch, up to MAX_TRIES times if the device lost it."""
        fleet, session = self.fleet, self._open[job.cell.device]
        status = "failed"
        for attempt in range(MAX_TRIES):
            launch = f"{fleet.run_id}-{job.id}-{round_}-{attempt}-{secrets.token_hex(2)}"
            fleet.store.begin_launch(fleet.run_id, job.id, round_, launch, now())
            measure = functools.partial(session.measure, job, launch, not fleet.done.get(job.id), functools.partial(self._hear, job))
            with context.at(launch=launch):
                self._hear(job, "start", None)
                status, again = self._finish(session, job, launch, round_, measure)
            if not again or fleet.stopping.is_set():
                break
        self._landed(job, status)

    def _profile(self, job: Job) -> None:
        """One launch that times a measured cell's operations; whatever becomes of it, the cell stays as it is."""
        fleet, session = self.fleet, self._open.get(job.cell.device)
        wanted = job.id in fleet.unprofiled and job.id not in self._set_aside and self._is_done(job)
        if session is None or not wanted or fleet.stopping.is_set():
            return
        launch = f"{fleet.run_id}-{job.id}-operations-{secrets.token_hex(2)}"
        fleet.store.begin_launch(fleet.run_id, job.id, PROFILED, launch, now())
        measure = functools.partial(session.profile_operations, job, launch, functools.partial(self._hear, job))
        try:
            with context.at(launch=launch):
                self._hear(job, "start", None)
                status, _ = self._finish(session, job, launch, PROFILED, measure)
            if status != "valid":
                fleet.listener.say(f"{job.cell.device}: the operations of {label(job)} could not be timed ({status})")
        except FaultError as error:
            self._lose(job.cell.device, error)

    def _hear(self, job: Job, phase: str, clock_s: float | None) -> None:
        self.fleet.listener.phase(job.cell.device, phase, job, clock_s)

    def _landed(self, job: Job, status: str) -> None:
        """Tell of a launch that is over; a cell whose launch failed is set aside."""
        self.fleet.listener.landed(job, status)
        if status not in outcome.MEASURED | {"cancelled"}:
            self._set_aside.add(job.id)

    def _finish(self, session: Session, job: Job, launch: str, round_: int, measure: Callable[[], Collected]) -> tuple[str, bool]:
        """Store the launch's outcome; give its status and whether it is worth another try.

        Raises FaultError where the device cannot be reached any more: the launch then stays open, to be collected by a resumed run.
        """
        fleet = self.fleet
        try:
            collected = measure()
        except FaultError as error:
            if is_passing(error):
                raise
            collected = Collected(fault=error.fault)
        raw = self._derive(collected, job)
        found, fault = outcome.outcome(collected, job, session.device), collected.fault
        _log(job, found.status, fault)
        if fault is None and round_ == PROFILED:
            fleet.unprofiled.discard(job.id)
        elif fault is None:
            fleet.done.setdefault(job.id, {})[round_] = launch
        samples = collected.samples | {
            one.metric: one for one in (*raw, *found.samples)
        }  # what we derive ourselves a device does not tell better
        fleet.store.finish_launch(outcome.record(launch, round_, collected, found), list(samples.values()))
        self._clear(session, launch, collected.complete)
        fleet.listener.phase(job.cell.device, "wait")
        return found.status, fault is not None and not collected.complete and fault.code in AGAIN

    def _derive(self, collected: Collected, job: Job) -> list[Samples]:
        try:
            return outputs.derive(collected, job, self.fleet.reference) if collected.fault is None else []
        except FaultError as error:
            collected.fault = error.fault
            return []

    def _clear(self, session: Session, launch: str, ended: bool) -> None:
        """Delete a stored launch on its device; one that was given up is ended first, so that it is in nobody's way."""
        try:
            if not ended:
                session.cancel(launch)
            session.forget(launch)
        except FaultError as error:
            if is_passing(error):
                raise
            self.fleet.listener.say(f"{session.device.name}: launch {launch} stays there: {error}")


def _log(job: Job, status: str, fault: Fault | None) -> None:
    told = {"status": status, "code": fault.code if fault else "", "phase": fault.phase if fault else ""}
    text = f"{job.cell.device}: the launch of {label(job)} is {status}" + (f": {fault.message}" if fault else "")
    LOG.log(logging.WARNING if fault else logging.INFO, text, extra={"fields": told})


def _ignore(*_: object) -> None:
    pass


def now() -> str:
    """Give the time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
