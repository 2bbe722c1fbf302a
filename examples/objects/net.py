"""A small one-stage detector after "You Only Look Once" (Redmon et al., 2016): one box for each cell of an 8 x 8 grid."""

import torch
from torch import Tensor, nn

KINDS, GRID = 3, 8


def _convolution(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]


class Yolo(nn.Module):
    """Images [n, 1, 32, 32] -> boxes [n, 64, 8]: centre x, y, width, height, objectness and class probabilities, all from 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            *_convolution(1, 16, 2), *_convolution(16, 32, 2), *_convolution(32, 64, 1), *_convolution(64, 64, 1), *_convolution(64, 64, 1)
        )
        self.head = nn.Conv2d(64, 5 + KINDS, 1)
        cells = torch.arange(GRID * GRID)
        self.register_buffer("corner", torch.stack([cells % GRID, cells // GRID], 1)[None] / GRID, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """The boxes, cell by cell."""
        found = self.head(self.backbone(image)).flatten(2).transpose(1, 2).sigmoid()
        return torch.cat([self.corner + found[..., :2] / GRID, found[..., 2:]], 2)


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """The cell of an object's centre answers for it: its box, its class; every cell for whether there is one. Labels as of `detection`."""
    sample, at = torch.nonzero(labels[..., 0] >= 0, as_tuple=True)
    kind, box = labels[sample, at, 0].long(), labels[sample, at, 1:].to(outputs.dtype)
    column, row = ((box[:, :2] * GRID).long().clamp(0, GRID - 1)).unbind(1)
    cell = row * GRID + column
    mine = outputs[sample, cell]
    wanted = torch.zeros(outputs.shape[:2], dtype=outputs.dtype)
    wanted[sample, cell] = 1
    there = nn.functional.binary_cross_entropy(outputs[..., 4].clamp(1e-6, 1 - 1e-6), wanted, reduction="sum")
    classes = nn.functional.binary_cross_entropy(
        mine[:, 5:].clamp(1e-6, 1 - 1e-6), nn.functional.one_hot(kind, KINDS).to(mine.dtype), reduction="sum"
    )
    places = ((mine[:, :2] - box[:, :2]) ** 2).sum() + ((mine[:, 2:4].clamp(min=1e-6).sqrt() - box[:, 2:].sqrt()) ** 2).sum()
    return (there + classes + 50 * places) / len(outputs)
