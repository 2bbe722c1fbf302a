"""RNN, GRU and LSTM layers with weights of low rank (Prabhavalkar et al., On the compression of recurrent neural networks, 2016).

The input's weights become a Linear before a narrower layer of the same kind, which stays one operator in every format. Those from step to
step have no such operator: with them factorised too, the layer is a loop that an export unrolls over its sequence.
"""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any

import torch
from torch import Tensor, nn

from compress.training.factors import Candidate, at_least, by_rank, energies, fill

KINDS = (nn.RNN, nn.GRU, nn.LSTM)
State = Tensor | tuple[Tensor, ...] | None


class Stacked(nn.Module):
    """The layers of a deep recurrent one, one after the other; called as it is, and gives what it gives."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_only(layer, at) for at in range(layer.num_layers))
        self.dropout = nn.Dropout(layer.dropout)

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Outputs of the last layer, and the last state of each."""
        states: list[Any] = []
        for at, layer in enumerate(self.layers):
            inputs, last = layer(self.dropout(inputs) if at else inputs, _share(state, at, len(self.layers)))
            states.append(last)
        if isinstance(states[0], tuple):
            return inputs, tuple(torch.cat(parts) for parts in zip(*states, strict=True))
        return inputs, torch.cat(states)


class ThinInput(nn.Module):
    """A Linear to `rank` features and a recurrent layer of one layer that takes them, both of its directions the same ones."""

    def __init__(self, layer: nn.RNNBase, rank: int) -> None:
        super().__init__()
        left, values, right = torch.linalg.svd(_input_weights(layer), full_matrices=False)
        self.reduce = nn.Linear(layer.input_size, rank)
        fill(self.reduce, right[:rank], None)
        self.layer = _like(layer, rank)
        state = layer.state_dict()
        thin = (left[:, :rank] * values[:rank]).chunk(len(suffixes(layer)))
        self.layer.load_state_dict({**state, **{f"weight_ih{end}": one for end, one in zip(suffixes(layer), thin, strict=True)}})

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """As the layer."""
        return self.layer(_each(self.reduce, inputs), state)


