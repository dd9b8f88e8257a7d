"""Small image tasks that tests share: made-up ones of any shape, and the digits as they are prepared."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from nas.data.dataset import Dataset, Description
from nas.data.prepare import Splits, prepare
from nas.data.sources.digits import Digits
from nas.tasks.image_classification import ImageClassification
from nas.training.loop import Examples

CPU = torch.device("cpu")


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


def random_examples(task: ImageClassification, count: int, seed: int = 0) -> Examples:
    """Random bytes with classes by turns."""
    return Examples(random_images(count, task.description.input_shape, seed), torch.arange(count) % len(task.classes))


def small_network(task: ImageClassification, width: int = 8, seed: int = 0) -> nn.Module:
    """A network with normalisation and dropout: what a step draws, and what it remembers beside weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        convolution = nn.Conv2d(task.input_shape[0], width, 3, padding=1)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.2), task.head(width))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The prepared digits."""
    folder = tmp_path_factory.mktemp("digits") / "prepared"
    prepare(Digits(), Splits(), folder, task="image_classification", root=folder.parent)
    return Dataset.open(folder)


@pytest.fixture
def digit_task(digits: Dataset) -> ImageClassification:
    """The task of the digits."""
    return ImageClassification().bind(digits.description)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread, since results bit for bit need a fixed number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
