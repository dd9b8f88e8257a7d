"""Small image tasks without data: of any shape, with images of random bytes."""

import torch
from torch import Tensor

from nas.data.dataset import Description
from nas.tasks.base import Task
from nas.tasks.image_classification import ImageClassification


def describe(
    shape: tuple[int, int, int] = (8, 8, 1), classes: int = 10, dtype: str = "uint8", task: str = "image_classification"
) -> Description:
    """A description of data that are nowhere: `shape` is (height, width, channels)."""
    return Description(
        task=task,
        source={"name": "made_up"},
        input_shape=shape,
        input_dtype=dtype,
        classes=[f"class {index}" for index in range(classes)],
        counts=dict.fromkeys(("fit", "select", "confirm", "test"), 2 * classes),
        class_counts={name: [2] * classes for name in ("fit", "select", "confirm", "test")},
        mean=[100.0 + 10 * channel for channel in range(shape[-1])],
        std=[50.0 + 5 * channel for channel in range(shape[-1])],
        digest="0" * 64,
    )


def task_of(shape: tuple[int, int, int] = (8, 8, 1), classes: int = 10, dtype: str = "uint8") -> ImageClassification:
    """An image task of a shape (height, width, channels)."""
    return ImageClassification().bind(describe(shape, classes, dtype))


def random_images(count: int, shape: tuple[int, int, int] = (8, 8, 1), seed: int = 0) -> Tensor:
    """Stored images of random bytes."""
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def inputs_of(task: Task, count: int = 4) -> Tensor:
    """Random images as a network sees them."""
    inputs: Tensor = task.prepare()(random_images(count, task.description.input_shape))
    return inputs