class ThinLoop(nn.Module):
    """A recurrent layer of one layer, step by step, with weights of rank `step_rank`, and `input_rank` for the input's (0: dense)."""

    def __init__(self, layer: nn.RNNBase, input_rank: int, step_rank: int) -> None:
        super().__init__()
        self.kind = layer.mode
        self.hidden, self.batch_first = layer.hidden_size, layer.batch_first
        self.inputs = nn.ModuleList(_gates(layer, f"ih{end}", input_rank) for end in suffixes(layer))
        self.steps = nn.ModuleList(_gates(layer, f"hh{end}", step_rank) for end in suffixes(layer))

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """As the layer, without sequences of different lengths in a batch."""
        inputs = inputs.transpose(0, 1) if self.batch_first else inputs
        outputs, states = zip(*(self._direction(at, inputs, state) for at in range(len(self.steps))), strict=True)
        whole = torch.cat(outputs, -1)
        last = tuple(torch.stack(parts) for parts in zip(*states, strict=True))
        return whole.transpose(0, 1) if self.batch_first else whole, last if self.kind == "LSTM" else last[0]

    def _direction(self, at: int, inputs: Tensor, state: State) -> tuple[Tensor, tuple[Tensor, ...]]:
        if state is None:
            now = (inputs.new_zeros(inputs.shape[1], self.hidden),) * (2 if self.kind == "LSTM" else 1)
        else:
            now = tuple(part[at] for part in (state if isinstance(state, tuple) else (state,)))
        sequence = _each(self.inputs[at], inputs).unbind(0)
        outputs: list[Tensor] = []
        for gates in reversed(sequence) if at else sequence:
            now = self._step(gates, self.steps[at](now[0]), now)
            outputs.append(now[0])
        return torch.stack(outputs[::-1] if at else outputs), now

    def _step(self, given: Tensor, before: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.kind == "LSTM":
            enter, forget, cell, leave = (given + before).split(self.hidden, -1)
            kept = torch.sigmoid(forget) * now[1] + torch.sigmoid(enter) * torch.tanh(cell)
            return torch.sigmoid(leave) * torch.tanh(kept), kept
        if self.kind == "GRU":
            (reset, update, new), (reset_by, update_by, new_by) = given.split(self.hidden, -1), before.split(self.hidden, -1)
            share = torch.sigmoid(update + update_by)
            return ((1 - share) * torch.tanh(new + torch.sigmoid(reset + reset_by) * new_by) + share * now[0],)
        return ((torch.tanh if self.kind == "RNN_TANH" else torch.relu)(given + before),)


class InputSvd:
    """The weights from the input of a recurrent layer of one layer, those of both directions together."""

    kind = "recurrent-input"

    def __init__(self, layer: nn.RNNBase) -> None:
        self.layer = layer
        self.weight = _input_weights(layer)

    def parameters(self, ranks: tuple[int, ...]) -> int:
        """Of the Linear before it and of the layer."""
        return _total(self.layer) - self.weight.numel() + ranks[0] * (sum(self.weight.shape) + 1)

    def candidates(self) -> list[Candidate]:
        """Every rank."""
        return by_rank(self, energies(torch.linalg.svdvals(self.weight)))

    def build(self, ranks: tuple[int, ...]) -> nn.Module:
        """What gives the same outputs and states."""
        return ThinInput(self.layer, ranks[0])


class LoopSvd:
    """The weights from the input and from step to step."""

    kind = "recurrent"

    def __init__(self, layer: nn.RNNBase) -> None:
        self.layer = layer
        self.shares = [
            [energies(torch.linalg.svdvals(getattr(layer, f"weight_{part}{end}").detach().double())) for end in suffixes(layer)]
            for part in ("ih", "hh")
        ]

    def parameters(self, ranks: tuple[int, ...]) -> int:
        """Of all its factors and biases; a rank of 0 is a dense weight."""
        dense = [getattr(self.layer, f"weight_{part}_l0") for part in ("ih", "hh")]
        parts = (one.numel() if rank == 0 else rank * (sum(one.shape) + 1) for one, rank in zip(dense, ranks, strict=True))
        return len(suffixes(self.layer)) * (sum(parts) + 2 * len(dense[0]))

    def candidates(self) -> list[Candidate]:
        """The ranks at which both keep the same share of the squared norm; the input's stay dense where that is less."""
        levels = sorted({level for part in self.shares for share in part for level in share})
        found = {self._ranks(level): level for level in levels}
        return [Candidate(ranks, self.parameters(ranks), level) for ranks, level in found.items()]

    def build(self, ranks: tuple[int, ...]) -> nn.Module:
        """What gives the same outputs and states."""
        return ThinLoop(self.layer, *ranks)

    def _ranks(self, level: float) -> tuple[int, int]:
        of_input, of_step = (max(at_least(share, level) for share in part) for part in self.shares)
        weight = self.layer.weight_ih_l0
        assert isinstance(weight, Tensor)  # noqa: S101 - for the type checker
        return of_input if of_input * (sum(weight.shape) + 1) < weight.numel() else 0, of_step


def suffixes(layer: nn.RNNBase) -> tuple[str, ...]:
    """The ends of the names of the first layer's weights, one for each direction."""
    return ("_l0", "_l0_reverse") if layer.bidirectional else ("_l0",)


def _each(layer: nn.Module, sequences: Tensor) -> Tensor:
    """The layer for every step: as rows of one matrix, for on three axes an export makes a MatMul of it, and TFLite a BATCH_MATMUL."""
    one, other = (int(length) for length in sequences.shape[:2])
    return layer(sequences.reshape(one * other, -1)).reshape(one, other, -1)


def _only(layer: nn.RNNBase, at: int) -> nn.RNNBase:
    """Its layer at this depth, as a recurrent layer of its own."""
    directions = len(suffixes(layer))
    one = _like(layer, layer.input_size if at == 0 else directions * layer.hidden_size)
    one.load_state_dict({name: getattr(layer, name.replace("_l0", f"_l{at}")).detach() for name in one.state_dict()})
    return one


def _like(layer: nn.RNNBase, inputs: int) -> nn.RNNBase:
    options: dict[str, Any] = {name: getattr(layer, name) for name in ("bias", "batch_first", "bidirectional")}
    if isinstance(layer, nn.RNN):
        options["nonlinearity"] = layer.nonlinearity
    kind: Any = type(layer)
    return kind(inputs, layer.hidden_size, **options)


def _gates(layer: nn.RNNBase, part: str, rank: int) -> nn.Module:
    """What maps to all gates: one Linear for rank 0, else two."""
    weight: Tensor = getattr(layer, f"weight_{part}").detach()
    bias: Tensor = getattr(layer, f"bias_{part}").detach() if layer.bias else weight.new_zeros(len(weight))
    if rank == 0:
        dense = nn.Linear(weight.shape[1], len(weight))
        fill(dense, weight, bias)
        return dense
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    first, second = nn.Linear(weight.shape[1], rank), nn.Linear(rank, len(weight))
    fill(first, right[:rank], None)
    fill(second, left[:, :rank] * values[:rank], bias)
    return nn.Sequential(first, second)


def _input_weights(layer: nn.RNNBase) -> Tensor:
    return torch.cat([getattr(layer, f"weight_ih{end}") for end in suffixes(layer)]).detach().double()


def _total(layer: nn.RNNBase) -> int:
    return sum(one.numel() for one in layer.parameters())


def _share(state: State, at: int, count: int) -> State:
    """The part of an initial state that is the layer's of this depth."""
    if state is None:
        return None
    return tuple(part.chunk(count)[at] for part in state) if isinstance(state, tuple) else state.chunk(count)[at]
