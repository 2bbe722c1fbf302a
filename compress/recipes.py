"""Recipes: named, ordered steps, each a technique with its parameters. Those that ship are in recipes.yaml."""
# ruamel.yaml is typed in part.
# pyright: reportUnknownMemberType=false

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

SHIPPED = Path(__file__).with_name("recipes.yaml")


@dataclass(frozen=True, slots=True)
class Step:
    """One technique, by its name in `compress.techniques`, with its parameters."""

    technique: str
    params: Mapping[str, object] = field(default_factory=dict[str, object])


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
    faults: list[str] = []
    for technique in named:
        try:
            technique.check(values)
            return Step(name, values)
        except ValueError as error:
            faults.append(str(error))
    raise ValueError(faults[0])


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
