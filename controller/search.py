"""Searches recipes and strengths for what loses little, is small, and is fast on the devices at hand."""

import hashlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from agent.schema import Artifact, Fault, FaultError, fingerprint
from compress import making, provenance
from compress.build import Variant
from compress.recipes import Recipe
from compress.records import Context, Data, Source
from compress.techniques import implementations
from controller import lanes, measure, search_space
from controller.bench import Bench, Order, told
from controller.engine import Engine, Local
from controller.errors import FleetmarkError
from controller.inventory import Device
from controller.measure import Latency
from controller.search_space import Family
from controller.trials import Asked, Stage, Trial, Trials

SHORT = 0.25
"""The share of its epochs that a recipe trains first."""

GAIN_PP = 2.0
"""How many points the rest of the training is trusted to win back."""

SMALLER = 1.1
"""How many times smaller another variant has to be that loses no more, for a loser."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a variant may be at most; None: anything."""

    size_bytes: int | None = None
    drop_pp: float | None = None
    latency_ms: float | None = None


@dataclass(slots=True)
class _Attempt:
    """A recipe on its way; `formats` are those that it is still made in."""

    asked: Asked
    trains: bool
    formats: list[str]
    trial: Trial
    artifacts: dict[str, tuple[Artifact, Path]] = field(default_factory=dict[str, tuple[Artifact, Path]])

    @property
    def goes_on(self) -> bool:
        return self.trial.cut is None and bool(self.formats)

    def begin(self) -> None:
        """Forget what an earlier stage found."""
        self.trial = replace(self.trial, sizes_bytes={}, losses_pp={}, accuracies={})

    def add(self, format: str, variant: Variant) -> None:  # noqa: A002  (the domain's word)
        """Take a variant in, verified with the held-out samples."""
        trial, manifest = self.trial, variant.manifest
        accuracy = float(manifest["accuracy"])
        loss_pp = round(100 * (float(manifest["reference_accuracy"]) - accuracy), 6)
        self.artifacts[format] = variant.artifact, variant.folder
        self.trial = replace(
            trial,
            sizes_bytes={**trial.sizes_bytes, format: sum(file.size_bytes for file in variant.artifact.files)},
            losses_pp={**trial.losses_pp, format: loss_pp},
            accuracies={**trial.accuracies, format: accuracy},
        )

    def fail(self, where: str, fault: Fault) -> None:
        """Do without a format, or a device, for a reason."""
        self.trial = replace(self.trial, faults={**self.trial.faults, where: told(fault)})
        self.formats = [one for one in self.formats if one != where]


