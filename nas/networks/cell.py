"""The networks of the cell space: a cell of edges, and the block between two stages.

Dong and Yang 2020, NAS-Bench-201: Extending the scope of reproducible neural architecture search.
"""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from nas.networks.shared_edges import Mixed, Zero, carries, flow
from nas.spaces.graph import live_edges


@final
class CellBlock(nn.Module):
    """One cell, of modules by edge; the first node is the input, the last one the output.

    Edges that carry nothing, or that lead nowhere, are not kept: they cannot change the function. In a supernet all are kept, and
    the same rule says under each mixture which of them are computed.
    """

    def __init__(self, edges: Mapping[tuple[int, int], nn.Module]) -> None:
        super().__init__()
        self.output = max(target for _, target in edges)
        live = live_edges([edge for edge, module in edges.items() if not isinstance(module, Zero)], self.output)
        self.edges = nn.ModuleDict({f"{source}_{target}": edges[source, target] for source, target in live})

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, channels, height, width) to features of the same shape."""
        mixed = {(int(name[0]), int(name[2])): module for name, module in self.edges.items() if isinstance(module, Mixed)}
        if mixed:
            live = live_edges([edge for edge, module in mixed.items() if carries(module)], self.output)
            nodes = flow({0: features}, {edge: mixed[edge] for edge in live})
            return nodes[self.output] if live else torch.zeros_like(features)
        nodes = {0: features}
        for name, module in self.edges.items():
            source, target = int(name[0]), int(name[2])
            term = module(nodes[source])
            nodes[target] = nodes[target] + term if target in nodes else term
        return nodes[self.output] if self.edges else torch.zeros_like(features)


def relu_conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """Return a ReLU, a convolution and its normalisation; height and width stay, divided by the stride (rounded up)."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(outputs))


@final
class Reduction(nn.Module):
    """The residual block between stages: half the height and width (rounded up)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = relu_conv_norm(inputs, outputs, 3, stride=2)
        self.second = relu_conv_norm(outputs, outputs, 3)
        pool = nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / 2, width / 2)."""
        outputs: Tensor = self.shortcut(features) + self.second(self.first(features))
        return outputs
