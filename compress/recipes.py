"""Recipes: named, ordered steps, each a technique with its parameters."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Step:
    """One technique, by its name in `compress.techniques`, with its parameters."""

    technique: str
    params: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps applied one after the other to a float model; without steps the model is only brought into the format."""

    name: str
    steps: tuple[Step, ...]


class UnknownRecipeError(ValueError):
    """A recipe name that nobody has; the message gives the nearest one."""


_RECIPES = (
    Recipe("fp32", ()),
    Recipe("fp16", (Step("float16"),)),
    Recipe("int8-dynamic", (Step("int8-dynamic"),)),
    Recipe("int8", (Step("int8-static"),)),
)

NAMES = tuple(recipe.name for recipe in _RECIPES)


def get(name: str) -> Recipe:
    """The recipe called `name`; raises UnknownRecipeError."""
    for recipe in _RECIPES:
        if recipe.name == name:
            return recipe
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
    raise UnknownRecipeError(f"no recipe is called {name!r}; {hint}")
