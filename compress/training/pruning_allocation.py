"""How many channels each layer loses: every step that a layer can take has a price, and the cheapest steps reach the target."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from agent.schema import FaultError
from compress.training.pruning_layers import Inputs, Layer, cut
from compress.training.session import EVALUATION_BATCH, Session, Split, first

POINTS = 8
"""At how many widths of a layer the loss is measured."""

Plan = Mapping[str, int]
"""How many units go, by the name of a layer."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may go of a module: units in the order in which they go, and after how many of them a layer may stop, by its name."""

    model: nn.Module
    inputs: Inputs
    layers: Mapping[str, Layer]
    order: Mapping[str, Sequence[int]]
    stops: Mapping[str, Sequence[int]]

    def cut(self, plan: Plan) -> nn.Module:
        """A copy of the module that is as narrow as the plan says."""
        removal = {name: self.layers[name].channels(self.order[name][:count]) for name, count in plan.items()}
        return cut(self.model, self.inputs, removal)


def candidates(model: nn.Module, inputs: Inputs, layers: Sequence[Layer], scores: Mapping[str, Tensor], round_to: int) -> Candidates:
    """Least important first; what stays of a layer is a multiple of `round_to`, or all of it."""
    scored = {layer.name: layer for layer in layers if layer.name in scores}
    order = {name: scores[name].argsort(stable=True).tolist() for name in scored}
    stops = {
        name: [gone for gone in range(layer.units) if (layer.width - gone * layer.blocks) % round_to == 0] for name, layer in scored.items()
    }
    return Candidates(model, inputs, scored, order, {name: [one for one in stop if one] for name, stop in stops.items()})


Prices = Mapping[str, Sequence[float]]
"""Of a layer's steps from one stop to the next, ascending, by its name."""


def uniform(found: Candidates) -> Prices:
    """Every layer loses the same share."""
    return {name: [stop / found.layers[name].units for stop in stops] for name, stops in found.stops.items()}


def by_score(found: Candidates, scores: Mapping[str, Tensor]) -> Prices:
    """All channels of the module compete."""
    return {name: [float(scores[name].sort().values[stop - 1]) for stop in stops] for name, stops in found.stops.items()}


def by_sensitivity(found: Candidates, measure: Callable[[nn.Module], float], size: Callable[[nn.Module], int]) -> Prices:
    """The loss that a layer's step costs for what it saves, each layer alone; of the convex curve below what was measured."""
    before, whole = measure(found.model), size(found.model)
    prices: dict[str, Sequence[float]] = {}
    for name, stops in found.stops.items():
        points = [(0, 0.0, 0.0)]
        for stop in measured(stops):
            narrow = found.cut({name: stop})
            points.append((stop, float(whole - size(narrow)), max(points[-1][2], measure(narrow) - before)))
        prices[name] = slopes(points, stops)
    return prices


def measured(stops: Sequence[int]) -> list[int]:
    """Some of a layer's stops, evenly spread, the last among them."""
    count = min(POINTS, len(stops))
    return sorted({stops[-1 - round(at * (len(stops) - 1) / max(1, count - 1))] for at in range(count)}) if stops else []


def slopes(points: Sequence[tuple[int, float, float]], stops: Sequence[int]) -> list[float]:
    """Loss by size at each stop on the lower convex hull of the points (stop, size saved, loss)."""
    hull = [points[0]]
    for point in points[1:]:
        while len(hull) > 1 and _slope(hull[-1], point) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    edges = list(pairwise(hull))
    return [next(_slope(left, right) for left, right in edges if stop <= right[0]) for stop in stops]


def _slope(left: tuple[int, float, float], right: tuple[int, float, float]) -> float:
    return (right[2] - left[2]) / max(1.0, right[1] - left[1])


def cheapest(found: Candidates, prices: Prices, is_small: Callable[[nn.Module], bool]) -> nn.Module:
    """The module after the fewest of the cheapest steps that make it small enough, found by bisection.

    Raises FaultError `unsupported_op` where it is not small enough with one unit left in every layer.
    """
    steps = sorted((price, found.stops[name][at], name) for name, priced in prices.items() for at, price in enumerate(priced))

    def after(count: int) -> nn.Module:
        return found.cut({name: stop for _, stop, name in steps[:count]})

    low, high = 0, len(steps)
    if not is_small(after(high)):
        raise FaultError("unsupported_op", "pruning cannot make it that small", "ask for less, or for a smaller round_to", "compress")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_small(after(middle)) else (middle + 1, high)
    return after(low)


@torch.inference_mode()
def mean_loss(model: nn.Module, session: Session, split: Split) -> float:
    """The task's loss on the samples."""
    model.eval()
    total = sum(float(session.loss(first(model(*part.inputs)), part)) * len(part) for part in split.batches(EVALUATION_BATCH))
    return total / len(split)
