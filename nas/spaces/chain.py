"""A chain of stages of residual convolution blocks: the plain, fast family for small images.

A block is a k x k convolution to `expansion` times the width and a 1 x 1 convolution back (the fused inverted bottleneck of
Tan and Le 2021, EfficientNetV2, figure 2, without squeeze-excite), after Sandler et al. 2018, MobileNetV2.
"""

from functools import partial
from math import gcd
from typing import TYPE_CHECKING, Annotated, final

from annotated_types import MinLen
from pydantic import AfterValidator, Field, PositiveInt

from nas.spaces.base import Options, Picker, SearchSpace, image_channels
from nas.spaces.parts import each_once
from nas.tasks.base import Task

if TYPE_CHECKING:
    from torch import nn


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("a kernel must be odd, to keep height and width")
    return kernel


Numbers = Annotated[tuple[PositiveInt, ...], MinLen(1), AfterValidator(each_once)]
Kernels = Annotated[tuple[Annotated[PositiveInt, AfterValidator(_odd)], ...], MinLen(1), AfterValidator(each_once)]


@final
class Chain(SearchSpace):
    """Stages of blocks; width, pooling, normalisation, activation and shortcut per stage, depth, kernel and expansion per block."""

    widths: Annotated[tuple[Numbers, ...], MinLen(1)] = ((16, 24, 32), (24, 32, 48), (32, 48, 64))
    """Widths to choose from, one list per stage; from the second stage on, each halves height and width first."""
    blocks: int = Field(2, ge=1)
    """Blocks per stage at most; all but the first may be skipped."""
    kernels: Kernels = (3, 5)
    """Odd kernel sizes to choose from."""
    expansions: Numbers = (1, 2)
    """Inner widths of a block to choose from, as multiples of the stage's width."""

    def define(self, pick: Picker, task: Task) -> "nn.Module":
        """Stages of blocks, and the task's head. Wants images (channels, height, width)."""
        from torch import nn

        inputs = image_channels(task, "chain")
        layers: list[nn.Module] = []
        for stage, options in enumerate(self.widths):
            width = pick.number(f"stage_{stage}.width", options)
            layers += self._entry(pick, stage, inputs, width)
            for block in range(self.blocks):
                make = partial(self._block, pick, stage, block, width)
                layers.append(pick(f"stage_{stage}.block_{block}", {"conv": make, "skip": nn.Identity}) if block else make())
            inputs = width
        return nn.Sequential(*layers, task.head(inputs))

    def _entry(self, pick: Picker, stage: int, inputs: int, width: int) -> list["nn.Module"]:
        """The change of width at a stage's start, with pooling from the second stage on."""
        from torch import nn

        if stage == 0:
            change: nn.Module = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        else:
            narrow = partial(nn.Conv2d, inputs, width, bias=False)
            pools: Options = {
                "max": lambda: nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), narrow(1)),
                "average": lambda: nn.Sequential(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), narrow(1)),
                "stride": partial(narrow, 3, 2, 1),
            }
            change = pick(f"stage_{stage}.pooling", pools)
        return [change, _normalisation(pick, stage, width), _activation(pick, stage)]

    def _block(self, pick: Picker, stage: int, block: int, width: int) -> "nn.Module":
        from torch import nn

        from nas.networks.parts import Residual

        kernel = pick.number(f"stage_{stage}.block_{block}.kernel", self.kernels)
        inner = width * pick.number(f"stage_{stage}.block_{block}.expansion", self.expansions)
        layers = [
            nn.Conv2d(width, inner, kernel, padding=kernel // 2, bias=False),
            _normalisation(pick, stage, inner),
            _activation(pick, stage),
            nn.Conv2d(inner, width, 1, bias=False),
            _normalisation(pick, stage, width),
        ]
        make: Options = {"identity": partial(Residual, layers), "none": partial(nn.Sequential, *layers)}
        return pick(f"stage_{stage}.shortcut", make)


def _normalisation(pick: Picker, stage: int, width: int) -> "nn.Module":
    from torch import nn

    groups = gcd(width, 8)
    if groups == width:  # a channel alone has nothing to be normalised by where the image has shrunk to one pixel
        groups = max(1, width // 2)
    return pick(f"stage_{stage}.normalisation", {"batch": partial(nn.BatchNorm2d, width), "group": partial(nn.GroupNorm, groups, width)})


def _activation(pick: Picker, stage: int) -> "nn.Module":
    from torch import nn

    return pick(f"stage_{stage}.activation", {"relu": nn.ReLU, "silu": nn.SiLU, "hardswish": nn.Hardswish})
