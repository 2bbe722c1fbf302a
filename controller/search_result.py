"""What a search found: the Pareto set of each device, and the one variant for all of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller import pareto
from controller.measure import Latency
from controller.pareto import Point
from controller.search import fastest
from controller.trials import Trial

FLOOR_PP = 1.0
"""How much the variant for all may lose, where no limit says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A variant at a place, which is a device, in the format of its fastest backend there; or a format, where nothing is measured."""

    place: str
    trial: Trial
    format: str
    latency: Latency | None

    @property
    def point(self) -> Point:
        """Its figures."""
        trial, latency = self.trial, self.latency
        return Point(trial.recipe.name, trial.losses_pp[self.format], trial.sizes_bytes[self.format], latency and latency.median_s)


@dataclass(frozen=True, slots=True)
class Result:
    """`fronts` by place; `best` and its regret are None where no variant is within the floor everywhere; `counts` of trials by end."""

    fronts: Mapping[str, Sequence[Entry]]
    best: Trial | None
    regret: float | None
    floor_pp: float
    counts: Mapping[str, int]

    @property
    def shipped(self) -> list[tuple[Trial, str]]:
        """The variants of the Pareto sets and the best one, each with a format."""
        wanted = {(entry.trial.recipe.name, entry.format): entry.trial for front in self.fronts.values() for entry in front}
        if self.best is not None:
            used = {fastest(found).format for found in self.best.latencies.values()} or set(self.best.sizes_bytes)
            wanted |= {(self.best.recipe.name, format_): self.best for format_ in used}
        return [(trial, format_) for (_, format_), trial in sorted(wanted.items(), key=lambda item: item[0])]


def result(trials: Sequence[Trial], devices: Sequence[str], floor_pp: float | None) -> Result:
    """What the trials of a search amount to on these devices, or by format without any."""
    done = [one for one in trials if one.is_done]
    floor = FLOOR_PP if floor_pp is None else floor_pp
    entries = _measured(done, devices) if devices else _made(done)
    fronts = {place: _front(found) for place, found in entries.items()}
    costs = {
        place: {one.point.name: _cost(one) for one in found if one.point.loss_pp <= floor} for place, found in entries.items() if found
    }
    regrets = pareto.regrets(costs) if all(costs.values()) else {}
    by_name = {one.recipe.name: one for one in done}
    best = min(regrets, key=lambda name: (regrets[name], by_name[name].size_bytes, by_name[name].loss_pp), default=None)
    counts = Counter("done" if one.is_done else f"cut by {one.cut}" if one.cut else "failed" for one in trials)
    return Result(fronts, by_name[best] if best else None, regrets[best] if best else None, floor, dict(counts))


def _measured(done: Sequence[Trial], devices: Sequence[str]) -> dict[str, list[Entry]]:
    return {device: [_entry(device, one, fastest(one.latencies[device])) for one in done if device in one.latencies] for device in devices}


def _entry(device: str, trial: Trial, latency: Latency) -> Entry:
    return Entry(device, trial, latency.format, latency)


def _made(done: Sequence[Trial]) -> dict[str, list[Entry]]:
    formats = dict.fromkeys(format_ for one in done for format_ in one.sizes_bytes)
    return {format_: [Entry(format_, one, format_, None) for one in done if format_ in one.sizes_bytes] for format_ in formats}


def _front(entries: Sequence[Entry]) -> list[Entry]:
    by_name = {one.point.name: one for one in entries}
    return [by_name[point.name] for point in pareto.front(one.point for one in entries)]


def _cost(entry: Entry) -> float:
    return entry.trial.sizes_bytes[entry.format] if entry.latency is None else entry.latency.median_s
