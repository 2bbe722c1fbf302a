"""A small MobileNetV2 after "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (Sandler, Howard, Zhu, Zhmoginov, Chen, 2018)."""

from torch import Tensor, nn


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, active: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return [*layers, nn.ReLU6()] if active else layers


class InvertedResidual(nn.Module):
    """1x1 expansion to four times the channels, 3x3 depthwise, 1x1 linear projection; its input is added where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        wide = 4 * inputs
        self.is_residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *_convolution(inputs, wide, 1), *_convolution(wide, wide, 3, stride, wide), *_convolution(wide, outputs, 1, active=False)
        )

    def forward(self, values: Tensor) -> Tensor:
        """The block's features."""
        found: Tensor = self.body(values)
        return values + found if self.is_residual else found


class MobileNetV2(nn.Module):
    """Images [n, 1, 28, 28] -> logits [n, 10]: a stem of stride 2, six inverted residuals, a 1x1 convolution, an average, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(1, 12, 3, 2),
            InvertedResidual(12, 16, 2),
            InvertedResidual(16, 16),
            InvertedResidual(16, 24, 2),
            InvertedResidual(24, 24),
            InvertedResidual(24, 32),
            InvertedResidual(32, 32),
            *_convolution(32, 96, 1),
        )
        self.classifier = nn.Linear(96, 10)

    def forward(self, image: Tensor) -> Tensor:
        """The logits."""
        found: Tensor = self.classifier(self.features(image).mean((2, 3)))
        return found
