"""A small MobileNetV2: inverted residuals with depthwise convolutions and BatchNorm."""

from torch import Tensor, nn


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection; its input is added where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        hidden = 3 * inputs
        self.is_residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.body(values)
        return values + found if self.is_residual else found


class MobileNet(nn.Module):
    """[n, 1, 28, 28] -> logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(InvertedResidual(8, 16, 2), InvertedResidual(16, 16), InvertedResidual(16, 24, 2))
        self.head = nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(self.stem(image)).mean((2, 3)))
        return found
