"""What becomes of a launch once it has been followed to its end: stored, then deleted on its device."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from agent.schema import Fault, FaultError
from controller import outcome, outputs
from controller.collect import Collected, Samples
from controller.context import LOG
from controller.listener import label
from controller.retries import is_passing
from controller.session import Job, Session
from controller.tables import PROFILED

if TYPE_CHECKING:
    from controller.fleet import Fleet

AGAIN = frozenset({"link_lost", "rebooted", "crash", "protocol"})  # of a launch whose supervisor or link is gone
REFUSED = frozenset({"auth", "host_key"})  # by a device that was there before: it wants a person, its launches go on meanwhile
UNBEGUN = frozenset({"busy", "deadline", "cancelled"})  # why a launch could not even be started


class Ended(NamedTuple):
    """What became of a launch; `is_lost`: the device lost it, and it is worth another try."""

    status: str
    fault: Fault | None
    is_lost: bool


def land(fleet: "Fleet", session: Session, job: Job, launch: str, round_: int, measure: Callable[[], Collected]) -> Ended:
    """Store the launch's outcome.

    Raises FaultError where the device cannot be had any more: the launch then stays open, to be collected by a resumed run.
    """
    try:
        collected = measure()
    except FaultError as error:
        if is_passing(error) or error.fault.code in UNBEGUN | REFUSED:
            raise
        collected = Collected(fault=error.fault)
    raw = _derive(fleet, collected, job)
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
    _clear(fleet, session, launch, collected.complete)
    fleet.listener.phase(job.cell.device, "wait")
    return Ended(found.status, fault, fault is not None and not collected.complete and fault.code in AGAIN)


def _derive(fleet: "Fleet", collected: Collected, job: Job) -> list[Samples]:
    try:
        return outputs.derive(collected, job, fleet.reference) if collected.fault is None else []
    except FaultError as error:
        collected.fault = error.fault
        return []


def _clear(fleet: "Fleet", session: Session, launch: str, ended: bool) -> None:
    """Delete a stored launch on its device; one that was given up is ended first, so that it is in nobody's way."""
    for step in (session.forget,) if ended else (session.cancel, session.forget):  # one that cannot be ended may be over
        try:
            step(launch)
        except FaultError as error:
            if is_passing(error) or error.fault.code in REFUSED:
                raise
            what = "stays there" if step == session.forget else "could not be ended"
            fleet.listener.say(f"{session.device.name}: launch {launch} {what}: {error}")


def _log(job: Job, status: str, fault: Fault | None) -> None:
    told = {"status": status, "code": fault.code if fault else "", "phase": fault.phase if fault else ""}
    text = f"{job.cell.device}: the launch of {label(job)} is {status}" + (f": {fault.message}" if fault else "")
    LOG.log(logging.WARNING if fault else logging.INFO, text, extra={"fields": told})
