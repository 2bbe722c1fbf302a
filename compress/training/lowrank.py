"""Which layers of a module become products of smaller ones, and of which rank."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from agent.schema import FaultError
from compress.techniques.lowrank import LowRankParams
from compress.training import cost
from compress.training.factors import CONVS, Candidate, Cp, Decomposition, Moments, Spatial, Svd, Tucker
from compress.training.loop import regain
from compress.training.recurrent import KINDS, InputSvd, LoopSvd, Stacked
from compress.training.session import Session, outputs
from compress.training.surgery import exchanged, own_layers

DEFAULT_RATIO = 0.5
TRIED = 12
"""How many ranks of a layer are scored for its sensitivity at most, closer together where they are small."""

HALVINGS = 100
"""Of the price: as many as a double has bits and more."""

SAMPLES = 2048
"""How many training samples tell what layers give."""

Table = Mapping[str, list[Candidate]]


def factorised(model: nn.Module, params: LowRankParams, session: Session) -> nn.Module:
    """The module with layers factorised as `params` say, trained on; raises FaultError `unsupported_op` where no layer gains."""
    before = cost.figures(model, session)
    model = _unstacked(model)
    layers = decompositions(model, params, session)
    chosen = _ranks(model, layers, params, session)
    if not chosen:
        raise FaultError(
            "unsupported_op", "no layer has fewer parameters as a product of smaller ones", "ask for a larger ratio", "compress"
        )
    model = exchanged(model, {name: layers[name].build(ranks) for name, ranks in chosen.items()})
    if any(layers[name].kind == LoopSvd.kind for name in chosen):
        session.note(
            "recurrent layers are unrolled over a sequence of the example's length; as .tflite each step has a copy of the weights"
        )
    session.tell(
        ranks={name: {"kind": layers[name].kind, "ranks": list(ranks)} for name, ranks in chosen.items()},
        before=before,
        untrained=session.score(model),
        held_out=regain(model, session, params.epochs, params.learning_rate),
        after=cost.figures(model, session),
    )
    return model


def decompositions(model: nn.Module, params: LowRankParams, session: Session) -> dict[str, Decomposition]:
    """The layers that can be factorised, by name, of those that `params` name; raises FaultError `unsupported_op` for others."""
    named = set(params.rank) if isinstance(params.rank, dict) else set(params.layers)
    layers = {name: one for name, layer in own_layers(model).items() if (one := decomposition(layer, params)) is not None}
    for name in sorted(named):
        if not any(_within(one, name) for one in layers):
            message = f"there is no layer {name!r} to factorise"
            raise FaultError("unsupported_op", message, f"layers are {', '.join(layers) or 'none'}"[:400], "compress")
    chosen = {name: one for name, one in layers.items() if not named or any(_within(name, whole) for whole in named)}
    if params.weighting == "activations":
        plain = {name: one.layer for name, one in chosen.items() if isinstance(one, Svd)}
        chosen |= {name: Svd(plain[name], given) for name, given in moments(model, plain, session).items()}
    return chosen


def decomposition(layer: nn.Module, params: LowRankParams) -> Decomposition | None:
    """How a layer is factorised by its weights, None where there is no way."""
    if type(layer) is nn.Linear:  # subclasses are used in other ways, such as by their weight alone
        return Svd(layer)
    if isinstance(layer, KINDS):
        fits = layer.num_layers == 1 and layer.proj_size == 0
        return (LoopSvd(layer) if params.recurrent == "all" else InputSvd(layer)) if fits else None
    if not isinstance(layer, CONVS) or layer.groups > 1 or layer.padding_mode != "zeros":
        return None
    if max(layer.kernel_size) == 1 or params.conv == "channel":
        return Svd(layer)
    if params.conv == "spatial":
        return Spatial(layer) if isinstance(layer, nn.Conv2d) else None
    return Cp(layer) if params.conv == "cp" else Tucker(layer)


@torch.inference_mode()
def moments(model: nn.Module, layers: Mapping[str, nn.Module], session: Session) -> dict[str, Moments]:
    """Of what these layers give for training samples; of those that are called."""
    sums: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def add(layer: nn.Module, _inputs: object, found: Tensor) -> None:
            rows = (found if isinstance(layer, nn.Linear) else found.movedim(1, -1)).flatten(0, -2).double()
            new = [torch.tensor(float(len(rows))), rows.sum(0), rows.T @ rows]
            sums[name] = [one + other for one, other in zip(sums.get(name, [torch.zeros(())] * 3), new, strict=True)]

        return add

    hooks = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        outputs(model, session.train.take(torch.arange(min(SAMPLES, len(session.train)))))
    finally:
        for one in hooks:
            one.remove()
    return {
        name: Moments(total / count, square / count - torch.outer(total, total) / count**2) for name, (count, total, square) in sums.items()
    }


def reaching(table: Table, sizes: Mapping[str, int], removed: float, whole: float = 1.0) -> dict[str, Candidate]:
    """The candidates with which at least `removed` parameters go for the least quality lost over all layers; else those with the fewest.

    All layers pay the same quality for a parameter, a price that is bisected (Shoham and Gersho, Efficient bit allocation for an arbitrary
    set of quantizers, 1988). `whole` is the quality of a layer that stays as it is.
    """
    choices = {name: [Candidate((), sizes[name], whole), *reversed(found)] for name, found in table.items()}
    lost = {name: np.array([whole - one.quality for one in found]) for name, found in choices.items()}
    counts = {name: np.array([one.parameters for one in found]) for name, found in choices.items()}

    def at(price: float) -> dict[str, Candidate]:
        best = {name: found[int((lost[name] + price * counts[name]).argmin())] for name, found in choices.items()}
        return {name: one for name, one in best.items() if one.ranks}

    low, high = 0.0, max((float(np.ptp(one)) for one in lost.values()), default=0.0) + 1
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _gone(at(middle), sizes) >= removed else (middle, high)
    return at(high)


def keeping(table: Table, quality: float) -> dict[str, Candidate]:
    """The smallest candidate of each layer that has at least this quality, where there is one."""
    found = {name: next((one for one in candidates if one.quality >= quality), None) for name, candidates in table.items()}
    return {name: one for name, one in found.items() if one is not None}


def _gone(chosen: Mapping[str, Candidate], sizes: Mapping[str, int]) -> int:
    return sum(sizes[name] - one.parameters for name, one in chosen.items())


def _ranks(model: nn.Module, layers: Mapping[str, Decomposition], params: LowRankParams, session: Session) -> dict[str, tuple[int, ...]]:
    sizes = {name: cost.parameters(model.get_submodule(name)) for name in layers}
    every = {name: one.candidates() for name, one in layers.items()}
    table = {name: [one for one in found if one.parameters < sizes[name]] for name, found in every.items()}
    if params.rank is not None:
        wanted = {name: _named(name, params.rank) for name in layers}
        chosen = {name: _nearest(found, wanted[name]) for name, found in table.items() if found}
    elif params.energy is not None:
        chosen = keeping(table, params.energy)
    else:
        removed = (params.ratio or DEFAULT_RATIO) * sum(sizes.values())
        if params.by == "energy":
            chosen = reaching(table, sizes, removed)
        else:
            chosen = reaching(_sensitivities(model, layers, table, session), sizes, removed, session.score(model))
        if _gone(chosen, sizes) < removed:
            session.note(f"low rank takes {_gone(chosen, sizes)} parameters away at most, not the {removed:.0f} asked for")
    return {name: one.ranks for name, one in chosen.items()}


def _sensitivities(model: nn.Module, layers: Mapping[str, Decomposition], table: Table, session: Session) -> Table:
    """A few candidates of each layer with the held-out score as their quality, made not to fall with more parameters."""
    scored: dict[str, list[Candidate]] = {}
    for name, found in table.items():
        few = [found[at] for at in sorted({round(len(found) ** (step / (TRIED - 1))) - 1 for step in range(TRIED)})] if found else []
        scores = [session.score(exchanged(copy.deepcopy(model), {name: layers[name].build(one.ranks)})) for one in few]
        scored[name] = [replace(one, quality=score) for one, score in zip(few, accumulate(scores, max), strict=True)]
    return scored


def _nearest(found: list[Candidate], rank: int) -> Candidate:
    return min(found, key=lambda one: (abs(max(one.ranks) - rank), one.parameters))


def _named(name: str, rank: int | dict[str, int]) -> int:
    return rank if isinstance(rank, int) else next(value for whole, value in rank.items() if _within(name, whole))


def _within(name: str, whole: str) -> bool:
    return name == whole or name.startswith(f"{whole}.")


def _unstacked(model: nn.Module) -> nn.Module:
    """Deep recurrent layers as one layer after the other."""
    deep = {name: one for name, one in own_layers(model).items() if isinstance(one, KINDS) and one.num_layers > 1 and one.proj_size == 0}
    return exchanged(model, {name: Stacked(one) for name, one in deep.items()})
