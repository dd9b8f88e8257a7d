"""What every task is: the data's meaning, the head on the features, the loss, the metrics and an example input."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from nas.data.dataset import Description

if TYPE_CHECKING:  # settings are read without PyTorch
    from torch import Tensor, nn


class Task(BaseModel, ABC):
    """A kind of problem. A space sees only `input_shape` and `head`; training sees only `prepare`, `loss` and `metrics`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    metric_names: ClassVar[tuple[str, ...]]
    """The metrics of one number each that `metrics` returns."""
    share_names: ClassVar[tuple[str, ...]]
    """Those of `metric_names` that are shares of examples, from 0 to 1."""
    output_names: ClassVar[tuple[str, ...]]
    """What the deployed model returns, in order."""

    _description: Description = PrivateAttr()

    def bind(self, description: Description) -> Self:
        """Tell the task which data it is about; returns the task itself.

        Raises ValueError when the data are not of this task.
        """
        self._description = description
        return self

    @property
    def description(self) -> Description:
        """The prepared data's description."""
        return self._description

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example as the network sees it, without the batch, after `prepare`."""

    @abstractmethod
    def head(self, channels: int) -> "nn.Module":
        """Return the module from features (batch, channels, …) to outputs."""

    @abstractmethod
    def prepare(self) -> "nn.Module":
        """Return the module from stored inputs to network inputs; it is part of the shipped model."""

    @abstractmethod
    def loss(self, outputs: "Tensor", targets: "Tensor", smoothing: float) -> "Tensor":
        """Return the mean loss of a batch, a scalar; `smoothing` softens the targets where the task can."""

    def chance_loss(self) -> float:
        """Return the loss of guessing, the same for every example; without an answer, infinity, no loss counts as worse than that."""
        return math.inf

    def load(self) -> None:
        """Import what `metrics` needs, so that no candidate is charged for it; by default nothing is to be imported."""

    @abstractmethod
    def metrics(self, outputs: "Tensor", targets: "Tensor") -> dict[str, float]:
        """Return `metric_names` and their values over a whole split."""

    @abstractmethod
    def details(self, outputs: "Tensor", targets: "Tensor") -> Mapping[str, Any]:
        """Return what only a final report shows, such as metrics per class, as JSON values."""

    @abstractmethod
    def predictions(self, outputs: "Tensor", targets: "Tensor") -> list[tuple[str, str]]:
        """Return (actual, predicted) in words for every example."""

    @abstractmethod
    def deployable(self, network: "nn.Module") -> "nn.Module":
        """Return the module that ships: inputs as users have them (images of bytes) in, a tuple of `output_names` out."""

    @abstractmethod
    def example(self, batch: int) -> "Tensor":
        """Return inputs of zeros for what ships, with `batch` examples."""
