"""A space of candidates that misbehave, each in its own way, once they really run."""

import os
import sys
import time
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.spaces.base import Picker, SearchSpace
from nas.tasks.base import Task

WAYS = ("good", "sleeps", "sleeps_at_once", "stubborn", "hoards", "nan", "raises", "leaves", "vanishes")


@final
class Bad(nn.Module):
    """Passes features on, and misbehaves in training; `sleeps_at_once` does even where nothing is computed."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.scale = way, nn.Parameter(torch.ones(1))

    def forward(self, features: Tensor) -> Tensor:
        """Features of any shape, scaled."""
        if self.way == "sleeps_at_once" or (features.device.type != "meta" and self.training):
            misbehave(self.way)
        return features * self.scale * (torch.nan if self.way == "nan" and self.training else 1.0)


def misbehave(way: str) -> None:
    """What a candidate does to the process; a good one does nothing."""
    kept: list[bytearray] = []
    while way in ("sleeps", "sleeps_at_once", "hoards"):
        if way == "hoards":
            kept.append(bytearray(2**25))
        else:
            time.sleep(60)
    if way == "stubborn":
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001 - it is to be told twice
            time.sleep(60)
    if way == "raises":
        raise KeyError("no such layer")
    if way == "leaves":
        sys.exit("had enough")
    if way == "vanishes":
        os._exit(3)


class Trap(SearchSpace):
    """A convolution, a layer that does what its name says, and the task's head."""

    ways: tuple[str, ...] = WAYS
    """What there is to choose from."""
    places: int = 1
    """How many such layers follow each other."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        """One choice per place."""
        bad = [pick(f"way_{place}", {way: partial(Bad, way) for way in self.ways}) for place in range(self.places)]
        return nn.Sequential(nn.Conv2d(task.input_shape[0], 4, 3, padding=1), nn.BatchNorm2d(4), *bad, nn.ReLU(), task.head(4))


def one(way: str) -> Architecture:
    """The architecture that does this."""
    return Architecture({"way_0": way})
