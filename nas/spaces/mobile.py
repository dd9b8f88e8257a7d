"""A chain of stages of inverted residual blocks (MBConv): the family of small networks for phones and small CPUs.

Sandler, Howard, Zhu, Zhmoginov and Chen 2018, MobileNetV2, section 3.3, table 1; what is searched per block follows Tan et al. 2019,
MnasNet, and Cai, Gan, Wang, Zhang and Han 2020, Once-for-all: kernel, expansion, squeeze-excite and depth.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Self, final

from annotated_types import MinLen
from pydantic import AfterValidator, Field, PositiveInt, model_validator

from nas.spaces.base import Options, Picker, SearchSpace, image_channels
from nas.spaces.parts import answer, block_name, each_once
from nas.tasks.base import Task

if TYPE_CHECKING:
    from torch import nn

SKIP = "skip"
Kernel = Literal[1, 3, 5, 7, 9, 11]
Share = Annotated[float, Field(ge=0, le=1)]


@final
class Mobile(SearchSpace):
    """Stages of MBConv blocks; expansion, kernel and squeeze-excite per block, and how many blocks a stage has.

    A block of another expansion is another block; kernels and squeeze-excite are options inside it, around which a supernet shares it.
    """

    widths: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (8, 16, 24)
    """Channels of each stage."""
    strides: Annotated[tuple[Literal[1, 2], ...], MinLen(1)] = (1, 2, 2)
    """Stride of each stage's first block: 2 halves height and width."""
    depth: int = Field(2, ge=1)
    """Blocks per stage at most; all but the first may be skipped."""
    kernels: Annotated[tuple[Kernel, ...], MinLen(1), AfterValidator(each_once)] = (3, 5)
    """Sizes of the depthwise convolution to choose from."""
    expansions: Annotated[tuple[PositiveInt, ...], MinLen(1), AfterValidator(each_once)] = (3, 6)
    """Inner widths of a block to choose from, as multiples of its input's channels; 1 leaves the expanding convolution out."""
    squeeze_excite: Annotated[tuple[Share, ...], MinLen(1), AfterValidator(each_once)] = (0.0, 0.25)
    """Sizes of the squeeze-excite layer to choose from, as shares of a block's inner width; 0 is a block without."""
    stem: PositiveInt = 8
    """Channels of the first convolution."""
    stem_stride: Literal[1, 2] = 1
    """Stride of the first convolution; 2 for images of 100 x 100 and more."""
    last: PositiveInt = 64
    """Channels of the 1 x 1 convolution before the head."""
    activation: Literal["relu6", "silu", "hardswish"] = "relu6"
    """The nonlinearity of all layers."""

    @model_validator(mode="after")
    def _a_stride_per_stage(self) -> Self:
        if len(self.strides) != len(self.widths):
            raise ValueError(f"strides has {len(self.strides)} entries and widths {len(self.widths)}: give one of each per stage")
        return self

    def define(self, pick: Picker, task: Task) -> "nn.Module":
        """Stem, stages of blocks, a 1 x 1 convolution, and the task's head. Wants images (channels, height, width)."""
        from torch import nn

        from nas.networks.mobile import convolution

        inputs = image_channels(task, "mobile")
        _refuse_small(task.input_shape, (self.stem_stride, *self.strides))
        layers = convolution((inputs, self.stem), 3, self.stem_stride, self.activation)
        inputs = self.stem
        for stage, (width, stride) in enumerate(zip(self.widths, self.strides, strict=True)):
            for block in range(self.depth):
                make = partial(self._block, pick, block_name(stage, block), (inputs, width), 1 if block else stride)
                options: dict[str, Callable[[], nn.Module]] = {SKIP: nn.Identity} if block else {}
                options |= {f"e{expansion}": partial(make, expansion) for expansion in self.expansions}
                layers.append(pick(block_name(stage, block), options))
                inputs = width
        return nn.Sequential(*layers, *convolution((inputs, self.last), 1, 1, self.activation), task.head(self.last))

    def canonical(self, architecture: Mapping[str, str], task: Task) -> str:
        """Return each stage's blocks in order, without the skipped ones: all but a stage's first have one shape, so a gap is no place.

        Raises KeyError or ValueError for a missing or unknown answer.
        """
        expansions = tuple(f"e{expansion}" for expansion in self.expansions)
        stages = []
        for stage in range(len(self.widths)):
            blocks = []
            for block in range(self.depth):
                name = block_name(stage, block)
                expansion = answer(architecture, name, (SKIP, *expansions) if block else expansions)
                if expansion != SKIP:
                    kernel = answer(architecture, f"{name}.kernel", tuple(f"k{kernel}" for kernel in self.kernels))
                    share = answer(architecture, f"{name}.squeeze_excite", tuple(_share_name(share) for share in self.squeeze_excite))
                    blocks.append([expansion, kernel, share])
            stages.append(blocks)
        return json.dumps(stages, separators=(",", ":"))

    def _block(self, pick: Picker, name: str, channels: tuple[int, int], stride: int, expansion: int) -> "nn.Module":
        from torch import nn

        from nas.networks import mobile as layer
        from nas.networks.parts import Residual

        inputs, outputs = channels
        inner = inputs * expansion
        kernels: Options = {f"k{kernel}": partial(layer.depthwise, inner, kernel, stride) for kernel in self.kernels}
        shares: Options = {_share_name(share): partial(layer.squeeze_excite, inner, share) for share in self.squeeze_excite}
        layers = [
            *(layer.convolution((inputs, inner), 1, 1, self.activation) if expansion > 1 else []),
            pick(f"{name}.kernel", kernels),
            layer.ACTIVATIONS[self.activation](),
            pick(f"{name}.squeeze_excite", shares),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        return Residual(layers) if stride == 1 and inputs == outputs else nn.Sequential(*layers)


def _share_name(share: float) -> str:
    return f"se{share:g}" if share else "none"


def _refuse_small(shape: Sequence[int], strides: Sequence[int]) -> None:
    # An image of one pixel is let through: it has no height and width to lose.
    halvings, side = sum(stride == 2 for stride in strides), max(shape[1:])
    if 1 < side <= 2 ** (halvings - 1):
        raise ValueError(
            f"space 'mobile' halves height and width {halvings} times, but images of {shape[1]} x {shape[2]} are one pixel before the "
            f"last time: give at most {(side - 1).bit_length()} of stem_stride and strides a 2, or prepare larger images"
        )
