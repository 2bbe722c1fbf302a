"""What a search has tried, and where it is kept: an Optuna study in one SQLite file, from which it goes on."""
# optuna is typed in part, and an optional install.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from compress.recipes import Recipe
from controller.errors import FleetmarkError
from controller.measure import Latency
from controller.search_space import STRENGTHS, Family, Point

SEED = 20
HEADER = b"SQLite format 3\0"
FAMILY, TOLD, QUESTION = "family", "told", "question"
PERCENT = [round(100 * strength) for strength in STRENGTHS]
REPEATS = 3

Stage = Literal["size", "short training", "accuracy", "latency"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is known of one recipe: by format its bytes and the points it loses on held-out samples, by device its latencies.

    `cut`: where it was given up as a loser; `faults`: why there is nothing from a format or a device. A trial that was not cut and has no
    size has failed.
    """

    recipe: Recipe
    sizes_bytes: Mapping[str, int] = field(default_factory=dict[str, int])
    losses_pp: Mapping[str, float] = field(default_factory=dict[str, float])
    accuracies: Mapping[str, float] = field(default_factory=dict[str, float])
    latencies: Mapping[str, tuple[Latency, ...]] = field(default_factory=dict[str, tuple[Latency, ...]])
    faults: Mapping[str, str] = field(default_factory=dict[str, str])
    cut: Stage | None = None
    is_done: bool = False

    @property
    def size_bytes(self) -> int:
        """Of its largest format."""
        return max(self.sizes_bytes.values())

    @property
    def loss_pp(self) -> float:
        """Of its worst format."""
        return max(self.losses_pp.values())


TRIAL: TypeAdapter[Trial] = TypeAdapter(Trial)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A recipe to try that was not tried before."""

    recipe: Recipe
    family: Family
    trial: Any


class Trials:
    """The study in a file, made where there is none. `question` is what is searched: another one's file is refused."""

    def __init__(self, path: Path, families: Mapping[str, Family], question: str, objectives: int) -> None:
        optuna = _optuna()
        if path.exists() and path.read_bytes()[: len(HEADER)] not in (HEADER, b""):
            raise FleetmarkError(f"{path} is not a search's file", next="choose another --output, or delete it")
        self._families = families
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}")
        self._study = optuna.create_study(
            storage=self._storage, study_name="search", directions=["minimize"] * objectives, load_if_exists=True
        )
        if self._study.user_attrs.get(QUESTION, question) != question:
            self.close()
            message = f"{path} is of another search: its model, data, devices, formats, limits or recipes are not these"
            raise FleetmarkError(message, next="choose another --output, or delete it")
        self._study.set_user_attr(QUESTION, question)
        there = self._study.get_trials(deepcopy=False)
        self._study.sampler = optuna.samplers.TPESampler(seed=SEED + len(there))
        self._random = random.Random(SEED + len(there))  # noqa: S311 - a choice, not a secret
        self.is_new = not there
        self._give_up_interrupted()
        self._tried = {_place(one.params, families) for one in self._study.get_trials(deepcopy=False) if TOLD in one.user_attrs}

    def close(self) -> None:
        """Close the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @property
    def told(self) -> list[Trial]:
        """All trials that came to an end, in the order in which they began."""
        return [TRIAL.validate_python(one.user_attrs[TOLD]) for one in self._study.get_trials(deepcopy=False) if TOLD in one.user_attrs]

    def suggest(self, recipes: Sequence[Recipe]) -> None:
        """Try these recipes first, those of them that are in the space."""
        for recipe in recipes:
            for name, family in self._families.items():
                point = family.point_of(recipe)
                if point is not None:
                    self._study.enqueue_trial(_params(name, point), skip_if_exists=True)

    def ask(self) -> Asked | None:
        """A recipe that was never tried, None where all were.

        The sampler's; a random one of those left where the sampler comes back to what it knows.
        """
        left = [(name, point) for name, family in self._families.items() for point in family.points if (name, point) not in self._tried]
        for attempt in itertools.count() if left else ():
            if attempt >= REPEATS:
                self._study.enqueue_trial(_params(*self._random.choice(left)))
            asked = self._next()
            if asked is not None:
                return asked
        return None

    def _next(self) -> Asked | None:
        from optuna.trial import TrialState

        trial = self._study.ask()
        name = trial.suggest_categorical(FAMILY, list(self._families))
        family = self._families[name]
        for at in range(len(family.turned)):
            trial.suggest_int(f"{name} {at}", PERCENT[0], PERCENT[-1], step=PERCENT[1] - PERCENT[0])
        place = _place(trial.params, self._families)
        if place in self._tried:
            self._study.tell(trial, state=TrialState.PRUNED)
            return None
        self._tried.add(place)
        return Asked(family.member(place[1]), family, trial)

    def tell(self, asked: Asked, trial: Trial, values: Sequence[float]) -> None:
        """Keep what came of it; `values` are the objectives of one that was neither cut nor failed."""
        from optuna.trial import TrialState

        asked.trial.set_user_attr(TOLD, TRIAL.dump_python(trial, mode="json"))
        state = TrialState.PRUNED if trial.cut else TrialState.COMPLETE if trial.is_done else TrialState.FAIL
        self._study.tell(asked.trial, list(values) if state == TrialState.COMPLETE else None, state=state)

    def _give_up_interrupted(self) -> None:
        """What was begun and never came to an end is tried again, before anything else."""
        from optuna.trial import TrialState

        for one in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(one.number, state=TrialState.FAIL)
            if FAMILY in one.params:
                self._study.enqueue_trial(one.params)


def _params(name: str, point: Point) -> dict[str, Any]:
    return {FAMILY: name, **{f"{name} {at}": round(100 * strength) for at, strength in enumerate(point)}}


def _place(params: Mapping[str, Any], families: Mapping[str, Family]) -> tuple[str, Point]:
    name = params[FAMILY]
    return name, tuple(params[f"{name} {at}"] / 100 for at in range(len(families[name].turned)))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise FleetmarkError(f"optuna cannot be imported: {error}", next="install fleetmark[search]") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
