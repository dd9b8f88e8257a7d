"""The networks of the DARTS space: a cell of two inputs, its operations, and the row of cells around them.

Liu, Simonyan and Yang 2019, DARTS: Differentiable architecture search, section 3.1 and appendix A.1.
"""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class Network(nn.Module):
    """A stem, cells that take the outputs of the two before, and a head on the last one's. Cells without a use are not kept."""

    def __init__(self, stem: nn.Module, cells: Mapping[int, nn.Module], last: tuple[int, int], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.cells = nn.ModuleDict({str(index): cell for index, cell in cells.items()})
        self.last, self.channels = last
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to what the head returns."""
        features: Tensor = self.stem(images)
        outputs = {-2: features, -1: features}
        for name, cell in self.cells.items():
            index = int(name)
            outputs[index] = cell(outputs.get(index - 2), outputs.get(index - 1))
        if self.last not in outputs:  # nothing of the image arrives
            outputs[self.last] = torch.zeros_like(features[:, :1, ::4, ::4]).expand(-1, self.channels, -1, -1)
        found: Tensor = self.head(outputs[self.last])
        return found


@final
class CellBlock(nn.Module):
    """One cell: its inputs brought to its size, nodes that sum their edges, and the nodes `targets` side by side."""

    def __init__(self, edges: Mapping[tuple[int, int], nn.Module], entries: Mapping[int, nn.Module], targets: Sequence[int]) -> None:
        super().__init__()
        self.entries = nn.ModuleDict({str(source): entry for source, entry in entries.items()})
        self.edges = nn.ModuleDict({f"{source}_{target}": module for (source, target), module in edges.items()})
        self.targets = tuple(targets)

    def forward(self, before: Tensor | None, last: Tensor | None) -> Tensor:
        """The outputs of the two cells before, None where that cell is not kept, to (batch, nodes x channels, height, width)."""
        nodes: dict[int, Tensor] = {int(name): entry((before, last)[int(name)]) for name, entry in self.entries.items()}
        for name, module in self.edges.items():
            source, target = int(name[0]), int(name[2])
            term = module(nodes[source])
            nodes[target] = nodes[target] + term if target in nodes else term
        empty = torch.zeros_like(nodes[max(nodes)])
        return torch.cat([nodes.get(target, empty) for target in self.targets], dim=1)


def normalised(pool: nn.Module, channels: int) -> nn.Module:
    """Return a pooling and a normalisation.

    Normalised, so that no operation of a mixture is louder than the others; without weights, which the paper's cells do not have here.
    """
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))


def pointwise(inputs: int, outputs: int, affine: bool) -> nn.Module:
    """Return a ReLU, a 1 x 1 convolution and its normalisation."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs, affine=affine))


def depthwise(channels: int, kernel: tuple[int, int], stride: int, affine: bool) -> nn.Sequential:
    """Return a depthwise and a pointwise convolution; `kernel` is the size and the dilation of the first."""
    size, dilation = kernel
    padding = dilation * (size // 2)
    spatial = nn.Conv2d(channels, channels, size, stride, padding, dilation, groups=channels, bias=False)
    mix = nn.Conv2d(channels, channels, 1, bias=False)
    return nn.Sequential(nn.ReLU(), spatial, mix, nn.BatchNorm2d(channels, affine=affine))


def separable(channels: int, size: int, stride: int, affine: bool) -> nn.Module:
    """Return two depthwise and pointwise convolutions, the first with the stride."""
    return nn.Sequential(*depthwise(channels, (size, 1), stride, affine), *depthwise(channels, (size, 1), 1, affine))


@final
class Zero(nn.Module):
    """The operation `none`."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """Zeros, with height and width divided by the stride (rounded up)."""
        return torch.zeros_like(features[:, :, :: self.stride, :: self.stride])


@final
class Halving(nn.Module):
    """Half the height and width without losing a pixel: half of the channels see the even pixels, half the odd ones."""

    def __init__(self, inputs: int, outputs: int, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.normalise = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / 2, width / 2), rounded up."""
        active = F.relu(features)
        # The row and column of zeros keep both halves of one size where height or width is odd.
        shifted = F.pad(active, (0, 1, 0, 1))[:, :, 1:, 1:]
        outputs: Tensor = self.normalise(torch.cat([self.even(active), self.odd(shifted)], dim=1))
        return outputs
