"""How important each channel of a layer is, by the criteria of structured pruning; the lowest goes first."""
# torch is typed in part, torch-pruning not at all.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_pruning.pruner import importance

from agent.schema import FaultError
from compress.training.pruning_activations import activations, by_channel, gram, grams, greedy_order
from compress.training.pruning_layers import Inputs, Layer, graph, groups
from compress.training.session import BATCH, SEED, Session, Split, first

FISHER_SAMPLES = 256

BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Scores = dict[str, Tensor]
Score = Callable[[Any], Tensor | None]
"""Of torch-pruning's groups of coupled channels: float [channels of its first layer], or None."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a criterion looks at: the module, its groups of coupled channels, at most so many samples."""

    model: nn.Module
    coupled: Sequence[Any]
    session: Session
    samples: int

    @property
    def calibration(self) -> Split:
        """Samples without labels."""
        return head(self.session.calibration, self.samples)


def scores(criterion: str, model: nn.Module, layers: Sequence[Layer], inputs: Inputs, session: Session, samples: int) -> Scores:
    """The importance of every unit of the layers, by layer: float [units], of mean 1 within a layer unless it is comparable as it is.

    A layer that the criterion has nothing to say of (batchnorm-scale without one) is missing.
    """
    names = {layer.name for layer in layers}
    coupled = {name: group for name, group in groups(graph(model, inputs)) if name in names}
    score = CRITERIA[criterion](Evidence(model.eval(), list(coupled.values()), session, samples))
    found = {layer.name: (layer, score(coupled[layer.name])) for layer in layers}
    model.zero_grad()
    means = {name: one.detach().view(layer.blocks, -1).mean(0) for name, (layer, one) in found.items() if one is not None}
    return means if criterion in COMPARABLE else {name: _normalised(one) for name, one in means.items()}


def head(split: Split, samples: int) -> Split:
    """The first samples."""
    return split.take(torch.arange(min(samples, len(split))))


def _normalised(score: Tensor) -> Tensor:
    mean = score.mean()
    return score / mean if mean > 0 else score


def _random(_: Evidence) -> Score:
    generator = torch.Generator().manual_seed(SEED)
    return lambda group: torch.rand(len(group[0].idxs), generator=generator)


def _geometric_median(_: Evidence) -> Score:
    """The sum of a filter's distances to the layer's other filters; torch-pruning's own takes the distances of squared weights."""

    def score(group: Any) -> Tensor:
        module = group[0].dep.target.module
        weights = module.weight.detach()
        filters = weights.transpose(0, 1).flatten(1) if getattr(module, "transposed", False) else weights.flatten(1)
        return torch.cdist(filters, filters).sum(1)

    return score


def _taylor(seen: Evidence) -> Score:
    """The sum over batches of |the sum over a channel's weights of weight x gradient|: the loss that it is worth."""
    scorer: Any = importance.GroupTaylorImportance(normalizer=NONE, multivariable=True)
    sums = {id(group): torch.zeros(len(group[0].idxs)) for group in seen.coupled}
    for _ in gradients(seen.model, seen.session, head(seen.session.train, seen.samples), BATCH):
        for group in seen.coupled:
            sums[id(group)] += scorer(group)
    return lambda group: informative(sums[id(group)], "taylor")


def _hessian(seen: Evidence) -> Score:
    """Weight squared x the diagonal of the Fisher information; torch-pruning's own sum of gradients keeps the last sample's only."""
    for one, square in squared_gradients(seen.model, seen.session, min(seen.samples, FISHER_SAMPLES)).items():
        one.grad = square
    scorer: Any = importance.GroupHessianImportance(normalizer=NONE)
    return lambda group: informative(scorer(group), "hessian")


def squared_gradients(model: nn.Module, session: Session, samples: int) -> dict[nn.Parameter, Tensor]:
    """The diagonal of the empirical Fisher information by parameter: the mean of single training samples' squared gradients."""
    squares = {one: torch.zeros_like(one) for one in model.parameters()}
    split = head(session.train, samples)
    for _ in gradients(model.eval(), session, split, 1):
        for one, square in squares.items():
            if one.grad is not None:
                square += one.grad**2 / len(split)
    model.zero_grad()
    return squares


def gradients(model: nn.Module, session: Session, split: Split, size: int) -> Iterator[None]:
    """Leaves the gradients of the task's loss in the parameters, of `size` samples at a time."""
    for batch in split.batches(size):
        model.zero_grad()
        session.loss(first(model(*batch.inputs)), batch).backward()
        yield


def informative(score: Tensor, criterion: str) -> Tensor:
    """The same score; raises FaultError `bad_data` where it is zero everywhere."""
    if not score.any():
        message = f"{criterion} is zero everywhere: there are no labels, and the model is what it is to imitate"
        raise FaultError("bad_data", message, "give train_ labels, or use a criterion of weights or activations", "compress")
    return score


def _activation(seen: Evidence) -> Score:
    means = activations(seen.model, seen.coupled, seen.calibration, torch.abs)
    return lambda group: by_channel(group, means)


def _nonzero(seen: Evidence) -> Score:
    means = activations(seen.model, seen.coupled, seen.calibration, lambda values: (values != 0).float())
    return lambda group: by_channel(group, means)


def _reconstruction(seen: Evidence) -> Score:
    """The place in the greedy order of removal in which the next layers' outputs change least, channels taken together."""
    found = grams(seen.model, seen.coupled, seen.calibration)
    return lambda group: greedy_order(gram(group, found)).argsort().float() + 1


def _next_activation(seen: Evidence) -> Score:
    """The root mean square change of the next layers' outputs before their activation function, each channel taken alone."""
    found = grams(seen.model, seen.coupled, seen.calibration)
    return lambda group: gram(group, found).diagonal().clamp(min=0).sqrt()


NONE: Any = None
"""For `normalizer`, annotated as str, which None switches off."""

CRITERIA: dict[str, Callable[[Evidence], Score]] = {
    "l1": lambda _: importance.GroupMagnitudeImportance(p=1, normalizer=NONE),
    "l2": lambda _: importance.GroupMagnitudeImportance(p=2, normalizer=NONE),
    "lamp": lambda _: importance.LAMPImportance(),
    "fpgm": _geometric_median,
    "batchnorm-scale": lambda _: importance.BNScaleImportance(normalizer=NONE),
    "taylor": _taylor,
    "hessian": _hessian,
    "activation": _activation,
    "apoz": _nonzero,
    "next-activation": _next_activation,
    "reconstruction": _reconstruction,
    "random": _random,
}
COMPARABLE = ("lamp", "batchnorm-scale", "taylor", "hessian")
"""Criteria whose values of different layers are meant to be compared."""
