"""Finds how strong a step has to be for a budget, by bisection over the whole recipe: what is weighed is the file that comes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.schema import FaultError
from compress.pipeline import Stage
from compress.recipes import Recipe, Step, Target
from compress.techniques import implementations

STEPS = 100
"""Strengths are hundredths."""

TRAINING = "epochs"
LOSS = "accuracy_drop_pp"


@dataclass(frozen=True, slots=True)
class Weighed:
    """How a recipe's artifact is weighed: `size` gives a quantity of what it makes without training, `loss_pp` what it loses with it.

    A loss is one of accuracy on the held-out samples, in percentage points, infinite where its outputs are no longer the model's.
    """

    size: Callable[[Recipe, Target], float]
    loss_pp: Callable[[Recipe], float]


def settled(recipe: Recipe, weigh: Weighed) -> tuple[Recipe, list[str]]:
    """The recipe with a strength in place of a target, and a note that tells it; a recipe without a target as it is.

    A size is reached with the least strength that does; a loss is used up by the greatest. Sizes are found without training, which does
    not change shapes. Raises FaultError `unsupported_op` or `accuracy_floor` for a target out of reach.
    """
    for at, step in enumerate(recipe.steps):
        if step.target is not None:
            strength = _strength(recipe, at, step.target, weigh)
            value = strength / STEPS
            found = _with(recipe, at, value)
            name = strength_of(step)
            return found, [f"{step.technique}: {name} {value:g} for {step.target}"]
    return recipe, []


def tried(recipe: Recipe) -> Recipe:
    """The recipe with some strength in place of a target: to see whether it can be made at all.

    Raises FaultError `unsupported_op` for several targets, which many strengths would reach.
    """
    if sum(step.target is not None for step in recipe.steps) > 1:
        raise FaultError("unsupported_op", f"{recipe.name}: more than one step has a target", "give the others a strength", "compress")
    for at, step in enumerate(recipe.steps):
        recipe = _with(recipe, at, 0.5) if step.target else recipe
    return recipe


def untrained(recipe: Recipe, stages: Sequence[Stage]) -> Recipe:
    """The recipe, planned as `stages`, with as little training as its steps allow: what it makes has the same size."""
    steps = [_untrained(step, stage) for step, stage in zip(recipe.steps, stages, strict=True)]
    return replace(recipe, steps=tuple(steps))


def _untrained(step: Step, stage: Stage) -> Step:
    if TRAINING not in stage.technique.params.model_fields:
        return step
    for epochs in (0, 1):
        params = {**step.params, TRAINING: epochs}
        try:
            stage.technique.check(params)
        except ValueError:
            continue
        return replace(step, params=params)
    return step


def strength_of(step: Step) -> str:
    """The name of the parameter that a budget turns; raises ValueError for a technique without one."""
    for technique in implementations():
        if technique.name == step.technique and technique.strength:
            return technique.strength
    raise ValueError(f"{step.technique} has no strength that a target could turn")


def _strength(recipe: Recipe, at: int, target: Target, weigh: Weighed) -> int:
    if target.quantity == LOSS:
        loses_more = _first(lambda strength: weigh.loss_pp(_with(recipe, at, strength / STEPS)) > target.limit)
        if loses_more == 1:
            message = f"{recipe.name}: even the weakest {recipe.steps[at].technique} loses more than {target.limit:g} points"
            raise FaultError("accuracy_floor", message, "train longer, or allow more", "compress")
        return loses_more - 1
    fits = _first(lambda strength: weigh.size(_with(recipe, at, strength / STEPS), target) <= target.limit)
    if fits == STEPS:
        message = f"{recipe.name}: {recipe.steps[at].technique} alone does not reach {target}"
        raise FaultError("unsupported_op", message, "add a step that quantises, or ask for less", "compress")
    return fits


def _first(is_so: Callable[[int], bool]) -> int:
    """The least strength from 1 on for which it is so, STEPS for none; what is so for one is taken to be so for all above."""
    low, high = 1, STEPS
    while low < high:
        middle = (low + high) // 2
        if is_so(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _with(recipe: Recipe, at: int, value: float) -> Recipe:
    step = recipe.steps[at]
    params: Mapping[str, object] = {**step.params, strength_of(step): value}
    return replace(recipe, steps=(*recipe.steps[:at], replace(step, params=params, target=None), *recipe.steps[at + 1 :]))