@dataclass(slots=True)
class Search:
    """The search over one model.

    Objectives: points lost on held-out samples, bytes, and with devices the geometric mean over them of the latency, each as a ratio to
    that of the first variant measured there. Optuna prunes no trials of several objectives, so losers are cut here: those over a limit,
    and those that are beaten, which is when another variant loses no more and is SMALLER times smaller. With devices, of whose speed size
    says little, that other one must end with the same arithmetic. A recipe that trains is judged thrice: by its untrained size, as if it
    lost nothing; after a short training, as if the rest would win back GAIN_PP; and trained. One that does not train is judged once. What
    is left is measured.
    """

    bench: Bench
    model: str
    devices: Sequence[Device]
    limits: Limits
    trials: Trials
    engine: Engine
    say: Callable[[str], None]
    keep_all: bool = False
    _done: list[Trial] = field(default_factory=list[Trial])
    _lost: set[str] = field(default_factory=set[str])

    def run(self, trials: int, timeout_s: float, at_once: int) -> None:
        """Go on until so many trials are told in all, the time is over (those begun are finished), or nothing is left to try.

        Interrupted, it keeps what was told; what was begun is tried again by the next search with the same file.
        """
        before = self.trials.told
        self._done = [one for one in before if one.is_done]
        count, end = len(before), time.monotonic() + timeout_s
        while count < trials and time.monotonic() < end:
            asked = [one for one in (self.trials.ask() for _ in range(min(at_once, trials - count))) if one is not None]
            if not asked:
                self.say("every recipe was tried")
                return
            for attempt in self._try(asked):
                trial, count = attempt.trial, count + 1
                self._done += [trial] if trial.is_done else []
                self.trials.tell(attempt.asked, trial, self._values(trial) if trial.is_done else ())
                self.say(f"{count}/{trials} {_line(trial)}")

    def _try(self, asked: Sequence[Asked]) -> list[_Attempt]:
        attempts = [
            _Attempt(one, self._with_epochs(one.recipe, 0) != one.recipe, list(one.family.formats), Trial(one.recipe)) for one in asked
        ]
        training = [one for one in attempts if one.trains]
        self._weigh(training)
        self._cut(training, "size", lambda _: 0.0)
        self._build(training, SHORT)
        self._cut(training, "short training", lambda trial: trial.loss_pp - GAIN_PP)
        self._build(attempts, 1.0)
        self._cut(attempts, "accuracy", lambda trial: trial.loss_pp)
        for attempt in attempts:
            self._measure(attempt)
            attempt.trial = replace(attempt.trial, is_done=attempt.goes_on and bool(attempt.trial.latencies or not self.devices))
        return attempts

    def _with_epochs(self, recipe: Recipe, share: float) -> Recipe:
        return search_space.trained(recipe, making.formats(self.bench.sources[self.model]), share)

    def _weigh(self, attempts: Sequence[_Attempt]) -> None:
        """The sizes of what is made without training."""
        source, data, context = self.bench.sources[self.model], self.bench.datasets[self.model].data, self.bench.context
        jobs = [
            _Weighing(at, source, self._with_epochs(one.asked.recipe, 0), format_, data, context)
            for at, one in enumerate(attempts)
            for format_ in one.formats
        ]
        sizes: list[dict[str, int]] = [{} for _ in attempts]
        for job, outcome in Local().run(_weigh, jobs) if jobs else ():
            if isinstance(outcome, Fault):
                attempts[job.at].fail(job.format, outcome)
            else:
                sizes[job.at][job.format] = outcome
        for attempt, found in zip(attempts, sizes, strict=True):
            attempt.trial = replace(attempt.trial, sizes_bytes=found)

    def _build(self, attempts: Sequence[_Attempt], share: float) -> None:
        """Variants trained for a share of their epochs, verified with the held-out samples."""
        data = held_out(self.bench.datasets[self.model].data)
        places: dict[tuple[str, str], _Attempt] = {}
        orders: list[Order] = []
        for attempt in attempts:
            recipe = attempt.asked.recipe if share == 1.0 else self._with_epochs(attempt.asked.recipe, share)
            going = attempt.formats if attempt.goes_on else []
            places.update({(recipe.name, format_): attempt for format_ in going})
            orders += [Order(self.model, recipe, format_, data) for format_ in going]
            if going:
                attempt.begin()
        for order, outcome in self.bench.build(orders, self.engine) if orders else ():
            attempt = places[order.recipe.name, order.format]
            refusal = outcome if isinstance(outcome, Fault) else None if self.keep_all or share < 1 else outcome.refusal
            if refusal is not None:
                attempt.fail(order.format, refusal)
            elif isinstance(outcome, Variant):
                attempt.add(order.format, outcome)

    def _cut(self, attempts: Sequence[_Attempt], stage: Stage, loss_pp: Callable[[Trial], float]) -> None:
        """Give up the losers, if they lost so much."""
        for attempt in attempts:
            if attempt.goes_on and self._is_loser(attempt.trial, loss_pp(attempt.trial)):
                attempt.trial = replace(attempt.trial, cut=stage)

    def _is_loser(self, trial: Trial, loss_pp: float) -> bool:
        limits = self.limits
        if limits.size_bytes is not None and trial.size_bytes > limits.size_bytes:
            return True
        if limits.drop_pp is not None and loss_pp > limits.drop_pp:
            return True
        return any(
            one.loss_pp <= loss_pp and SMALLER * one.size_bytes <= trial.size_bytes
            for one in self._done
            if not self.devices or _arithmetic(one.recipe) == _arithmetic(trial.recipe)
        )

    def _measure(self, attempt: _Attempt) -> None:
        """Latencies on the devices, one host after the other on each lane; a device that does not answer is left out from then on."""
        devices = [one for one in self.devices if one.name not in self._lost]
        if not attempt.goes_on or not devices:
            return
        model = measure.Model(self.model, measure.light(self.bench.datasets[self.model]))

        def ask(device: Device) -> dict[str, Latency | Fault] | FaultError:
            try:
                return measure.latencies(device, model, attempt.asked.recipe, attempt.artifacts, self.say)
            except FaultError as error:
                return error

        latencies: dict[str, tuple[Latency, ...]] = {}
        faults = dict(attempt.trial.faults)
        for device, found in zip(devices, lanes.each(devices, ask), strict=True):
            if isinstance(found, FaultError):
                self._lost.add(device.name)
                faults[device.name] = told(found.fault)
                self.say(f"{device.name} is left out from now on: {told(found.fault)}")
                continue
            faults |= {f"{device.name} {backend}": told(one) for backend, one in found.items() if isinstance(one, Fault)}
            measured = tuple(one for one in found.values() if isinstance(one, Latency))
            latencies |= {device.name: measured} if measured else {}
        attempt.trial = replace(attempt.trial, latencies=latencies, faults=faults)
        limit_ms = self.limits.latency_ms
        if limit_ms is not None and any(1000 * fastest(found).median_s > limit_ms for found in latencies.values()):
            attempt.trial = replace(attempt.trial, cut="latency")

    def _values(self, trial: Trial) -> list[float]:
        """The objectives of a trial that is done."""
        values = [trial.loss_pp, float(trial.size_bytes)]
        if not self.devices:
            return values
        firsts = {device: next(one for one in self._done if device in one.latencies) for device in trial.latencies}
        ratios = [fastest(found).median_s / fastest(firsts[device].latencies[device]).median_s for device, found in trial.latencies.items()]
        return [*values, statistics.geometric_mean(ratios)]


