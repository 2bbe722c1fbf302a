"""Recipes: named, ordered steps, each a technique with its parameters. Those that ship are in recipes.yaml."""
# ruamel.yaml is typed in part.
# pyright: reportUnknownMemberType=false

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

SHIPPED = Path(__file__).with_name("recipes.yaml")


QUANTITIES = ("size_bytes", "parameters", "macs", "latency_ms", "accuracy_drop_pp")
"""What a target may bound: of the artifact's files, of the float model before it is quantised, of an inference on a device, of the task."""


@dataclass(frozen=True, slots=True)
class Target:
    """A budget for a step, which then finds its own strength: at most `limit` of a quantity, a latency on the device of that name."""

    quantity: str
    limit: float
    device: str = ""

    def __str__(self) -> str:
        return f"{self.quantity} <= {self.limit:g}" + (f" on {self.device}" if self.device else "")


@dataclass(frozen=True, slots=True)
class Step:
    """One technique, by its name in `compress.techniques`, with its parameters; `target` in place of its strength."""

    technique: str
    params: Mapping[str, object] = field(default_factory=dict[str, object])
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps applied one after the other to a float model; without steps the model is only brought into the format.

    `floor_pp`: by how many percentage points of the task's metric its result may be worse than the float model; None: any that still
    gives what the float model gives.
    """

    name: str
    steps: tuple[Step, ...]
    about: str = ""
    floor_pp: float | None = None


class UnknownRecipeError(ValueError):
    """A recipe name that nobody has; the message gives the nearest one."""


def step(document: object) -> Step:
    """A step as it stands in a file: a technique's name, or a mapping of it to its parameters. Raises ValueError.

    Which formats the technique works on, and so whether it can follow the one before, `pipeline.plan` tells.
    """
    pair: Mapping[Any, Any] = cast(Mapping[Any, Any], document) if isinstance(document, Mapping) else {str(document): {}}
    name, params = next(iter(pair.items())) if len(pair) == 1 else (None, None)
    if not isinstance(name, str) or not isinstance(params, Mapping):
        raise ValueError("a step is a technique's name, or a mapping of one to its parameters: `prune: {ratio: 0.5}`")
    from compress.techniques import implementations

    values: dict[str, object] = dict(cast(Mapping[str, object], params))
    named = [technique for technique in implementations() if technique.name == name]
    if not named:
        raise ValueError(f"no technique is called {name!r}; {_nearest(name, {technique.name for technique in implementations()})}")
    target = _target(values.pop("target")) if "target" in values else None
    faults: list[str] = []
    for technique in named:
        try:
            technique.check(values if target is None else _with_any_strength(technique.strength, name, values))
            return Step(name, values, target)
        except ValueError as error:
            faults.append(str(error))
    raise ValueError(faults[0])


def step_names(techniques: Sequence[str]) -> list[str]:
    """What steps of these techniques are called: by it, with their place among the steps where it stands there twice (`prune 3`)."""
    return [name if techniques.count(name) == 1 else f"{name} {at}" for at, name in enumerate(techniques, 1)]


def _target(document: object) -> Target:
    form = f"target: one of {', '.join(QUANTITIES)} with its limit, such as {{size_bytes: 20000}}, or {{latency_ms: 5, device: NAME}}"
    if not isinstance(document, Mapping):
        raise ValueError(form)
    values = dict(cast(Mapping[str, object], document))
    device = values.pop("device", "")
    quantity, limit = values.popitem() if len(values) == 1 else ("", None)
    numeric = isinstance(limit, int | float) and not isinstance(limit, bool) and limit > 0
    if quantity not in QUANTITIES or not numeric or not isinstance(device, str) or bool(device) != (quantity == "latency_ms"):
        raise ValueError(form)
    return Target(quantity, float(cast(float, limit)), device)


def _with_any_strength(strength: str, name: str, values: Mapping[str, object]) -> Mapping[str, object]:
    """The parameters as they may be once the target has been turned into a strength."""
    if not strength:
        raise ValueError(f"{name} has no strength that a target could turn")
    if strength in values:
        raise ValueError(f"{name}: give {strength} or a target, not both")
    return {**values, strength: 0.5}


def names() -> tuple[str, ...]:
    """The names of the recipes that ship."""
    return tuple(_shipped())


def get(name: str) -> Recipe:
    """The recipe called `name`; raises UnknownRecipeError."""
    if name in _shipped():
        return _shipped()[name]
    raise UnknownRecipeError(f"no recipe is called {name!r}; {_nearest(name, set(_shipped()))}")


@cache
def _shipped() -> Mapping[str, Recipe]:
    from ruamel.yaml import YAML

    documents: dict[str, dict[str, Any]] = YAML(typ="safe").load(SHIPPED)
    return {
        name: Recipe(name, tuple(step(one) for one in document["steps"]), document["about"], document.get("accuracy_drop_pp"))
        for name, document in documents.items()
    }


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
