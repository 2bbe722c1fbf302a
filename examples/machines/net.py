"""The autoencoder of MLPerf Tiny's anomaly detection (Banbury et al., 2021), after the DCASE 2020 baseline for ToyADMOS."""

from itertools import pairwise

from torch import nn

WINDOW = 160


def _dense(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]


class Autoencoder(nn.Sequential):
    """Windows [n, 160] of five frames of 32 bands -> the same, rebuilt: 4 dense layers of 128, 8 in the middle, 4 of 128."""

    def __init__(self) -> None:
        sizes = [WINDOW, 128, 128, 128, 128, 8, 128, 128, 128, 128]
        super().__init__(*[layer for pair in pairwise(sizes) for layer in _dense(*pair)], nn.Linear(128, WINDOW))
