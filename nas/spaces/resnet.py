"""Stages of residual blocks: basic, bottleneck and pre-activation blocks side by side, with gates and two ways to halve.

He, Zhang, Ren and Sun 2016, Deep residual learning for image recognition, figure 5 and table 1; pre-activation: the same authors 2016,
Identity mappings in deep residual networks, figure 4e; halving by pooling: He et al. 2019, Bag of tricks, section 4.1 (ResNet-D).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, final

from annotated_types import MinLen
from pydantic import AfterValidator, Field, PositiveInt

from nas.spaces.base import Options, Picker, SearchSpace, image_channels
from nas.spaces.parts import answer, block_name, each_once
from nas.tasks.base import Task

if TYPE_CHECKING:
    from torch import nn

SKIP = "skip"
Kind = Literal["basic", "bottleneck", "preactivation"]
Gate = Literal["none", "squeeze_excite"]
Kernel = Literal[1, 3, 5, 7, 9, 11]
Way = Literal["convolution", "pooling"]


@final
class Resnet(SearchSpace):
    """Stages of residual blocks; kind with inner width, kernel and gate per block, the shortcut per halving, and each stage's depth."""

    widths: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (8, 16, 32)
    """Channels of each stage; from the second stage on, each halves height and width first."""
    depth: int = Field(2, ge=1)
    """Blocks per stage at most; all but the first may be skipped."""
    kinds: Annotated[tuple[Kind, ...], MinLen(1), AfterValidator(each_once)] = ("basic", "bottleneck", "preactivation")
    """Kinds of block to choose from."""
    multipliers: Annotated[tuple[PositiveInt, ...], MinLen(1), AfterValidator(each_once)] = (1, 2)
    """Inner widths of a block to choose from, as multiples of the usual one: the stage's, and a quarter of it in a bottleneck."""
    kernels: Annotated[tuple[Kernel, ...], MinLen(1), AfterValidator(each_once)] = (3, 5)
    """Sizes of a block's spatial convolutions to choose from."""
    gates: Annotated[tuple[Gate, ...], MinLen(1), AfterValidator(each_once)] = ("none", "squeeze_excite")
    """What weighs the channels at the end of a block, to choose from."""
    squeeze: PositiveInt = 16
    """Channels of a gate for each one inside it."""
    shortcuts: Annotated[tuple[Way, ...], MinLen(1), AfterValidator(each_once)] = ("convolution", "pooling")
    """How a shortcut halves, to choose from: a 1 x 1 convolution of stride 2, or average pooling before one of stride 1."""
    stem: PositiveInt = 8
    """Channels of the first convolution."""
    stem_kernel: Kernel = 3
    """Size of the first convolution."""
    stem_stride: Literal[1, 2] = 1
    """Stride of the first convolution; 2 for images of 100 x 100 and more."""

    def define(self, pick: Picker, task: Task) -> "nn.Module":
        """Stem, stages of blocks, and the task's head. Wants images (channels, height, width)."""
        from torch import nn

        inputs = image_channels(task, "resnet")
        _refuse_small(task.input_shape, len(self.widths) - 1 + (self.stem_stride == 2))
        stem = nn.Conv2d(inputs, self.stem, self.stem_kernel, self.stem_stride, self.stem_kernel // 2, bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(self.stem), nn.ReLU()]
        inputs = self.stem
        for stage, width in enumerate(self.widths):
            for block in range(self.depth):
                stride = 2 if stage and not block else 1
                make = partial(self._block, pick, stage, block, (inputs, width, stride))
                options: dict[str, Callable[[], nn.Module]] = {SKIP: nn.Identity} if block else {}
                options |= {f"{kind}_w{multiplier}": partial(make, kind, multiplier) for kind, multiplier in self._kinds()}
                layers.append(pick(block_name(stage, block), options))
                inputs = width
        return nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU(), task.head(inputs))

    def canonical(self, architecture: Mapping[str, str], task: Task) -> str:
        """Return each stage's shortcut and blocks in order, without the skipped ones: all but a stage's first have one shape.

        Raises KeyError or ValueError for a missing or unknown answer.
        """
        kinds = tuple(f"{kind}_w{multiplier}" for kind, multiplier in self._kinds())
        kernels = tuple(f"k{kernel}" for kernel in self.kernels)
        stages = []
        for stage in range(len(self.widths)):
            found = []
            for block in range(self.depth):
                name = block_name(stage, block)
                kind = answer(architecture, name, (SKIP, *kinds) if block else kinds)
                if kind != SKIP:
                    kernel = answer(architecture, f"{name}.kernel", kernels)
                    found.append([kind, kernel, answer(architecture, f"{name}.gate", self.gates)])
            shortcut = [answer(architecture, f"stage_{stage}.shortcut", self.shortcuts)] if stage else []
            stages.append([*shortcut, *found])
        return json.dumps(stages, separators=(",", ":"))

    def _kinds(self) -> list[tuple[Kind, int]]:
        return [(kind, multiplier) for kind in self.kinds for multiplier in self.multipliers]

    def _block(self, pick: Picker, stage: int, block: int, shape: tuple[int, int, int], kind: Kind, multiplier: int) -> "nn.Module":
        """`shape` is input channels, output channels and stride."""
        from torch import nn

        from nas.networks.resnet import Residual, gate, projection

        inputs, width, stride = shape
        name = block_name(stage, block)
        shortcut: nn.Module = nn.Identity()
        if stride == 2:
            ways: Options = {way: partial(projection, inputs, width, way) for way in self.shortcuts}
            shortcut = pick(f"stage_{stage}.shortcut", ways)
        elif inputs != width:
            shortcut = projection(inputs, width, "none")
        layers = self._layers(partial(self._spatial, pick, f"{name}.kernel"), shape, kind, multiplier)
        gates: Options = {kind: partial(gate, width, self.squeeze, kind) for kind in self.gates}
        after = nn.Identity() if kind == "preactivation" else nn.ReLU()
        return Residual(shortcut, nn.Sequential(*layers, pick(f"{name}.gate", gates)), after)

    def _layers(
        self, spatial: Callable[[int, int, int], "nn.Module"], shape: tuple[int, int, int], kind: Kind, multiplier: int
    ) -> list["nn.Module"]:
        from torch import nn

        inputs, width, stride = shape
        inner = width * multiplier
        if kind == "basic":
            return [spatial(inputs, inner, stride), nn.BatchNorm2d(inner), nn.ReLU(), spatial(inner, width, 1), nn.BatchNorm2d(width)]
        if kind == "preactivation":
            first = [nn.BatchNorm2d(inputs), nn.ReLU(), spatial(inputs, inner, stride)]
            return [*first, nn.BatchNorm2d(inner), nn.ReLU(), spatial(inner, width, 1)]
        inner = max(1, inner // 4)
        first = [nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()]
        middle = [spatial(inner, inner, stride), nn.BatchNorm2d(inner), nn.ReLU()]
        return [*first, *middle, nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)]

    def _spatial(self, pick: Picker, name: str, inputs: int, outputs: int, stride: int) -> "nn.Module":
        from torch import nn

        makers: Options = {
            f"k{kernel}": partial(nn.Conv2d, inputs, outputs, kernel, stride, kernel // 2, bias=False) for kernel in self.kernels
        }
        return pick(name, makers)


def _refuse_small(shape: Sequence[int], halvings: int) -> None:
    # An image of one pixel is let through: it has no height and width to lose.
    side = max(shape[1:])
    if 1 < side <= 2 ** (halvings - 1):
        raise ValueError(
            f"space 'resnet' halves height and width {halvings} times, but images of {shape[1]} x {shape[2]} are one pixel before the "
            f"last time: take away {halvings - (side - 1).bit_length()} of widths and stem_stride 2, or prepare larger images"
        )
