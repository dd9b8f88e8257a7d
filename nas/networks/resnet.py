"""The networks of the resnet space: a residual block, its shortcut and its gate.

He, Zhang, Ren and Sun 2016, Deep residual learning for image recognition, figure 5; halving by pooling: He et al. 2019, Bag of tricks,
section 4.1 (ResNet-D).
"""

from typing import final

from torch import Tensor, nn

from nas.networks.parts import SqueezeExcite


@final
class Residual(nn.Module):
    """A shortcut and layers, summed, and what comes after the sum."""

    def __init__(self, shortcut: nn.Module, layers: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.layers = layers
        self.after = after

    def forward(self, features: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height, width), halved where the stride is 2."""
        outputs: Tensor = self.after(self.shortcut(features) + self.layers(features))
        return outputs


def projection(inputs: int, outputs: int, way: str) -> nn.Module:
    """Return a shortcut to another number of channels, which halves by `convolution` or `pooling`; any other way halves nothing."""
    pool = [nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)] if way == "pooling" else []
    change = nn.Conv2d(inputs, outputs, 1, stride=2 if way == "convolution" else 1, bias=False)
    return nn.Sequential(*pool, change, nn.BatchNorm2d(outputs))


def gate(channels: int, squeeze: int, kind: str) -> nn.Module:
    """Return what weighs the channels, one inside it for `squeeze` of them; any kind but `squeeze_excite` is nothing."""
    return SqueezeExcite(channels, max(1, channels // squeeze)) if kind == "squeeze_excite" else nn.Identity()
