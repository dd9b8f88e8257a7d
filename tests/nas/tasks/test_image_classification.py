"""Image classification: metrics as scikit-learn defines them, normalisation, smoothing and what ships."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support
from small_images import describe, random_images, task_of
from torch import nn
from torch.nn import functional as F

from nas.data.dataset import Description
from nas.tasks.image_classification import ImageClassification


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(0, 40), st.integers(0, 10_000))
def test_metrics_are_those_of_scikit_learn(classes: int, more: int, seed: int) -> None:
    generator, task = torch.Generator().manual_seed(seed), task_of(classes=classes)
    targets = torch.cat([torch.arange(classes), torch.randint(0, classes, (more,), generator=generator)])
    outputs = torch.randn(len(targets), classes, generator=generator)
    predicted, probabilities = outputs.argmax(1).numpy(), outputs.double().softmax(1).numpy()
    labels, truth = list(range(classes)), targets.numpy()
    macro = precision_recall_fscore_support(truth, predicted, labels=labels, average="macro", zero_division=0)
    expected = [accuracy_score(truth, predicted), *macro[:3], log_loss(truth, probabilities, labels=labels)]
    assert list(task.metrics(outputs, targets).values()) == pytest.approx(expected, abs=1e-5)
    columns = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)[:3]
    rows = task.details(outputs, targets)["per_class"]
    assert list(rows) == task.classes
    for index, row in enumerate(rows.values()):
        assert list(row) == ["precision", "recall", "f1"]
        assert list(row.values()) == pytest.approx([column[index] for column in columns], abs=1e-6)
    assert task.predictions(outputs, targets) == [(f"class {a}", f"class {b}") for a, b in zip(truth, predicted, strict=True)]


def test_a_class_that_is_neither_there_nor_predicted_does_not_count_in_means() -> None:
    task, targets = task_of(classes=5), torch.tensor([0, 1, 1, 2])  # 3 is predicted once, 4 never
    outputs = F.one_hot(torch.tensor([0, 1, 3, 2]), 5).float()
    macro = precision_recall_fscore_support(targets, outputs.argmax(1), labels=[0, 1, 2, 3], average="macro", zero_division=0)
    metrics = task.metrics(outputs, targets)
    assert [metrics[name] for name in ("precision", "recall", "f1")] == pytest.approx(macro[:3])
    assert list(task.details(outputs, targets)["per_class"]["class 4"].values()) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("dtype", "shape"), [("uint8", (4, 5, 3)), ("float32", (3, 3, 1))])
def test_stored_images_are_normalised_per_channel(dtype: str, shape: tuple[int, int, int]) -> None:
    described = {**describe(shape).model_dump(), "input_dtype": dtype, "low": 0.0, "high": 255.0}
    task = ImageClassification().bind(Description.model_validate(described))
    stored = random_images(2, shape).to(getattr(torch, dtype))
    mean, std = np.array(task.description.mean), np.array(task.description.std)
    expected = ((stored.double().numpy() - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(task.prepare()(stored).numpy(), expected, atol=1e-5)
    assert (task.example(3).dtype, task.example(3).shape) == (torch.uint8, (3, *shape))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 250.0), (-1.5, 1.2), (0.0, 16.0)])
def test_what_ships_takes_bytes_whatever_is_stored(low: float, high: float) -> None:
    described = {**describe((6, 7, 3), 4).model_dump(), "input_dtype": "float32", "low": low, "high": high}
    task = ImageClassification().bind(Description.model_validate(described))
    network = nn.Sequential(nn.Conv2d(3, 5, 3), task.head(5)).eval()
    images = random_images(3, (6, 7, 3))
    black, white = task.description.byte_range
    stored = black + images.double() * (white - black) / 255
    assert task.description.to_bytes(stored.numpy()).tolist() == images.tolist()
    logits, _ = task.deployable(network).eval()(images)
    torch.testing.assert_close(logits, network(task.prepare()(stored)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_guessing_is_that_of_equal_logits(smoothing: float) -> None:
    task = task_of(classes=7)
    loss = task.loss(torch.full((5, 7), 3.0), torch.tensor([0, 0, 0, 2, 6]), smoothing)
    assert float(loss) == pytest.approx(task.chance_loss())


def test_what_ships_gives_logits_and_probabilities() -> None:
    task = task_of((6, 7, 3), classes=4)
    module = task.deployable(nn.Sequential(nn.Conv2d(3, 5, 3), task.head(5))).eval()
    logits, probabilities = module(random_images(3, (6, 7, 3)))
    assert logits.shape == probabilities.shape == (3, 4)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
    torch.testing.assert_close(probabilities.log().softmax(1), logits.softmax(1))
    assert [name for name in module.state_dict() if not name.startswith("network.")] == [], "what normalises is no weight"


def test_smoothing_spreads_a_share_over_all_classes() -> None:
    outputs, targets = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    soft = 0.9 * nn.functional.one_hot(targets, 4) + 0.1 / 4
    expected = -(soft * outputs.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(task_of(classes=4).loss(outputs, targets, 0.1), expected)
