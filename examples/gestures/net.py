"""A small C3D after "Learning Spatiotemporal Features with 3D Convolutional Networks" (Tran et al., 2015)."""

from torch import nn

GESTURES = 8


def _convolution(inputs: int, outputs: int, pool: tuple[int, int, int]) -> list[nn.Module]:
    return [nn.Conv3d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU(), nn.MaxPool3d(pool)]


class C3d(nn.Sequential):
    """Clips [n, 1, 8, 16, 16] -> logits [n, 8]: convolutions of 3 x 3 x 3, the first pooled in space only, and two dense layers."""

    def __init__(self) -> None:
        super().__init__(
            *_convolution(1, 12, (1, 2, 2)),
            *_convolution(12, 24, (2, 2, 2)),
            *_convolution(24, 32, (2, 2, 2)),
            nn.Flatten(),
            nn.Linear(32 * 2 * 2 * 2, 64),
            nn.ReLU(),
            nn.Linear(64, GESTURES),
        )
