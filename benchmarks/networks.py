"""The networks that the compression benchmark trains, as torch sources: [n, 1, 28, 28] -> logits [n, 10]."""

from collections import OrderedDict

from torch import nn


class LeNet5(nn.Sequential):
    """examples/fashion's: 6-16-120-84 channels, 61,706 parameters."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(400, 120),
                relu3=nn.ReLU(),
                fc2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                fc3=nn.Linear(84, 10),
            )
        )


class LeNet5Caffe(nn.Sequential):
    """The LeNet-5 that Deep Compression reports: 20-50-500 channels, one ReLU, 431,080 parameters."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 20, 5),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(20, 50, 5),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(800, 500),
                relu1=nn.ReLU(),
                fc2=nn.Linear(500, 10),
            )
        )


class LeNet300(nn.Sequential):
    """LeNet-300-100: fully connected, 266,610 parameters."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                flatten=nn.Flatten(),
                fc1=nn.Linear(784, 300),
                relu1=nn.ReLU(),
                fc2=nn.Linear(300, 100),
                relu2=nn.ReLU(),
                fc3=nn.Linear(100, 10),
            )
        )
