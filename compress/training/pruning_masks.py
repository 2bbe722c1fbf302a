"""Which weights stay: masks by scores, of single weights, of blocks, of n of m."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


def by_scores(scores: Tensors, sparsity: float, block: tuple[int, int], *, one_for_all: bool) -> dict[str, Tensor]:
    """Masks (bool, the scores' shapes) that drop the blocks of the lowest mean score, as many as the sparsity allows.

    A score is [outputs, inputs, ...]; blocks are of outputs x all else. `one_for_all`: layers compete, else each has the sparsity.
    """
    means = {name: _sums(score, block) / _sums(torch.ones_like(score), block) for name, score in scores.items()}
    sizes = {name: _sums(torch.ones_like(score), block) for name, score in scores.items()}
    if one_for_all:
        kept = _kept(torch.cat([one.flatten() for one in means.values()]), torch.cat([one.flatten() for one in sizes.values()]), sparsity)
        parts = dict(zip(means, kept.split([one.numel() for one in means.values()]), strict=True))
    else:
        parts = {name: _kept(means[name].flatten(), sizes[name].flatten(), sparsity) for name in means}
    return {name: _spread(parts[name].view_as(means[name]), block, score) for name, score in scores.items()}


def n_of_m(scores: Tensors, n: int, m: int) -> dict[str, Tensor]:
    """Masks that keep the n highest scores of each m along axis 1; what is left over at its end stays."""
    return {name: _n_of_m(score.transpose(1, -1), n, m).transpose(1, -1) for name, score in scores.items()}


def lamp(squares: Tensor) -> Tensor:
    """Each square over the sum of those of its layer that are not smaller, by which weights of different layers compare."""
    order = squares.flatten().argsort(descending=True, stable=True)
    ordered = squares.flatten()[order].double()
    scores = torch.empty_like(ordered)
    scores[order] = ordered / ordered.cumsum(0).clamp(min=torch.finfo(torch.float64).tiny)
    return scores.view_as(squares)


def _n_of_m(score: Tensor, n: int, m: int) -> Tensor:
    whole = score.shape[-1] // m * m
    parts = score[..., :whole].unflatten(-1, (-1, m)) if whole else score[..., :0].reshape(*score.shape[:-1], 0, m)
    ranks = parts.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)
    mask = torch.ones(score.shape, dtype=torch.bool)
    mask[..., :whole] = (ranks < n).flatten(-2)
    return mask


def _kept(scores: Tensor, sizes: Tensor, sparsity: float) -> Tensor:
    order = scores.argsort(stable=True)
    kept = torch.ones(len(scores), dtype=torch.bool)
    kept[order[sizes[order].cumsum(0) <= sparsity * sizes.sum() + 1e-6]] = False
    return kept


def _sums(score: Tensor, block: tuple[int, int]) -> Tensor:
    """The sums over blocks of the score as a matrix, float64."""
    matrix = score.flatten(1).double()
    rows = torch.stack([part.sum(0) for part in matrix.split(block[0])]) if block[0] > 1 else matrix
    return torch.stack([part.sum(1) for part in rows.split(block[1], 1)], 1) if block[1] > 1 else rows


def _spread(kept: Tensor, block: tuple[int, int], score: Tensor) -> Tensor:
    outputs, inputs = score.flatten(1).shape
    return kept.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[:outputs, :inputs].reshape(score.shape)
