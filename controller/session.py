"""One device during a run: connecting, putting there what it needs, and measuring one launch after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agent.description import Probe
from agent.schema import Artifact, Cell, Event, FaultError, LaunchSpec, SampleFile
from controller import limits, metering, profiles, provision, redaction, runtimes, targets
from controller.base_transport import SLOWEST_BYTES_PER_S
from controller.collect import Collected, collect
from controller.dataset import Dataset
from controller.inventory import Device, Meter
from controller.link import Link
from controller.profiles import MAX_SAMPLES, Profile
from controller.provision import Choice
from controller.remote import Remote
from controller.retries import is_passing
from controller.timeouts import DEFAULT, Timeouts
from reports.comparison import UNSENSED

ENVIRONMENT_S = 3600.0  # for the slowest link to take a runtime, fetched before: how large it is, is not known until then
T = TypeVar("T")
OnPhase = Callable[[str, float | None], None]  # a phase's name, and the device's monotonic time if it is the device that tells


@dataclass(frozen=True, slots=True)
class Job:
    """A cell that can be measured: its artifact's files and its model's data."""

    id: str
    cell: Cell
    artifact: Artifact
    folder: Path
    dataset: Dataset
    runtimes: Sequence[Mapping[str, Any]] = ()  # what its manifest tells of them


@dataclass(slots=True)
class Shipped:
    """Bytes that went to the device."""

    agent: int = 0
    environments: int = 0
    artifacts: int = 0


@dataclass(slots=True)
class Session:
    """A device under measurement; its `link` is made anew when it is lost, until it has been gone too long."""

    device: Device
    owner: str
    profile: Profile
    cache: Path  # where fetched environments are kept on the controller
    wheelhouse: Path | None = None
    meter: Meter | None = None  # that the inventory names for the device
    timeouts: Timeouts = DEFAULT
    say: Callable[[str], None] = print
    shipped: Shipped = field(default_factory=Shipped)
    running: str = ""
    interrupted: bool = False
    link: Link = field(init=False)
    _choices: dict[str, Choice] = field(default_factory=dict[str, Choice])  # by cell id
    _provided: dict[tuple[str, str], Choice | FaultError] = field(default_factory=dict[tuple[str, str], Choice | FaultError])

    def __post_init__(self) -> None:
        self.link = Link(self.device, self.owner, self.timeouts, self.say)

    def open(self) -> Probe:
        """Connect, put the agent there, take the lease; give what the device says it is. Raises FaultError."""
        self.shipped.agent += self.link.open()
        probe = self.exchange(lambda remote: remote.probe())
        self.link.hold()
        return probe

    def ship(self, jobs: Sequence[Job], probe: Probe) -> dict[str, FaultError]:
        """Put environments, artifacts and data there; give the faults of jobs that cannot run for want of them, by cell id."""
        faults: dict[str, FaultError] = {}
        for job in jobs:
            try:
                self._choices[job.id] = choice = self.provide(job.cell.backend, job.cell.options, probe)
                runtimes.check(job.runtimes, job.cell.backend, choice)
            except FaultError as error:
                faults[job.id] = error
        files = dict(_files(job for job in jobs if job.id not in faults))
        self.link.keep(sum(file.stat().st_size for file in files.values()) / SLOWEST_BYTES_PER_S)
        self.shipped.artifacts += self.exchange(lambda remote: remote.upload(files))
        self.link.keep(0.0)
        return faults

    def provide(self, backend: str, options: Mapping[str, Any], probe: Probe) -> Choice:
        """Give what a backend with these options runs in, installed if it was not; asked again it answers the same. Raises FaultError."""
        key = backend, str(targets.options(self.device, backend, options).get("runtime", ""))
        if key not in self._provided:
            try:
                self._provided[key] = self._provide(backend, options, probe)
            except FaultError as error:
                if is_passing(error):
                    raise
                self._provided[key] = error
        provided = self._provided[key]
        if isinstance(provided, FaultError):
            raise provided
        return provided

    def _provide(self, backend: str, options: Mapping[str, Any], probe: Probe) -> Choice:
        choice = self.exchange(lambda remote: provision.choose(self.device, backend, options, probe, remote))
        there = {*probe.environments, *(one.folder for one in self._provided.values() if isinstance(one, Choice))}
        if choice.environment and choice.folder not in there:
            self.say(f"{self.device.name}: installing {choice.environment.runtime} for {backend}")
            self.link.keep(ENVIRONMENT_S)
            self.shipped.environments += provision.install(self.device, choice.environment, self.cache, self.wheelhouse, self.exchange)
        return choice

    def measure(self, job: Job, launch: str, evaluate: bool, on_phase: OnPhase) -> Collected:
        """Run one launch to its end, over as many connections as it takes, and give what it and its meter told. Raises FaultError."""
        spec = self._spec(job, launch, evaluate)
        if self.meter is None:
            return self._run(spec, on_phase)
        if why := profiles.unread(self.profile, job.cell.workload):
            return metering.unmetered(self._run(spec, on_phase), self.meter, why)
        with metering.Readings(self.meter) as readings:
            before = self.exchange(metering.compare)
            collected = self._run(spec, on_phase)
            after = self.exchange(metering.compare)
        return readings.added_to(collected, before.until(after))

    def profile_operations(self, job: Job, launch: str, on_phase: OnPhase) -> Collected:
        """Run one launch that times the operations of the profile's number of inferences, and nothing else. Raises FaultError."""
        spec = self._spec(job, launch, evaluate=False)
        spec = spec._replace(options={**spec.options, "profile": True}, profiled=self.profile.profiled_inferences, power=None, idle_s=0.0)
        return self._run(spec, on_phase)

    def _run(self, spec: LaunchSpec, on_phase: OnPhase) -> Collected:
        try:
            self.exchange(lambda remote: remote.start(spec))
        except FaultError as error:
            if error.fault.code != "busy":
                raise
            self.link.hold()  # a reboot voids leases; who has it since then is waited for
            self.exchange(lambda remote: remote.start(spec))
        self.link.rest(spec.warmup_min_s + spec.min_duration_s + 2 * spec.idle_s)
        return self.collect(spec.launch, on_phase, profiled=bool(spec.profiled))

    def collect(self, launch: str, on_phase: OnPhase, *, profiled: bool = False) -> Collected:
        """Follow a launch that has been started, now or long ago, and give what it told. Raises FaultError."""
        self.running = launch
        events: list[Event] = []
        allowance = limits.Allowance(limits.MAX_SPOOL_BYTES)

        def follow(remote: Remote) -> None:
            if self.interrupted:
                remote.cancel(launch)
            elif self.link.is_ended:
                raise FaultError("link_lost", f"{self.device.name}: launch {launch} goes on by itself", "fleetmark run --resume")
            for event in remote.follow(launch, len(events), allowance):
                events.append(event)
                if event.type == "phase":
                    on_phase(str(event.data.get("name", ""))[:20], event.t)

        def fetch(file: SampleFile) -> bytes:
            return self.exchange(lambda remote: remote.fetch(launch, file))

        try:
            self.exchange(follow)
            on_phase("fetch", None)
            collected = collect(events, fetch, profiled=profiled)
        finally:
            self.running = ""
        if self.meter is None or profiled:
            return collected
        return metering.unmetered(collected, self.meter, "this machine did not read it while the launch ran")

    def cancel(self, launch: str) -> None:
        """End a launch that may still run."""
        self.exchange(lambda remote: remote.cancel(launch))

    def forget(self, *launches: str) -> None:
        """Delete launches on the device that are in the store."""
        if launches:
            self.exchange(lambda remote: remote.forget(list(launches)))

    def upload_again(self, job: Job) -> None:
        """Put a job's files there that are not what they were. Raises FaultError."""
        self.shipped.artifacts += self.exchange(lambda remote: remote.upload(dict(_files(iter([job])))))

    def interrupt(self) -> None:
        """End the running launch, and any that is followed from now on; from another thread."""
        self.interrupted = self.link.is_ended = True
        launch, remote = self.running, self.link.remote
        if launch and remote is not None and remote.is_talking:
            remote.cancel(launch)

    def close(self) -> None:
        """Give the lease back and hang up."""
        self.link.close()

    def abandon(self) -> None:
        """Hang up without a word to the device, which cannot be reached."""
        self.link.abandon()

    def exchange(self, exchange: Callable[[Remote], T]) -> T:
        """The exchange's result; it must be one that may be made twice."""
        return self.link.exchange(exchange)

    def _spec(self, job: Job, launch: str, evaluate: bool) -> LaunchSpec:
        period_s = self.meter.period_s if self.meter and not profiles.unread(self.profile, job.cell.workload) else 0.0
        profile, choice = profiles.fitted(profiles.metered(self.profile, period_s), job.cell.workload), self._choices[job.id]
        power = self.device.power
        return LaunchSpec(
            launch=launch,
            owner=self.owner,
            artifact=job.artifact,
            backend=job.cell.backend,
            options=targets.options(self.device, job.cell.backend, job.cell.options),
            workload=profiles.driven(self.profile, job.cell.workload),
            python=choice.python,
            environment=choice.folder,
            environ=redaction.revealed(self.device.agent.env),
            data=job.dataset.sha256,
            feeds=list(job.dataset.feeds[job.cell.format]),
            evaluate=evaluate,
            min_duration_s=profile.min_duration_s,
            min_queries=profile.min_queries,
            warmup_min_s=profile.warmup_min_s,
            warmup_min_queries=profile.warmup_min_queries,
            warmup_max_s=profile.warmup_max_s,
            max_samples=MAX_SAMPLES,
            deadline_s=profile.deadline_s + targets.BUILD_S.get(job.cell.backend, 0.0),
            settle_max_temp_c=self.device.settle.max_temp_c,
            settle_timeout_s=self.device.settle.timeout_s if self.device.settle.max_temp_c is not None else 0.0,
            power=None if job.cell.variant.endswith(UNSENSED) else power and power.model_dump(exclude_none=True, mode="json"),
            idle_s=profiles.IDLE_READINGS * period_s,
        )


def _files(jobs: Iterator[Job]) -> Iterator[tuple[str, Path]]:
    for job in jobs:
        yield job.dataset.sha256, job.dataset.file
        for file in job.artifact.files:
            yield file.sha256, job.folder / file.name
