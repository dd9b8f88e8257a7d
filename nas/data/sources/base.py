"""What every source of labelled images is: validated settings, and a way to the examples that never needs them all at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Indices = NDArray[np.int64]


def example_name(index: int) -> str:
    """Name an example of a source that has no better name for it than its position, counted from 0."""
    return f"example {index}"


@dataclass(frozen=True)
class Samples:
    """Labelled images whose labels are in memory and whose pixels are read only when asked for."""

    classes: list[str]  # a target is an index into it
    targets: Indices  # N
    shape: tuple[int, int, int]  # height, width, channels of one example
    dtype: str  # "uint8" or "float32"
    batch: Callable[[Indices], NDArray[Any]]  # n positions -> n x H x W x C of that dtype; may raise DataError
    test: Indices | None = None  # positions of a test set that the source itself brings
    name: Callable[[int], str] = field(default=example_name)  # position -> how an error names that example


class Source(BaseModel, ABC):
    """Where labelled images come from; its settings are its fields."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @abstractmethod
    def read(self, root: Path) -> Samples:
        """Find the examples and read their labels; relative paths in the settings start at `root`.

        Raises:
            DataError: something is missing, unreadable or contradicts itself.
        """

    @abstractmethod
    def paths(self) -> list[str]:
        """Return the files and folders, as written in the settings, whose content decides what `read` gives."""
