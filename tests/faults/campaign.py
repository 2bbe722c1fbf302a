"""One campaign: a seed's devices, suite and faults, a run that is resumed until it is through, and what is found afterwards."""

import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from controller.errors import FleetmarkError
from controller.store import Store
from faults import controllers, files, links, processes, suite
from faults.board import ADDRESSES, Board
from faults.checks import Evidence, is_through, problems
from faults.controller import Controller
from faults.device import Device
from faults.evidence import EMPTY, leftovers, read_store, run_id
from faults.kinds import KINDS, Kind, Missed, Scene, befalling
from faults.limits import HUNG_S, SCALE
from faults.machine import Machine

__all__ = ["Campaign", "Outcome", "controllers", "files", "links", "processes"]  # the modules of faults register them

MAX_RESUMES = 3  # once all faults are over
FAULTS_AT_LEAST, FAULTS_AT_MOST = 2, 4
LATEST_S = 5.0 * SCALE  # when a fault begins, after a controller has reached a device
REPORT_EACH = 5


@dataclass(slots=True)
class Outcome:
    """What a campaign gave: `hit` are the faults that found what they were for."""

    seed: int
    evidence: Evidence | None = None
    problems: list[str] = field(default_factory=list[str])
    timeline: list[str] = field(default_factory=list[str])
    hit: list[str] = field(default_factory=list[str])
    missed: list[str] = field(default_factory=list[str])
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, on which device and when."""

    kind: Kind
    device: Machine
    at_s: float
    rng: random.Random


class Campaign:
    """One seed. `cache` is shared by all campaigns: models, and what controllers make of them.

    `where` it befalls: loopback devices of its own or, for board, the emulated ones of tests/lab, which run.
    """

    def __init__(self, seed: int, cache: Path, only: str = "", where: str = "loopback") -> None:
        self.outcome = Outcome(seed)
        self._rng = random.Random(seed)  # noqa: S311 - what can be seen again, not a secret
        self._cache = cache
        self._only = only
        self._where = where
        self._begun_s = time.monotonic()
        self._connected = threading.Event()
        self._over = threading.Event()
        self._locks: dict[str, threading.Lock] = {}

    def run(self) -> Outcome:
        """Go through with it; whatever is wrong is in the outcome."""
        folder = Path(tempfile.mkdtemp(prefix="fleetmark-faults-"))
        try:
            with ExitStack() as stack:
                self._run(folder, stack)
        finally:
            self.outcome.seconds = time.monotonic() - self._begun_s
            shutil.rmtree(folder, ignore_errors=True)
        return self.outcome

    def _run(self, folder: Path, stack: ExitStack) -> None:
        kinds = self._kinds()
        devices = list(self._devices(folder, stack))
        controller = Controller(folder / "lab", self._cache)
        stack.callback(controller.close)
        planned = [self._plan(kind, devices) for kind in kinds]
        rounds = suite.write(controller.folder, devices, self._rng, slow=any(kind.prepare for kind in kinds))
        threads = [threading.Thread(target=self._inject, args=(one, controller), daemon=True) for one in planned]
        codes = self._control(controller, threads, rounds, devices, planned)
        evidence = self._evidence(controller, devices, planned, rounds, codes)
        left = [line for device in devices for line in leftovers(device)]
        self.outcome.evidence = Evidence(
            rounds, evidence.cells, evidence.rows, evidence.reasons, left, self._check(controller), codes, self._report(controller)
        )
        self.outcome.problems = problems(self.outcome.evidence)
        if self.outcome.problems:
            self.outcome.timeline += [f"        | {line}" for line in controller.log.read_text(errors="replace").splitlines()]

    def _say(self, text: str) -> None:
        self.outcome.timeline.append(f"{time.monotonic() - self._begun_s:7.2f} {text}")

    def _kinds(self) -> list[Kind]:
        if self._only:
            return [KINDS[self._only]]
        return self._rng.sample(befalling(self._where), self._rng.randint(FAULTS_AT_LEAST, FAULTS_AT_MOST))

    def _devices(self, folder: Path, stack: ExitStack) -> Iterator[Machine]:
        names = ADDRESSES if self._where == "board" else [f"d{at}" for at in range(self._rng.choice([2, 2, 3]))]
        for name in names:
            device = Board(name) if self._where == "board" else Device(folder / name, name, clock_library(self._cache))
            stack.callback(device.close)
            yield device

    def _plan(self, kind: Kind, devices: list[Machine]) -> Planned:
        device = self._rng.choice(devices)
        if kind.prepare:
            kind.prepare(device)
        at_s = 0.0 if kind.is_early else self._rng.uniform(0.1, LATEST_S)
        return Planned(kind, device, at_s, random.Random(self._rng.random()))  # noqa: S311 - the same

    def _inject(self, planned: Planned, controller: Controller) -> None:
        """Wait for the fault's moment, do it, wait, undo it; one at a time befalls a device or the controller."""
        kind, place = planned.kind, "controller" if planned.kind.is_shared else planned.device.name
        if not kind.is_early:
            self._connected.wait()
        if self._over.wait(planned.at_s):
            self.outcome.missed.append(kind.name)
            return
        with self._locks.setdefault(place, threading.Lock()):
            effect = kind.do(Scene(planned.device, controller, planned.rng))
            try:
                lasts_s = next(effect)
            except (Missed, OSError, psutil.Error) as missed:
                self.outcome.missed.append(kind.name)
                self._say(f"{place}: {kind.name}: missed {missed}")
                return
            self.outcome.hit.append(kind.name)
            self._say(f"{place}: {kind.name}, for {lasts_s:.1f} s")
            time.sleep(lasts_s)
            with suppress(OSError, psutil.Error):
                next(effect, None)
            if lasts_s:
                self._say(f"{place}: {kind.name} is over")

    def _control(
        self, controller: Controller, threads: list[threading.Thread], rounds: int, devices: list[Machine], planned: list[Planned]
    ) -> list[int | None]:
        """The exit codes of all controllers until the run is through, the faults begun with the first."""
        codes: list[int | None] = []
        words = ["run", "suite.yaml"]
        for thread in threads:
            thread.start()
        left = MAX_RESUMES
        while left:
            if len(codes) > MAX_RESUMES:
                for thread in threads:
                    thread.join()
            left -= not any(thread.is_alive() for thread in threads)
            controller.start(*words)
            self._await_connection(controller, devices)
            code = controller.wait(HUNG_S)
            self._say(f"the controller ended with {code}")
            codes.append(code)
            if code is None:
                break
            run = run_id(controller)
            words = ["run", "--resume", run] if run else words
            if code in (0, 3) and is_through(self._evidence(controller, devices, planned, rounds, codes)):
                break
        self._over.set()
        self._connected.set()
        controller.goes_on = False
        for thread in threads:
            thread.join()
        return codes

    def _await_connection(self, controller: Controller, devices: list[Machine]) -> None:
        """Have the faults wait until a device has been reached: before, a controller prepares models, for as long as that takes."""
        while controller.is_running() and not self._connected.is_set():
            if any(os.path.exists(device.cache.root) for device in devices):
                self._connected.set()
            time.sleep(0.02)

    def _evidence(
        self, controller: Controller, devices: list[Machine], planned: list[Planned], rounds: int, codes: list[int | None]
    ) -> Evidence:
        cells, rows = read_store(controller, {device.name: device.tag for device in devices})
        return Evidence(rounds, cells, rows, _reasons(devices, planned), exit_codes=codes)

    def _check(self, controller: Controller) -> list[str]:
        try:
            store = Store.open(controller.results)
        except FleetmarkError as error:
            return [error.message]
        with closing(store):
            return store.check()

    def _report(self, controller: Controller) -> list[str]:
        """What is wrong with the report, which takes as long as a whole campaign and is looked at now and then."""
        if self.outcome.seed % REPORT_EACH:
            return []
        controller.start("report", "latest")
        code = controller.wait(5 * HUNG_S)
        return [] if code == 0 else [f"the report ended with {code}"]


def _reasons(devices: list[Machine], planned: list[Planned]) -> dict[str, frozenset[str]]:
    shared = EMPTY.union(*(one.kind.reasons for one in planned if one.kind.is_shared))
    return {
        device.tag: shared.union(*(one.kind.reasons for one in planned if one.device is device and not one.kind.is_shared))
        for device in devices
    }


def clock_library(cache: Path) -> Path:
    """The compiled clock.c, made once."""
    library = cache / "clock.so"
    if not library.exists():
        source = Path(__file__).with_name("clock.c")
        part = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(part), str(source), "-ldl"], check=True)
        part.replace(library)
    return library
