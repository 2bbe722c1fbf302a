"""Puts the runtimes that a device's backends need on it, and tries each one there."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agent.description import Probe
from agent.schema import Availability, Fault, FaultError
from controller import environments, profiles, provision, targets
from controller.errors import FleetmarkError
from controller.inventory import Device
from controller.provision import Choice, Exchange
from controller.remote import Remote
from controller.session import Session
from controller.visit import visiting

State = Literal["there", "missing", "shipped", "refused"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A backend that is to run, with the runtime (name or name==version) that it must be; None: the one that is preferred."""

    backend: str
    runtime: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """Give the backend's options."""
        return {"runtime": self.runtime} if self.runtime else {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one backend on a device; `size_bytes` is its environment's archive, `works` None where nobody tried."""

    backend: str
    state: State
    runtime: str = ""  # name==version of what is shipped, of what answered once it was tried
    python: str = ""  # the interpreter, where it is not the agent's own
    size_bytes: int = 0
    works: bool | None = None
    devices: tuple[str, ...] = ()
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a device; `shipped_bytes` of agent and environments together; `fault`: why no backend, or not every one, was tried."""

    device: str
    outcomes: tuple[Outcome, ...] = ()
    shipped_bytes: int = 0
    fault: Fault | None = None


def wanted(device: Device, backends: Sequence[str], runtimes: Sequence[str]) -> list[Wanted]:
    """Give what is to be set up on a device: its backends or those named; where runtimes are named, the backends that have them.

    Raises FleetmarkError for a runtime that no environment has, or that none of the backends uses.
    """
    chosen = list(dict.fromkeys(backends)) or list(targets.offered(device))
    if not runtimes:
        return [Wanted(backend) for backend in chosen]
    found = [Wanted(backend, runtime) for runtime in runtimes for backend in chosen if environments.candidates(backend, runtime)]
    for runtime in runtimes:
        if not any(one.runtime == runtime for one in found):
            known = sorted({one.runtime for backend in chosen for one in environments.candidates(backend)})
            message = f"{device.name}: no environment of {', '.join(chosen)} has {runtime}"
            raise FleetmarkError(message, next=f"use one of {', '.join(known)}")
    return found


def foresee(device: Device, asked: Sequence[Wanted], cache: Path) -> Report:
    """Give what `set_up` would ship; only the agent is put on the device, to look."""
    try:
        with visiting(device) as remote:
            probe = remote.probe()
            return Report(device.name, tuple(_foreseen(device, one, cache, probe, remote) for one in asked))
    except FaultError as error:
        return Report(device.name, fault=error.fault)


def _foreseen(device: Device, one: Wanted, cache: Path, probe: Probe, remote: Remote) -> Outcome:
    try:
        choice = provision.choose(device, one.backend, one.options, probe, remote)
    except FaultError as error:
        return Outcome(one.backend, "refused", fault=error.fault)
    state: State = "there" if choice.folder in ("", *probe.environments) else "missing"
    return _outcome(one.backend, choice, state, cache)


def _outcome(backend: str, choice: Choice, state: State, cache: Path) -> Outcome:
    if choice.environment is None:
        return Outcome(backend, state)
    size_bytes = environments.size_bytes(choice.environment, cache / "environments")
    return Outcome(backend, state, choice.environment.runtime, choice.python, size_bytes)


def set_up(device: Device, asked: Sequence[Wanted], owner: str, cache: Path, wheelhouse: Path | None, say: Callable[[str], None]) -> Report:
    """Ship and install what is missing, then try each runtime on the device; what is refused does not keep the others from it."""
    session = Session(device, owner, profiles.get("quick"), cache, wheelhouse=wheelhouse, say=say)
    outcomes: list[Outcome] = []
    fault = None
    try:
        probe = session.open()
        made = [_provide(session, one, probe) for one in asked]
        outcomes = [outcome for outcome, _ in made]
        found = try_runtimes(session.exchange, [(outcome.backend, choice) for outcome, choice in made])
        outcomes = [_tried(outcome, told) for outcome, told in zip(outcomes, found, strict=True)]
    except FaultError as error:
        fault = error.fault
    finally:
        session.close()
    return Report(device.name, tuple(outcomes), session.shipped.agent + session.shipped.environments, fault)


def _provide(session: Session, one: Wanted, probe: Probe) -> tuple[Outcome, Choice | None]:
    before = session.shipped.environments
    try:
        choice = session.provide(one.backend, one.options, probe)
    except FaultError as error:
        return Outcome(one.backend, "refused", fault=error.fault), None
    state: State = "there" if session.shipped.environments == before else "shipped"
    return _outcome(one.backend, choice, state, session.cache), choice


def try_runtimes(exchange: Exchange, chosen: Sequence[tuple[str, Choice | None]]) -> list[Availability | None]:
    """Give what each backend says in what was chosen for it, an interpreter at a time, since a probe tries one environment each."""
    found: dict[int, Availability] = {}
    left = {at: (backend, choice) for at, (backend, choice) in enumerate(chosen) if choice is not None}
    while left:
        python = next(iter(left.values()))[1].python
        batch = {backend: at for at, (backend, choice) in reversed(left.items()) if choice.python == python}
        told = exchange(functools.partial(_probe, python, {backend: left[at][1].folder for backend, at in batch.items()}))
        for backend, at in batch.items():
            del left[at]
            found[at] = told.get(backend) or Availability(backend, False, "", "", [], "the agent does not know this backend")
    return [found.get(at) for at in range(len(chosen))]


def _probe(python: str, folders: Mapping[str, str], remote: Remote) -> dict[str, Availability]:
    """What backends say under an interpreter (empty: the agent's own), each in an environment's folder."""
    other = Remote(remote.transport, remote.name, python or remote.python, remote.cache_dir, remote.environ)
    try:
        return {one.backend: one for one in other.probe(folders).backends}
    finally:
        other.hang_up()


def _tried(outcome: Outcome, told: Availability | None) -> Outcome:
    if told is None:
        return outcome
    if not told.ok:
        return replace(outcome, works=False, fault=Fault("env_missing", "probe", told.reason[:300], "fleetmark doctor tells more"))
    runtime = f"{told.runtime}=={told.version}" if told.version else outcome.runtime or told.runtime
    return replace(outcome, works=True, runtime=runtime, devices=tuple(told.devices))


def faults(report: Report) -> Iterator[Fault]:
    """Give all that went wrong on a device."""
    if report.fault:
        yield report.fault
    yield from (one.fault for one in report.outcomes if one.fault)
