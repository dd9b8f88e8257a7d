"""The layers of the mobile space: those of an inverted residual block.

Sandler, Howard, Zhu, Zhmoginov and Chen 2018, MobileNetV2, section 3.3.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from torch import nn

from nas.networks.parts import SqueezeExcite

ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = MappingProxyType(
    {"relu6": nn.ReLU6, "silu": nn.SiLU, "hardswish": nn.Hardswish}
)
"""Nonlinearities by name."""


def convolution(channels: tuple[int, int], kernel: int, stride: int, activation: str) -> list[nn.Module]:
    """Return a convolution from and to so many channels, its normalisation and an activation."""
    inputs, outputs = channels
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [layer, nn.BatchNorm2d(outputs), ACTIVATIONS[activation]()]


def depthwise(channels: int, kernel: int, stride: int) -> nn.Module:
    """Return a convolution of each channel by itself, and its normalisation."""
    layer = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels))


def squeeze_excite(channels: int, share: float) -> nn.Module:
    """Return what weighs channels, with a share of them inside; 0 is nothing."""
    return SqueezeExcite(channels, max(1, round(channels * share))) if share else nn.Identity()
