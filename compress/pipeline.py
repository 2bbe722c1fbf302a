"""Which implementation of each step of a recipe works on which format, from what the source has to what is asked for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from agent.schema import FaultError
from compress.recipes import Recipe, Step
from compress.techniques import TORCH, Params, Technique, TrainingTechnique, implementations

FLOAT_FORMATS = {
    "onnx": (TORCH, "onnx"),
    "tflite": (TORCH, "onnx", "tflite"),
    "openvino": (TORCH, "onnx", "openvino"),
    "tensorrt": (TORCH, "onnx", "tensorrt"),
}
"""The formats that a float model may go through on its way to an artifact's, in their order."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A step with the technique that carries it out."""

    technique: Technique[Any]
    params: Params
    step: Step


def plan(recipe: Recipe, sources: Collection[str], format: str) -> tuple[Stage, ...]:  # noqa: A002  (the domain's word)
    """The stages of a recipe for an artifact in `format`, from a source that is there in some of the float formats.

    A torch source is what the work begins with. Else it begins as late as the steps allow: a model that comes as .tflite too is
    converted from the .onnx only where a step works on the .onnx alone. Raises FaultError `unsupported_op` or `convert_fail`.
    """
    way = FLOAT_FORMATS[format]
    starts = [TORCH] if TORCH in sources else [one for one in reversed(way) if one in sources]
    if not starts and not recipe.steps:
        return ()
    refusals: list[FaultError] = []
    for start in starts:
        try:
            return _stages(recipe, way[way.index(start) :])
        except FaultError as refusal:
            refusals.append(refusal)
    raise refusals[-1] if refusals else _no_source(recipe, sources, format)


def _stages(recipe: Recipe, way: Sequence[str]) -> tuple[Stage, ...]:
    """The stages along the formats of `way`, each as early as can be; what quantises waits for the last one."""
    stages: list[Stage] = []
    at = 0
    for step in recipe.steps:
        technique = _implementation(recipe, step, way, at)
        if stages and not stages[-1].technique.stays_float:
            before = stages[-1].step.technique
            raise _refusal(recipe, f"{step.technique} works on a float model and cannot follow {before}", f"let {before} be the last step")
        at = way.index(technique.format)
        stages.append(Stage(technique, _params(recipe, technique, step), step))
    return tuple(stages)


def _implementation(recipe: Recipe, step: Step, way: Sequence[str], at: int) -> Technique[Any]:
    named = [one for one in implementations() if one.name == step.technique]
    fitting = [one for one in named if one.format in way[at:] and (one.stays_float or one.format == way[-1])]
    if fitting:
        return min(fitting, key=lambda one: way.index(one.format))
    if named and all(isinstance(one, TrainingTechnique) for one in named):
        message = f"{step.technique} trains, and there is no torch module to train"
        raise _refusal(recipe, message, f"give a python: source with train_ arrays, or use what needs no training: {_untrained(way)}")
    formats = sorted({one.format for one in named})
    message = f"{step.technique} works on {' or '.join(formats) or 'nothing'}, which the way over {', '.join(way[at:])} does not have"
    raise _refusal(recipe, message, f"leave the step out, or use {_untrained(way)}")


def _params(recipe: Recipe, technique: Technique[Any], step: Step) -> Params:
    """The step's parameters, which another format's technique of that name may know and this one not."""
    try:
        return technique.check(step.params)
    except ValueError as error:
        raise _refusal(recipe, f"for {technique.format}, {error}", "leave the parameter out, or the format") from None


def _untrained(way: Sequence[str]) -> str:
    return ", ".join(sorted({one.name for one in implementations() if one.format in way and not isinstance(one, TrainingTechnique)}))


def _refusal(recipe: Recipe, message: str, next_step: str) -> FaultError:
    return FaultError("unsupported_op", f"{recipe.name}: {message}", next_step, "compress")


def _no_source(recipe: Recipe, sources: Collection[str], format: str) -> FaultError:  # noqa: A002
    has = " and ".join(sorted(sources)) or "nothing"
    return FaultError(
        "convert_fail", f"{recipe.name}: {format} is not made from {has}", "give an .onnx as `source:` in the suite", "compress"
    )
