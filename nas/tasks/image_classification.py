"""Image classification: one class per image; cross-entropy, with accuracy, precision, recall and F1 as metrics."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

from nas.data.dataset import Description
from nas.tasks.base import Task

if TYPE_CHECKING:
    from torch import Tensor, nn


@final
class ImageClassification(Task):
    """One of K classes for an image of height x width x channels."""

    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "precision", "recall", "f1", "loss")
    share_names: ClassVar[tuple[str, ...]] = ("accuracy", "precision", "recall", "f1")
    output_names: ClassVar[tuple[str, ...]] = ("logits", "probabilities")

    def bind(self, description: Description) -> Self:
        """Tell the task which data it is about; raises ValueError when they were prepared for another task."""
        if description.task != "image_classification":
            raise ValueError(f"the data were prepared for {description.task!r}: prepare them for 'image_classification'")
        return super().bind(description)

    @property
    def classes(self) -> list[str]:
        """Names of the classes; a target is an index into it."""
        return self.description.classes

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        height, width, channels = self.description.input_shape
        return channels, height, width

    def head(self, channels: int) -> "nn.Module":
        """Global average pooling and a linear layer: (batch, channels, height, width) to logits (batch, classes)."""
        from torch import nn

        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(self.classes)))

    def prepare(self) -> "nn.Module":
        """Stored images (batch, height, width, channels) to normalised floats (batch, channels, height, width)."""
        from nas.networks.images import Normalise

        return Normalise(self.description.mean, self.description.std)

    def loss(self, outputs: "Tensor", targets: "Tensor", smoothing: float) -> "Tensor":
        """Cross-entropy; `smoothing` is the share of the target spread over all classes (Szegedy et al. 2016, section 7)."""
        from torch.nn import functional as F

        return F.cross_entropy(outputs, targets, label_smoothing=smoothing)

    def chance_loss(self) -> float:
        """Cross-entropy when all classes are equally probable, log K, whatever the smoothing."""
        return math.log(len(self.classes))

    def metrics(self, outputs: "Tensor", targets: "Tensor") -> dict[str, float]:
        """Accuracy over images, the mean over classes of precision, recall and F1, and cross-entropy.

        A class that neither occurs nor is predicted does not count in the means.
        """
        from torch.nn import functional as F

        right = (outputs.argmax(dim=1) == targets).sum()
        met, columns = _per_class(outputs, targets, len(self.classes))
        values = {"accuracy": float(right / max(1, len(targets)))}
        values |= {name: float((met * column / met.sum()).sum()) for name, column in columns.items()}
        return values | {"loss": float(F.cross_entropy(outputs, targets))}

    def details(self, outputs: "Tensor", targets: "Tensor") -> Mapping[str, Any]:
        """Precision, recall and F1 of every class."""
        columns = {name: column.tolist() for name, column in _per_class(outputs, targets, len(self.classes))[1].items()}
        rows = [{name: values[index] for name, values in columns.items()} for index in range(len(self.classes))]
        return {"per_class": dict(zip(self.classes, rows, strict=True))}

    def predictions(self, outputs: "Tensor", targets: "Tensor") -> list[tuple[str, str]]:
        """(actual class, predicted class) of every image."""
        pairs = zip(targets.tolist(), outputs.argmax(dim=1).tolist(), strict=True)
        return [(self.classes[actual], self.classes[predicted]) for actual, predicted in pairs]

    def deployable(self, network: "nn.Module") -> "nn.Module":
        """Images of bytes in, whatever is stored; (logits, probabilities) out, each (batch, classes)."""
        from torch import nn

        from nas.networks.images import Deployable, FromBytes

        if self.description.input_dtype == "uint8":
            return Deployable(self.prepare(), network)
        return Deployable(nn.Sequential(FromBytes(*self.description.byte_range), self.prepare()), network)

    def example(self, batch: int) -> "Tensor":
        """Black images as what ships takes them: bytes, (batch, height, width, channels)."""
        import torch

        return torch.zeros(batch, *self.description.input_shape, dtype=torch.uint8)


def _per_class(outputs: "Tensor", targets: "Tensor", count: int) -> "tuple[Tensor, dict[str, Tensor]]":
    """Which classes occur or are predicted, as 1 and 0, and precision, recall and F1 of each; what would divide by 0 is 0."""
    predicted = outputs.argmax(dim=1)
    right = targets[predicted == targets].bincount(minlength=count)
    named, meant = predicted.bincount(minlength=count), targets.bincount(minlength=count)
    shares = {"precision": (right, named), "recall": (right, meant), "f1": (2 * right, named + meant)}
    columns = {name: hits.float() / cases.clamp(min=1).float() for name, (hits, cases) in shares.items()}
    return (named + meant > 0).float(), columns
