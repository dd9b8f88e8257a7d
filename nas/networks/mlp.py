"""The layers of the perceptron space: a layer around a trunk, and what may stand in it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, final

from torch import Tensor, nn

ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = MappingProxyType(
    {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh}
)
"""Nonlinearities by name."""
NORMALISATIONS: Final[Mapping[str, Callable[[int], nn.Module]]] = MappingProxyType(
    {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, "none": lambda width: nn.Identity()}
)
"""Normalisations of so many numbers by name."""


@final
class Layer(nn.Module):
    """The sum of what some layers and a shortcut make of the trunk."""

    def __init__(self, layers: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.shortcut = shortcut

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, trunk) to features of the same shape."""
        outputs: Tensor = self.shortcut(features) + self.layers(features)
        return outputs


@final
class Zero(nn.Module):
    """No shortcut."""

    def forward(self, features: Tensor) -> Tensor:
        """Zeros of the shape of the features."""
        return features.new_zeros(features.shape)
