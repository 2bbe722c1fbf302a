"""The training loop of all steps: AdamW, a learning rate that falls as a cosine, the epoch that is best on the held-out samples."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import copy
from collections.abc import Callable

import torch
from torch import nn

from compress.training.session import BATCH, Loss, Session, first


def fit(
    model: nn.Module,
    session: Session,
    epochs: int,
    learning_rate: float = 1e-3,
    *,
    loss: Loss | None = None,
    after_step: Callable[[], None] | None = None,
    seed: int = 0,
    weight_decay: float = 1e-2,
) -> list[float]:
    """Trains the module in place and leaves it, in eval mode, as it was after the epoch with the highest held-out score.

    Gives each epoch's score; `[]` and an unchanged module for 0 epochs. `loss` (module, batch) -> scalar is by default the task's;
    `after_step` runs after each update of the weights, such as to put a mask back.
    """
    if not epochs:
        model.eval()
        return []
    measure: Loss = loss or (lambda net, batch: session.loss(first(net(*batch.inputs)), batch))
    train = session.train
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=learning_rate, weight_decay=weight_decay)
    steps = -(-len(train) // BATCH) * epochs
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    scores: list[float] = []
    best = copy.deepcopy(model.state_dict())
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(train), generator=generator).split(BATCH):
            if len(rows) == 1 < len(train):
                continue  # BatchNorm has no variance of one sample
            optimiser.zero_grad()
            measure(model, train.take(rows)).backward()
            optimiser.step()
            schedule.step()
            if after_step is not None:
                after_step()
        scores.append(session.score(model))
        if scores[-1] == max(scores):
            best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    model.eval()
    return scores


def regain(model: nn.Module, session: Session, epochs: int, learning_rate: float, *, loss: Loss | None = None) -> list[float]:
    """As `fit`, for a module that lost something; where no epoch scores as high as it did before, it stays as it was and a note says so."""
    before, start = session.score(model), copy.deepcopy(model.state_dict())
    scores = fit(model, session, epochs, learning_rate, loss=loss)
    if scores and max(scores) < before:
        model.load_state_dict(start)
        session.note(f"{session.step}: training on gained nothing ({max(scores):.4f} after {before:.4f} on held-out samples): left out")
    return scores
