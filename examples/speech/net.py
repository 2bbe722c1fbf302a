"""A small recogniser: dense layer, GRU (Cho et al., 2014), and CTC (Graves et al., 2006), as in Deep Speech 2 (Amodei et al., 2016)."""

from torch import Tensor, nn

PHONES = 8


class Recogniser(nn.Module):
    """Features [n, 30, 12] -> logits [n, 30, 9]: at each step the blank (0) and eight phones."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Linear(12, width), nn.ReLU())
        self.recurrent = nn.GRU(width, width, batch_first=True)
        self.back = nn.Linear(width, 1 + PHONES)

    def forward(self, features: Tensor) -> Tensor:
        """The logits."""
        found: Tensor = self.back(self.recurrent(self.front(features))[0])
        return found
