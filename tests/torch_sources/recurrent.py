"""A small network with a recurrent layer."""

from torch import Tensor, nn


class Recurrent(nn.Module):
    """Conv1d over 28 rows, a GRU, a linear layer on its last step: [n, 1, 28, 28] -> logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gru, self.head = nn.Conv1d(28, 8, 3), nn.GRU(8, 12, batch_first=True), nn.Linear(12, 10)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.head(self.gru(self.conv(image[:, 0]).transpose(1, 2))[0][:, -1])
        return found
