"""What a search may try: recipes that the source allows, each with its strengths set free."""

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.schema import FaultError, fingerprint
from compress import edgetpu, making
from compress.recipes import Recipe, Step
from compress.records import Context, Data, Source
from compress.techniques import TORCH, TrainingTechnique, find, implementations

STRENGTHS = tuple(round(0.05 * twentieth, 2) for twentieth in range(2, 20))
"""0.1 to 0.95: what a ratio or sparsity may be."""

EPOCHS = "epochs"
Point = tuple[float, ...]
"""The strengths of a family's member, in the order of its steps."""


@dataclass(frozen=True, slots=True)
class Family:
    """A recipe whose strengths are free: those that it gives by number, in the steps at `turned`. `formats`: what it can be made in."""

    name: str
    recipe: Recipe
    turned: tuple[int, ...]
    formats: tuple[str, ...]

    @property
    def points(self) -> list[Point]:
        """All strengths that its members may have."""
        return list(itertools.product(STRENGTHS, repeat=len(self.turned)))

    def member(self, point: Sequence[float]) -> Recipe:
        """The recipe with these strengths."""
        steps = list(self.recipe.steps)
        for at, strength in zip(self.turned, point, strict=True):
            steps[at] = replace(steps[at], params={**steps[at].params, _strength(steps[at]): strength})
        name = "-".join([self.name, *(f"{strength:g}" for strength in point)])
        return replace(self.recipe, name=name, steps=tuple(steps))

    def point_of(self, recipe: Recipe) -> Point | None:
        """The strengths that make a recipe of this family, rounded to what is tried; None for a recipe of another."""
        if _shape(recipe) != _shape(self.recipe):
            return None
        given = [recipe.steps[at].params[_strength(recipe.steps[at])] for at in self.turned]
        return tuple(min(STRENGTHS, key=lambda one: abs(one - float(str(value)))) for value in given)


def families(recipes: Iterable[Recipe], formats: Sequence[str], source: Source, data: Data, context: Context) -> dict[str, Family]:
    """The families by name, each once whatever strengths its recipes come with; left out is what the source or the data do not allow.

    Recipes with a target find their strength themselves, and are left out too.
    """
    found: dict[str, Family] = {}
    for recipe in recipes:
        turned = tuple(at for at, step in enumerate(recipe.steps) if _strength(step) in step.params)
        can = tuple(one for one in formats if is_possible(source, recipe, one, data, context))
        plain = re.sub(r"-\d+(?=-|$)", "", recipe.name) if turned else recipe.name  # of prune-75-int8 it is prune-int8
        name = recipe.name if plain in found else plain
        known = any(_shape(other.recipe) == _shape(recipe) for other in found.values())
        if can and not known and not any(step.target for step in recipe.steps):
            found[name] = Family(name, recipe, turned, can)
    return found


def is_possible(source: Source, recipe: Recipe, format: str, data: Data, context: Context) -> bool:  # noqa: A002  (the domain's word)
    """Whether the recipe can be begun at all in a format."""
    try:
        making.check(source, *uncompiled(recipe, format), data, context)
    except FaultError:
        return False
    return True


def uncompiled(recipe: Recipe, format: str) -> tuple[Recipe, str]:  # noqa: A002
    """The recipe and format of what is compiled for the Edge TPU; others as they are. Raises FaultError."""
    return (edgetpu.uncompiled(recipe), "tflite") if format == "edgetpu" else (recipe, format)


def trained(recipe: Recipe, sources: Collection[str], share: float) -> Recipe:
    """The recipe with this share of its epochs, at least one; with share 0 none: it makes the same shapes."""
    return recipe if TORCH not in sources else replace(recipe, steps=tuple(_trained(step, share) for step in recipe.steps))


def key(recipe: Recipe) -> str:
    """What two recipes have in common that make the same, whatever they are called."""
    return fingerprint([[step.technique, dict(step.params)] for step in recipe.steps])


def _trained(step: Step, share: float) -> Step:
    for technique in implementations():
        if technique.name == step.technique and isinstance(technique, TrainingTechnique) and EPOCHS in technique.params.model_fields:
            epochs = getattr(find(step.technique, TORCH).check(step.params), EPOCHS)
            return replace(step, params={**step.params, EPOCHS: max(1, round(share * epochs)) if share and epochs else 0})
    return step


def _strength(step: Step) -> str:
    return next((one.strength for one in implementations() if one.name == step.technique and one.strength), "")


def _shape(recipe: Recipe) -> list[tuple[str, Mapping[str, object]]]:
    """The steps without their strengths, and without how long they train."""
    free = [{_strength(step), EPOCHS} for step in recipe.steps]
    return [
        (
            step.technique,
            {name: value for name, value in step.params.items() if name not in leave} | {"turned": _strength(step) in step.params},
        )
        for step, leave in zip(recipe.steps, free, strict=True)
    ]
