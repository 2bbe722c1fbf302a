"""Which layers of a module become products of smaller ones, and of which rank."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import copy
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

from torch import nn

from agent.schema import FaultError
from compress.techniques.lowrank import LowRankParams
from compress.training import cost
from compress.training.factors import CONVS, Candidate, Cp, Decomposition, Spatial, Svd, Tucker
from compress.training.loop import fit
from compress.training.recurrent import KINDS, InputSvd, LoopSvd, Stacked
from compress.training.session import Session
from compress.training.surgery import exchanged, own_layers

DEFAULT_RATIO = 0.5
TRIED = 8
"""How many ranks of a layer are scored for its sensitivity."""

Table = Mapping[str, list[Candidate]]


def factorised(model: nn.Module, params: LowRankParams, session: Session) -> nn.Module:
    """The module with layers factorised as `params` say, trained on; raises FaultError `unsupported_op` where no layer gains."""
    before = {"parameters": cost.parameters(model), "macs": cost.macs(model, session), "score": session.score(model)}
    model = _unstacked(model)
    layers = decompositions(model, params)
    chosen = _ranks(model, layers, params, session)
    if not chosen:
        raise FaultError(
            "unsupported_op", "no layer has fewer parameters as a product of smaller ones", "ask for a larger ratio", "compress"
        )
    model = exchanged(model, {name: layers[name].build(ranks) for name, ranks in chosen.items()})
    after = {"parameters": cost.parameters(model), "macs": cost.macs(model, session), "score": session.score(model)}
    if any(layers[name].kind == LoopSvd.kind for name in chosen):
        session.note("recurrent layers are unrolled over the sequence: the artifact takes sequences of the example's length only")
    session.tell(
        ranks={name: {"kind": layers[name].kind, "ranks": list(ranks)} for name, ranks in chosen.items()},
        before=before,
        after=after,
        held_out=fit(model, session, params.epochs, params.learning_rate),
    )
    return model


def decompositions(model: nn.Module, params: LowRankParams) -> dict[str, Decomposition]:
    """The layers that can be factorised, by name, of those that `params` name; raises FaultError `unsupported_op` for others."""
    named = set(params.rank) if isinstance(params.rank, dict) else set(params.layers)
    layers = {name: one for name, layer in own_layers(model).items() if (one := decomposition(layer, params)) is not None}
    for name in sorted(named):
        if not any(_within(one, name) for one in layers):
            message = f"there is no layer {name!r} to factorise"
            raise FaultError("unsupported_op", message, f"layers are {', '.join(layers) or 'none'}"[:400], "compress")
    return {name: one for name, one in layers.items() if not named or any(_within(name, whole) for whole in named)}


def decomposition(layer: nn.Module, params: LowRankParams) -> Decomposition | None:
    """How a layer is factorised, None where there is no way."""
    if type(layer) is nn.Linear:  # subclasses are used in other ways, such as by their weight alone
        return Svd(layer)
    if isinstance(layer, KINDS):
        fits = layer.num_layers == 1 and layer.proj_size == 0
        return (LoopSvd(layer) if params.recurrent == "all" else InputSvd(layer)) if fits else None
    if not isinstance(layer, CONVS) or layer.groups > 1 or layer.padding_mode != "zeros":
        return None
    if max(layer.kernel_size) == 1:
        return Svd(layer)
    if params.conv == "spatial":
        return Spatial(layer) if isinstance(layer, nn.Conv2d) else None
    return Cp(layer) if params.conv == "cp" else Tucker(layer)


def reaching(table: Table, sizes: Mapping[str, int], removed: float) -> dict[str, Candidate]:
    """The candidates of the highest quality in common with which at least `removed` parameters go, else those with which most go.

    A layer of which no candidate has that quality stays as it is.
    """
    levels = sorted({one.quality for candidates in table.values() for one in candidates})
    low, high = 0, max(0, len(levels) - 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _gone(keeping(table, levels[middle]), sizes) >= removed else (low, middle - 1)
    return keeping(table, levels[low]) if levels else {}


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
        table = table if params.by == "energy" else _sensitivities(model, layers, table, session)
        chosen = reaching(table, sizes, removed)
        if _gone(chosen, sizes) < removed:
            session.note(f"low rank takes {_gone(chosen, sizes)} parameters away at most, not the {removed:.0f} asked for")
    return {name: one.ranks for name, one in chosen.items()}


def _sensitivities(model: nn.Module, layers: Mapping[str, Decomposition], table: Table, session: Session) -> Table:
    """A few candidates of each layer with the held-out score as their quality, made not to fall with more parameters."""
    scored: dict[str, list[Candidate]] = {}
    for name, found in table.items():
        few = [found[at * (len(found) - 1) // (TRIED - 1)] for at in range(TRIED)] if len(found) > TRIED else found
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
