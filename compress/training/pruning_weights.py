"""Unstructured pruning of a torch module: masks in one or several steps, held while the other weights are trained."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from functools import partial

import torch
from torch import Tensor, nn

from agent.schema import FaultError
from compress.techniques.sparsify import TrainedSparsifyParams
from compress.training.loop import fit
from compress.training.pruning_criteria import informative, squared_gradients
from compress.training.pruning_layers import Convolution
from compress.training.pruning_masks import by_scores, lamp, n_of_m
from compress.training.session import SEED, Session

Transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def sparsify(model: nn.Module, params: TrainedSparsifyParams, session: Session) -> nn.Module:
    """The same module with zeros; tells each weight's sparsity, all zeros, held-out scores before and after training.

    Raises FaultError `unsupported_op` where no weight becomes zero.
    """
    targets, count = weights(model), params.iterations
    steps = [(1 - (1 - at / count) ** 3, params.epochs_between) for at in range(1, count)]
    for progress, epochs in [*steps, (1.0, params.epochs)]:
        masks = _masks(model, params, progress, session)
        if progress == 1 and all(bool(mask.all()) for mask in masks.values()):
            message = f"sparsify finds no weight to set to zero ({params.granularity})"
            raise FaultError("unsupported_op", message, "ask for more, or for a finer granularity", "compress")
        hold(targets, masks)
        before = session.score(model)
        fit(model, session, epochs, params.learning_rate, after_step=partial(hold, targets, masks))
        session.tell(held_out_pruned=before, held_out=session.score(model))
    _tell(targets, session)
    return model


def weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of convolutions, linear and recurrent layers by name, without biases."""
    layers = [(name, one) for name, one in model.named_modules() if isinstance(one, (*Convolution, nn.Linear, nn.RNNBase, nn.RNNCellBase))]
    return {
        f"{name}.{kind}" if name else kind: weight
        for name, layer in layers
        for kind, weight in layer.named_parameters(recurse=False)
        if kind.startswith("weight")
    }


@torch.no_grad()
def hold(targets: dict[str, nn.Parameter], masks: dict[str, Tensor]) -> None:
    """Zeroes what the masks drop."""
    for name, mask in masks.items():
        targets[name].mul_(mask)


def _masks(model: nn.Module, params: TrainedSparsifyParams, progress: float, session: Session) -> dict[str, Tensor]:
    """The masks at this share (0 to 1) of the way to the target."""
    transposed = {f"{name}.weight" for name, one in model.named_modules() if isinstance(one, Transposed)}
    scores = {name: one.transpose(0, 1) if name in transposed else one for name, one in _scores(model, params, session).items()}
    if params.granularity == "n:m":
        masks = n_of_m(scores, params.m - round(progress * (params.m - params.n)), params.m)
    else:
        block = params.block if params.granularity == "block" else (1, 1)
        masks = by_scores(scores, progress * params.sparsity, block, one_for_all=params.scope == "network")
    return {name: mask.transpose(0, 1) if name in transposed else mask for name, mask in masks.items()}


def _scores(model: nn.Module, params: TrainedSparsifyParams, session: Session) -> dict[str, Tensor]:
    targets = {name: one.detach() for name, one in weights(model).items()}
    if params.criterion == "random":
        generator = torch.Generator().manual_seed(SEED)
        return {name: torch.rand(one.shape, generator=generator) * (one != 0) for name, one in targets.items()}
    if params.criterion == "obd":
        curvature = squared_gradients(model, session, params.samples)
        return {name: informative(one.detach() ** 2 * curvature[one], "obd") for name, one in weights(model).items()}
    return {name: lamp(one**2) if params.scope == "network" else one**2 for name, one in targets.items()}


def _tell(targets: dict[str, nn.Parameter], session: Session) -> None:
    zeros = {name: int((one == 0).sum()) for name, one in targets.items()}
    session.tell(
        sparsity={name: zeros[name] / one.numel() for name, one in targets.items()},
        zeros=[sum(zeros.values()), sum(one.numel() for one in targets.values())],
    )
