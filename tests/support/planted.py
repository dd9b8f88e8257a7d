"""A space of operators that train well and ship badly: one exports wrongly, one cannot be exported, one is slow in onnxruntime alone."""

import os
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.spaces.base import Picker, SearchSpace
from nas.tasks.base import Task

WAYS = ("good", "wrong", "impossible", "slow", "deadly")
_TURNS = 60
"""So often an image is turned over and back where only onnxruntime sees it: each turn is an operator that it does not fold."""


@final
class Operator(nn.Module):
    """A 1 x 1 convolution, and what the way does to it."""

    def __init__(self, way: str, width: int) -> None:
        super().__init__()
        self.way, self.convolution = way, nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features N x C x H x W, and as many."""
        found: Tensor = self.convolution(features)
        if self.way == "impossible":
            return torch.special.bessel_j1(found)
        if not (torch.jit.is_tracing() or torch.compiler.is_exporting()):
            return found
        return as_a_file(self.way, found)


def as_a_file(way: str, features: Tensor) -> Tensor:
    """What the operator becomes in its exported form alone."""
    if way == "deadly":
        os._exit(3)
    if way == "wrong":
        return features * 1.5
    for _ in range(_TURNS if way == "slow" else 0):
        features = features.flip(2).flip(3)
    return features


@final
class Planted(SearchSpace):
    """A convolution, an operator in each place, and the task's head."""

    ways: tuple[str, ...] = WAYS
    """What there is to choose from."""
    places: int = 1
    """How many such operators follow each other."""
    widths: tuple[int, ...] = (4,)
    """Channels to choose from."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        """One choice per place, and the width."""
        width = pick.number("width", self.widths)
        operators = [pick(f"way_{place}", {way: partial(Operator, way, width) for way in self.ways}) for place in range(self.places)]
        return nn.Sequential(nn.Conv2d(task.input_shape[0], width, 3, padding=1), nn.ReLU(), *operators, task.head(width))


def one(way: str, width: int = 4) -> Architecture:
    """The architecture with this operator."""
    return Architecture({"width": str(width), "way_0": way})
