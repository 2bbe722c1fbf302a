"""Structured pruning of a torch module: cuts to the target in one or several steps, recalibrates, fine-tunes, compares."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import copy
import math
from collections.abc import Callable

import torch
from torch import nn

from agent.schema import FaultError
from compress.techniques.prune import PruneParams
from compress.training.cost import macs, parameters
from compress.training.loop import fit
from compress.training.pruning_allocation import Candidates, Prices, by_score, by_sensitivity, candidates, cheapest, mean_loss, uniform
from compress.training.pruning_criteria import BatchNorm, Scores, head, scores
from compress.training.pruning_layers import layers, widths
from compress.training.session import BATCH, SEED, Session, Split, first

Size = Callable[[nn.Module], int]


def prune(model: nn.Module, params: PruneParams, session: Session) -> nn.Module:
    """The narrower module, fine-tuned; tells parameters, MACs, widths and held-out scores before and after.

    Raises FaultError: `unsupported_op` where nothing can go, or where the target is out of reach.
    """
    size, target = _target(model, params, session)
    if params.criterion == "batchnorm-scale":
        _make_scales_sparse(model, params, session)
    whole, narrow = size(model), model
    for at in range(1, params.iterations + 1):
        narrow = _narrower(narrow, whole * (target / whole) ** (at / params.iterations), size, params, session)
        if at < params.iterations and params.epochs:
            fit(narrow, session, params.epochs_between, params.learning_rate)
    _tune(narrow, params, session)
    _tell(model, narrow, session)
    return _better_from_scratch(narrow, params, session) if params.from_scratch else narrow


def recalibrate(model: nn.Module, split: Split) -> None:
    """Takes the running mean and variance of every BatchNorm anew: their averages over equal batches of the samples, without labels."""
    norms = [one for one in model.modules() if isinstance(one, BatchNorm) and one.track_running_stats]
    model.eval()
    if not norms or len(split) < 2:  # one sample has no variance
        return
    momenta = [one.momentum for one in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    with torch.no_grad():
        for batch in split.batches(math.ceil(len(split) / math.ceil(len(split) / BATCH))):
            model(*batch.inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _target(model: nn.Module, params: PruneParams, session: Session) -> tuple[Size, float]:
    """The measure of the module's size, and what it may be at most."""
    found = layers(model, tuple(session.example().values()))
    if not found:
        raise FaultError("unsupported_op", "prune finds no layer that can lose channels", "leave the step out for it", "compress")
    names = [layer.name for layer in found]
    sizes: dict[str, Size] = {
        "parameters": parameters,
        "macs": lambda one: macs(one, session),
        "channels": lambda one: sum(widths(one)[name] for name in names),
    }
    if params.parameters is not None:
        return parameters, params.parameters
    if params.macs is not None:
        return sizes["macs"], params.macs
    return sizes[params.of], sizes[params.of](model) * (1 - params.ratio)


def _narrower(model: nn.Module, target: float, size: Size, params: PruneParams, session: Session) -> nn.Module:
    """The module cut to the target, with its statistics taken anew."""
    inputs = tuple(session.example().values())
    found = layers(model, inputs)
    scored = scores(params.criterion, model, found, inputs, session, params.samples)
    possible = candidates(model, inputs, found, scored, params.round_to)
    narrow = cheapest(possible, _prices(possible, scored, size, params, session), lambda one: size(one) <= target)
    if params.recalibrate:
        recalibrate(narrow, session.calibration)
    return narrow


def _prices(found: Candidates, scored: Scores, size: Size, params: PruneParams, session: Session) -> Prices:
    if params.scope == "uniform":
        return uniform(found)
    if params.scope == "global":
        return by_score(found, scored)
    looked_at, calibration = head(session.held_out, params.samples), head(session.calibration, 2 * BATCH)

    def measure(model: nn.Module) -> float:
        if params.recalibrate and model is not found.model:
            recalibrate(model, calibration)
        return mean_loss(model, session, looked_at)

    return by_sensitivity(found, measure, size)


def _tune(narrow: nn.Module, params: PruneParams, session: Session) -> None:
    """Fine-tunes, unless the module scores higher as it is."""
    before, weights = session.score(narrow), copy.deepcopy(narrow.state_dict())
    scores = fit(narrow, session, params.epochs, params.learning_rate)
    if before > max(scores, default=before):
        narrow.load_state_dict(weights)
    session.tell(held_out_pruned=before, held_out=max([before, *scores]))


def _make_scales_sparse(model: nn.Module, params: PruneParams, session: Session) -> None:
    """Network slimming's training: the task's loss and a penalty on the absolute values of BatchNorm's scales."""
    scales = [one.weight for one in model.modules() if isinstance(one, BatchNorm) and one.affine]
    if not scales:
        message = "prune: batchnorm-scale wants BatchNorm layers, and there are none"
        raise FaultError("unsupported_op", message, "use another criterion", "compress")

    def loss(net: nn.Module, batch: Split) -> torch.Tensor:
        penalty = torch.stack([scale.abs().sum() for scale in scales]).sum()
        return session.loss(first(net(*batch.inputs)), batch) + params.sparsity_penalty * penalty

    fit(model, session, params.sparsity_epochs, params.learning_rate, loss=loss)


def _tell(model: nn.Module, narrow: nn.Module, session: Session) -> None:
    before, after = widths(model), widths(narrow)
    session.tell(
        parameters=[parameters(model), parameters(narrow)],
        macs=[macs(model, session), macs(narrow, session)],
        widths={name: [before[name], after[name]] for name in before},
    )


def _better_from_scratch(narrow: nn.Module, params: PruneParams, session: Session) -> nn.Module:
    """The narrow module, or the same shape trained from random weights where that is better on the held-out samples."""
    fresh = copy.deepcopy(narrow)
    torch.manual_seed(SEED)
    for module in fresh.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    fit(fresh, session, params.epochs, params.learning_rate)
    pruned, scratch = session.score(narrow), session.score(fresh)
    session.tell(held_out_from_scratch=scratch)
    return fresh if scratch > pruned else narrow
