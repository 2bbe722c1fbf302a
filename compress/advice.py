"""Strength and bit width by what a device says it is: where a search begins."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.description import Probe
from compress import recipes
from compress.recipes import Recipe
from compress.techniques import implementations

MEMORY_SHARE = 0.1
"""How much of a device's memory a model should take at most: a choice of ours, which leaves room for activations and the runtime."""

WITHOUT_DOT_PRODUCT = ("Cortex-A7", "Cortex-A35", "Cortex-A53", "Cortex-A57", "Cortex-A72", "Cortex-A73")
"""Processors of Armv7 and Armv8.0; int8 dot products came with Armv8.2. Source: Arm, the cores' technical reference manuals."""

WITHOUT_INT8 = ("5.3",)
"""Compute capabilities (SM) of Jetsons without INT8 hardware: the Nano's. Source: HARDWARE.md, section 2."""

CORAL = ("coral-usb", "coral-pcie", "coral-dev-board")


@dataclass(frozen=True, slots=True)
class Advice:
    """A recipe worth trying early, and why."""

    recipe: Recipe
    reason: str


def advise(probe: Probe, backends: Sequence[str], model_bytes: int) -> list[Advice]:
    """What to try first on a device, the most promising first: recipes that ship, their strengths fitted to its memory.

    `backends` are those that will be measured there, `model_bytes` the size of the float model. The source may not allow them all, and
    only measuring tells: this says where to begin.
    """
    kinds = {one.kind: one for one in probe.accelerators}
    if "edgetpu" in backends:
        found = [("int8", "the Edge TPU computes in int8 only")]
    elif "tensorrt" in backends and "jetson-gpu" in kinds:
        found = _jetson(kinds["jetson-gpu"].details.get("sm", ""))
    elif tuple(backends) == ("openvino",) and "ncs2" in kinds:
        found = [("fp16", "MYRIAD computes in fp16 only")]
    else:
        found = _processor(probe.cpu_model)
    return [*_fitted(probe.memory_bytes, model_bytes), *(Advice(recipes.get(name), reason) for name, reason in found)]


def _jetson(sm: str) -> list[tuple[str, str]]:
    if sm in WITHOUT_INT8:
        return [
            ("fp16", f"its GPU (SM {sm}) has fp16 and no int8 hardware"),
            ("prune-50", f"its GPU (SM {sm}) gains nothing by int8: fewer channels"),
        ]
    return [("int8", "its GPU may have int8 hardware"), ("fp16", "its GPU has fp16")]


def _processor(model: str) -> list[tuple[str, str]]:
    if model in WITHOUT_DOT_PRODUCT:
        why = f"{model} has no int8 dot product: int8 gains less than on later ones"
        return [
            ("int8", why),
            ("prune-50-int8", f"{why}, fewer multiplications more"),
            ("lowrank-int8", f"{why}, fewer multiplications more"),
        ]
    return [("int8", "processors move a quarter of the bytes"), ("int8-dynamic", "the same without calibration")]


def _fitted(memory_bytes: int, model_bytes: int) -> list[Advice]:
    """For a model that is large for the memory: 4-bit weights, and as much pruned as makes it fit in int8, in hundredths."""
    room = MEMORY_SHARE * memory_bytes
    if memory_bytes == 0 or model_bytes <= room:
        return []
    why = f"the float model has {model_bytes / 1e6:,.0f} MB, a tenth of the memory is {room / 1e6:,.0f} MB"
    if model_bytes / 4 <= room:
        return [Advice(recipes.get("int8"), f"{why}: int8 fits")]
    ratio = min(0.95, math.ceil(100 * (1 - room / (model_bytes / 4))) / 100)
    strong = [_with_strength(recipes.get(name), ratio) for name in ("prune-50-int8", "lowrank-int8")]
    return [
        *(Advice(one, f"{why}: {ratio:.0%} gone, then int8, fits") for one in strong),
        Advice(recipes.get("int4-weights"), f"{why}: 4 bit"),
    ]


def _with_strength(recipe: Recipe, value: float) -> Recipe:
    strengths = {one.name: one.strength for one in implementations() if one.strength}
    steps = [
        replace(step, params={**step.params, strengths[step.technique]: value}) if step.technique in strengths else step
        for step in recipe.steps
    ]
    return replace(recipe, steps=tuple(steps))
