"""DS-CNN-S of "Hello Edge: Keyword Spotting on Microcontrollers" (Zhang, Suda, Lai, Chandra, 2017)."""

from torch import Tensor, nn

KEYWORDS = 10


def _block(
    inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int | tuple[int, int], padding: tuple[int, int], groups: int
) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class DsCnn(nn.Module):
    """Features [n, 1, 49, 10] -> logits [n, 10]: a convolution of 10x4, four depthwise separable ones, averaged, a dense layer."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        layers = _block(1, channels, (10, 4), 2, (5, 1), 1)
        for _ in range(4):
            layers += _block(channels, channels, 3, 1, (1, 1), channels) + _block(channels, channels, 1, 1, (0, 0), 1)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, KEYWORDS)

    def forward(self, features: Tensor) -> Tensor:
        """The logits."""
        found: Tensor = self.classifier(self.features(features).mean((2, 3)))
        return found
