"""A recipe by its name, or from a file of its own."""
# ruamel.yaml is typed in part.
# pyright: reportUnknownMemberType=false

import io
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from ruamel.yaml import YAML

from compress import recipes
from compress.recipes import Recipe, Step
from controller import strict, yamlfile
from controller.errors import FleetmarkError
from controller.strict import Name, Record, Version


def _step(value: Any) -> Step:
    return recipes.step(value)


def _one_target(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """`steps`, of which one at most has a target; raises ValidationError at each further one."""
    places = [(at, step.technique, "target") for at, step in enumerate(steps) if step.target is not None]
    strict.refuse(dict.fromkeys(places[1:], "only one step may have a target: give this one its strength"))
    return steps


class _File(Record):
    """A recipe of fleetmark: ordered steps that make a model smaller or faster. docs/TECHNIQUES.md lists the techniques."""

    version: Version
    """The version of this format, 1."""
    name: Name
    """What the report calls the variant."""
    about: str = ""
    """What it is for, in a line."""
    steps: Annotated[tuple[Annotated[Step, BeforeValidator(_step)], ...], AfterValidator(_one_target)]
    """Technique names, each with its parameters if it has any: `prune: {ratio: 0.5}`. One may have a target in place of its strength."""
    accuracy_drop_pp: Annotated[float, Field(ge=0, le=100)] | None = None
    """By how many percentage points of the task's metric the result may be worse than the float model; it is not shipped otherwise."""


def find(text: str) -> Recipe:
    """The recipe of that name, or in that file; raises FleetmarkError, ConfigError for a file with every problem that is in it."""
    if "/" in text or text.endswith((".yaml", ".yml")):
        file = strict.validate(yamlfile.read(Path(text)), _File)
        return Recipe(file.name, file.steps, file.about, file.accuracy_drop_pp)
    try:
        return recipes.get(text)
    except recipes.UnknownRecipeError as error:
        raise FleetmarkError(str(error), next="mend `recipes:` in the suite, or --recipe") from error


def text(recipe: Recipe) -> str:
    """A recipe without targets as the file that `find` reads it from."""
    steps = [{step.technique: dict(step.params)} if step.params else step.technique for step in recipe.steps]
    floor = {} if recipe.floor_pp is None else {"accuracy_drop_pp": recipe.floor_pp}
    document = {"version": 1, "name": recipe.name, "about": recipe.about, "steps": steps, **floor}
    stream = io.StringIO()
    YAML().dump(json.loads(json.dumps(document)), stream)
    return stream.getvalue()
