"""A small transformer encoder after "Attention Is All You Need" (Vaswani et al., 2017), and a student of half the width."""

import torch
from torch import Tensor, nn

WORDS, LENGTH, CLASSES = 40, 20, 4


class Layer(nn.Module):
    """Self-attention and two dense layers, each with its input added and normalised."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.merge = (nn.Linear(width, width) for _ in range(4))
        self.wide = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, values: Tensor) -> Tensor:
        """The layer's features, [n, steps, width]."""
        query, key, value = (self._split(one(values)) for one in (self.query, self.key, self.value))
        shares = (query @ key.transpose(2, 3) / query.shape[3] ** 0.5).softmax(3)
        values = self.first(values + self.merge((shares @ value).transpose(1, 2).flatten(2)))
        found: Tensor = self.second(values + self.wide(values))
        return found

    def _split(self, values: Tensor) -> Tensor:
        return values.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Encoder(nn.Module):
    """Words int64 [n, 20] -> logits [n, 4]: embeddings with learnt places, layers, an average."""

    def __init__(self, width: int = 64, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Parameter(0.1 * torch.randn(1, LENGTH, width))
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        """The logits."""
        found: Tensor = self.classifier(self.layers(self.words(words) + self.places).mean(1))
        return found


def student() -> Encoder:
    """Half the width."""
    return Encoder(32, 2, 4)