def held_out(data: Data) -> Data:
    """The data with the held-out samples in place of the evaluation samples, by which nothing may be chosen; raises FleetmarkError."""
    if data.held_out is None or data.held_out.labels is None:
        raise FleetmarkError(
            "a search chooses by held-out samples with labels, and the data has none",
            next="add held_ arrays and held_labels to the data file, or train_ ones, of which a tenth is held out",
        )
    return replace(data, eval_feeds=data.held_out.feeds, labels=data.held_out.labels)


def question(source: Source, data: Data, families: Mapping[str, Family], devices: Sequence[Device], limits: Limits) -> str:
    """What makes two searches the same, in a fingerprint: their trials can be told apart by nothing else."""
    files = [source.onnx, source.tflite, *((source.torch.file, source.torch.weights) if source.torch else ())]
    record = {
        "files": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path is not None],
        "data": [provenance.arrays_digest(data.eval_feeds), provenance.arrays_digest({"labels": np.asarray(data.labels)}), data.task],
        "families": [[name, search_space.key(family.recipe), list(family.formats)] for name, family in families.items()],
        "devices": [device.name for device in devices],
        "limits": asdict(limits),
    }
    return fingerprint(record)


def fastest(found: Sequence[Latency]) -> Latency:
    """Of a device's backends the one with the least median."""
    return min(found, key=lambda one: one.median_s)


def _arithmetic(recipe: Recipe) -> str:
    """What computes in the end: the last technique if it quantises, else floats."""
    last = recipe.steps[-1].technique if recipe.steps else ""
    return last if any(one.name == last and not one.stays_float for one in implementations()) else "float"


@dataclass(frozen=True, slots=True, eq=False)
class _Weighing:
    """A recipe to make without training, for its size alone; `at` is its place among those of its kind."""

    at: int
    source: Source
    recipe: Recipe
    format: str
    data: Data
    context: Context


def _weigh(job: _Weighing) -> int:
    """The bytes of what is made, before it is compiled for an accelerator."""
    recipe, format_ = search_space.uncompiled(job.recipe, job.format)
    folder = making.made(making.check(job.source, recipe, format_, job.data, job.context))
    return sum(file.size_bytes for file in making.artifact(folder, format_).files)


def _line(trial: Trial) -> str:
    """What became of a trial, for those who wait."""
    name = trial.recipe.name
    if trial.cut:
        return f"{name}: cut by its {trial.cut}"
    if not trial.is_done:
        return f"{name}: failed: {'; '.join(f'{where} {why}' for where, why in trial.faults.items())}"
    took = "".join(f", {1000 * fastest(found).median_s:.3g} ms on {device}" for device, found in trial.latencies.items())
    return f"{name}: {trial.size_bytes:,} bytes, loses {trial.loss_pp:.2f} pp{took}"
