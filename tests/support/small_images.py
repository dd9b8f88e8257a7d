"""Small image tasks that tests share: made-up ones of any shape, and the digits as they are prepared."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from nas.data.dataset import Dataset
from nas.data.prepare import Splits, prepare
from nas.data.sources.digits import Digits
from nas.tasks.image_classification import ImageClassification
from nas.testing.contract import pinned
from nas.testing.images import describe, random_images, task_of
from nas.training.loop import Examples

CPU = torch.device("cpu")
__all__ = [
    "CPU",
    "describe",
    "digit_task",
    "digits",
    "one_thread",
    "random_examples",
    "random_images",
    "small_network",
    "task_of",
]


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
    with pinned():
        yield
