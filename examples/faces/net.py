"""A small MobileFaceNet after "MobileFaceNets" (Chen, Liu, Gao, Han, 2018), and a student of a quarter of its channels."""

from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, active: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if kernel < 6 else 0, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*layers, nn.PReLU(outputs)] if active else layers


class Bottleneck(nn.Module):
    """1x1 expansion to twice the channels, 3x3 depthwise, 1x1 linear projection; its input is added where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        wide = 2 * inputs
        self.is_residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *_convolution(inputs, wide, 1), *_convolution(wide, wide, 3, stride, wide), *_convolution(wide, outputs, 1, active=False)
        )

    def forward(self, values: Tensor) -> Tensor:
        """The block's features."""
        found: Tensor = self.body(values)
        return values + found if self.is_residual else found


class MobileFaceNet(nn.Module):
    """Faces [n, 1, 24, 24] -> embeddings [n, 32]: bottlenecks, then a linear global depthwise convolution in the place of an average."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(1, channels, 3, 2),
            *_convolution(channels, channels, 3, 1, channels),
            Bottleneck(channels, channels, 2),
            Bottleneck(channels, channels),
            Bottleneck(channels, 2 * channels),
            Bottleneck(2 * channels, 2 * channels),
            *_convolution(2 * channels, 4 * channels, 1),
            *_convolution(4 * channels, 4 * channels, 6, 1, 4 * channels, active=False),
            nn.Conv2d(4 * channels, 32, 1, bias=True),
            nn.Flatten(),
        )

    def forward(self, face: Tensor) -> Tensor:
        """The embeddings, of any length."""
        found: Tensor = self.body(face)
        return found


def student() -> MobileFaceNet:
    """A quarter of the channels."""
    return MobileFaceNet(8)
