"""What every task must hold, on data that really exist."""

import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_images import CPU
from torch import nn

from nas.data.dataset import Dataset
from nas.data.prepare import Splits, prepare
from nas.data.sources.base import Source
from nas.data.sources.digits import Digits
from nas.load import load, names
from nas.tasks.base import Task
from nas.training.loop import Examples, load_examples

SOURCES: dict[str, type[Source]] = {"image_classification": Digits}
"""A source that needs no files, per task: a new task brings real data with it."""
TASKS = names("tasks")
CHANNELS = 6


@pytest.fixture(scope="module", params=TASKS)
def bound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Dataset]:
    name: str = request.param
    folder = tmp_path_factory.mktemp(name) / "prepared"
    description = prepare(SOURCES[name](), Splits(), folder, task=name, root=folder.parent)
    return load("tasks", name)().bind(description), Dataset.open(folder)


def examples(dataset: Dataset, split: str) -> Examples:
    return load_examples([(dataset.inputs(split), dataset.targets(split))], CPU)


def network(task: Task) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(task.input_shape[0], CHANNELS, 3, padding=1), task.head(CHANNELS)).eval()


def test_stored_inputs_become_what_the_network_is_told(bound: tuple[Task, Dataset]) -> None:
    task, dataset = bound
    prepared = task.prepare()(examples(dataset, "fit").inputs[:3])
    assert prepared.shape == (3, *task.input_shape)
    assert prepared.dtype == torch.float32
    example = task.example(2)
    stored = examples(dataset, "select").inputs
    assert example.shape == (2, *stored.shape[1:])
    assert example.dtype == torch.uint8


def test_head_and_loss_learn(bound: tuple[Task, Dataset]) -> None:
    task, dataset = bound
    data, model = examples(dataset, "fit"), network(task)
    inputs, targets = task.prepare()(data.inputs[:64]), data.targets[:64]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = task.loss(model(inputs), targets, 0.0)
        assert loss.shape == ()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(weight.grad is not None for weight in model.parameters())


def test_metrics_have_their_names_and_are_plain_numbers(bound: tuple[Task, Dataset]) -> None:
    task, dataset = bound
    data = examples(dataset, "select")
    outputs = network(task)(task.prepare()(data.inputs)).detach()
    metrics = task.metrics(outputs, data.targets)
    assert tuple(metrics) == task.metric_names
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())
    assert metrics == task.metrics(outputs.clone(), data.targets.clone())
    json.dumps(task.details(outputs, data.targets), allow_nan=False)
    pairs = task.predictions(outputs, data.targets)
    assert len(pairs) == len(data)
    assert all(isinstance(word, str) for pair in pairs for word in pair)


def test_what_ships_takes_bytes_and_names_its_outputs(bound: tuple[Task, Dataset]) -> None:
    task, dataset = bound
    stored, model = examples(dataset, "select").inputs[:5], network(task)
    taken = torch.from_numpy(np.array(dataset.as_bytes("select")[:5]))
    assert taken.dtype == task.example(1).dtype
    outputs = task.deployable(model).eval()(taken)
    assert isinstance(outputs, tuple)
    assert len(outputs) == len(task.output_names)
    assert all(len(output) == 5 for output in outputs)
    torch.testing.assert_close(outputs[0], model(task.prepare()(stored)))


def test_data_of_another_task_are_refused(bound: tuple[Task, Dataset]) -> None:
    task, dataset = bound
    other = dataset.description.model_copy(update={"task": "juggling"})
    with pytest.raises(ValueError, match="prepared for 'juggling': prepare them for "):
        type(task)().bind(other)


@pytest.mark.parametrize("name", TASKS)
def test_settings_are_strict_and_described(name: str) -> None:
    kind = load("tasks", name)
    with pytest.raises(ValidationError, match="no_such_setting"):
        kind(no_such_setting=1)
    assert all(info.description for info in kind.model_fields.values())
    assert (inspect.getmodule(kind).__doc__ or "").strip()  # type: ignore[union-attr]


def test_every_source_of_the_contract_needs_no_file() -> None:
    assert set(SOURCES) >= set(TASKS)
    assert all(kind().paths() == [] and kind().read(Path()) for kind in SOURCES.values())
