"""A space of nine small networks for trying evaluators, and a dataset that notes which of its splits are read."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray
from torch import Tensor, nn

from nas.data.dataset import Dataset, Description
from nas.data.prepare import Splits, prepare
from nas.data.sources.digits import Digits
from nas.spaces.base import Picker, SearchSpace
from nas.tasks.base import Task

SKIP, BROKEN = "skip", "broken"


@final
class Blocks(SearchSpace):
    """A stem, two blocks that are convolutions or skipped, and a head; a skipped block leaves no gap."""

    broken: bool = False
    """Whether each block may also be one that raises RuntimeError when it runs."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        """Stem, blocks, head."""
        options: dict[str, Callable[[], nn.Module]] = {"conv3": partial(_block, 4, 3), "conv1": partial(_block, 4, 1), SKIP: nn.Identity}
        if self.broken:
            options[BROKEN] = Broken
        blocks = [pick(name, options) for name in ("first", "second")]
        return nn.Sequential(_block(task.input_shape[0], 3), *blocks, task.head(4))

    def canonical(self, architecture: Mapping[str, str], task: Task) -> str:
        """The blocks in order without skipped ones."""
        return json.dumps([option for option in self.decisions(architecture, task).values() if option != SKIP])


def _block(channels: int, size: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, size, padding=size // 2, bias=False), nn.BatchNorm2d(4), nn.ReLU())


@final
class Broken(nn.Module):
    """A candidate that fails."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Raise RuntimeError."""
        raise RuntimeError("this candidate is broken")


@final
class Noted:
    """The handwritten digits, prepared in a folder, as what an evaluator takes for a Dataset; `read` holds the splits that were read."""

    def __init__(self, folder: Path, examples: int) -> None:
        prepare(Digits(), Splits(limit=examples), folder, task="image_classification", root=folder.parent)
        self._dataset = Dataset.open(folder)
        self.folder = folder
        self.read: set[str] = set()

    @property
    def description(self) -> Description:
        """The description, which everybody may read."""
        return self._dataset.description

    def inputs(self, split: str) -> NDArray[Any]:
        """The pixels of a split."""
        self.read.add(split)
        return self._dataset.inputs(split)

    def targets(self, split: str) -> NDArray[Any]:
        """The targets of a split."""
        self.read.add(split)
        return self._dataset.targets(split)

    def as_bytes(self, split: str) -> NDArray[Any]:
        """The pixels of a split as bytes."""
        self.read.add(split)
        return self._dataset.as_bytes(split)
