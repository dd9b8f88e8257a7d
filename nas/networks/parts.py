"""Blocks that the networks of several spaces are made of."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn


@final
class Residual(nn.Module):
    """Layers whose output is added to their input."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Features of any shape that the layers keep."""
        outputs: Tensor = features + self.layers(features)
        return outputs


@final
class SqueezeExcite(nn.Module):
    """Channels weighed by what all pixels say together (Hu, Shen and Sun 2018, Squeeze-and-excitation networks, section 3)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        squeeze, excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.weigh = nn.Sequential(nn.AdaptiveAvgPool2d(1), squeeze, nn.ReLU(), excite, nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, channels, height, width) to features of the same shape."""
        outputs: Tensor = features * self.weigh(features)
        return outputs
