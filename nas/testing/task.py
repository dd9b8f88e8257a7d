"""What every task keeps to: what is stored becomes what is learned from, losses fall, metrics are numbers, and bytes go into what ships."""

import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from export.to_onnx import to_onnx
from nas.components import component_name
from nas.data.dataset import Dataset
from nas.data.prepare import Splits, prepare
from nas.data.sources.base import Source
from nas.data.sources.digits import Digits
from nas.tasks.base import Task
from nas.testing.contract import Contract, assert_sentence, refusal
from nas.training.loop import Examples, load_examples

_CHANNELS = 6

Bound = tuple[Task, Dataset]


class TaskContract(Contract):
    """Subclass, name it Test…, write `make`, and `source` where the digits are no data for the task."""

    def make(self) -> Task:
        """Return a new task, bound to no data."""
        task: Task = super().make()
        return task

    def source(self) -> Source:
        """Real data for the task that need no file; by default the 1,797 handwritten digits."""
        return Digits()

    def features(self, task: Task) -> nn.Module:
        """A small module from network inputs to the features (batch, channels, …) that `task.head(6)` takes."""
        return nn.Conv2d(task.input_shape[0], _CHANNELS, 3, padding=1)

    @pytest.fixture
    def bound(self, tmp_path: Path) -> Bound:
        """The task, bound to its prepared data, and the data."""
        task, folder = self.make(), tmp_path / "prepared"
        description = prepare(self.source(), Splits(), folder, task=component_name(task), root=tmp_path)
        assert task.bind(description) is task, "bind returns nothing: return the task itself"
        return task, Dataset.open(folder)

    def network(self, task: Task) -> nn.Module:
        """A small network with the task's head."""
        torch.manual_seed(0)
        return nn.Sequential(self.features(task), task.head(_CHANNELS)).eval()

    def test_stored_inputs_become_what_the_network_is_told(self, bound: Bound) -> None:
        """`prepare`, `input_shape` and `example` agree with each other and with the data."""
        task, dataset = bound
        stored = examples(dataset, "select").inputs
        prepared, shape = task.prepare()(stored[:3]), (3, *task.input_shape)
        assert prepared.shape == shape, f"prepare gives {tuple(prepared.shape)} where input_shape promises {shape}"
        assert prepared.dtype == torch.float32, f"prepare gives {prepared.dtype}: networks take float32"
        example, wanted = task.example(2), (2, *stored.shape[1:])
        assert example.shape == wanted, f"example(2) has shape {tuple(example.shape)}, two stored examples have {wanted}"
        assert example.dtype == torch.uint8, f"example gives {example.dtype}: what ships takes bytes, uint8"

    def test_head_and_loss_learn(self, bound: Bound) -> None:
        """Twenty steps on 64 examples bring the loss down, and every weight has a gradient."""
        task, dataset = bound
        data, model = examples(dataset, "fit"), self.network(task)
        inputs, targets = task.prepare()(data.inputs[:64]), data.targets[:64]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = task.loss(model(inputs), targets, 0.0)
            assert loss.shape == (), f"the loss has shape {tuple(loss.shape)}: return the mean of the batch"
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0], f"the loss does not fall: {losses[0]} before and {losses[-1]} after twenty steps"
        assert all(weight.grad is not None for weight in model.parameters()), "weights get no gradient from the loss"
        assert task.loss(model(inputs), targets, 0.1).isfinite(), "the loss with smoothing is not finite"
        assert task.chance_loss() > 0, f"chance_loss is {task.chance_loss()}: return the loss of guessing, or leave it at infinity"

    def test_metrics_have_their_names_and_are_plain_numbers(self, bound: Bound) -> None:
        """On a whole split: names in order, finite floats, shares from 0 to 1, and the same again."""
        task, dataset = bound
        data = examples(dataset, "select")
        task.load()
        outputs = self.network(task)(task.prepare()(data.inputs)).detach()
        metrics = task.metrics(outputs, data.targets)
        assert tuple(metrics) == task.metric_names, f"metrics returns {tuple(metrics)}, metric_names are {task.metric_names}"
        for name, value in metrics.items():
            assert type(value) is float, f"the metric {name} is a {type(value).__name__}: return floats of Python"
            assert math.isfinite(value), f"the metric {name} is {value}"
        assert set(task.share_names) <= set(metrics), f"share_names {task.share_names} are not all metrics"
        wrong = [name for name in task.share_names if not 0 <= metrics[name] <= 1]
        assert not wrong, f"{wrong} are no shares of examples, from 0 to 1: leave them out of share_names"
        assert metrics == task.metrics(outputs.clone(), data.targets.clone()), "metrics of the same outputs differ"

    def test_a_report_can_be_written(self, bound: Bound) -> None:
        """Details are JSON, and every example has an actual and a predicted word."""
        task, dataset = bound
        data = examples(dataset, "select")
        outputs = self.network(task)(task.prepare()(data.inputs)).detach()
        json.dumps(task.details(outputs, data.targets), allow_nan=False)
        pairs = task.predictions(outputs, data.targets)
        assert len(pairs) == len(data), f"predictions gives {len(pairs)} pairs for {len(data)} examples"
        assert all(isinstance(word, str) for pair in pairs for word in pair), "predictions gives what is no text: name classes in words"

    def test_what_ships_takes_bytes_and_names_its_outputs(self, bound: Bound, tmp_path: Path) -> None:
        """In PyTorch, and as an ONNX file."""
        task, dataset = bound
        stored, model = examples(dataset, "select").inputs[:5], self.network(task)
        taken = torch.from_numpy(np.array(dataset.as_bytes("select")[:5]))
        module = task.deployable(model).eval()
        with torch.no_grad():
            outputs, plain = module(taken), model(task.prepare()(stored))
        assert isinstance(outputs, tuple), f"what ships returns a {type(outputs).__name__}: return a tuple, one output for each name"
        assert len(outputs) == len(task.output_names), f"what ships returns {len(outputs)} outputs, output_names are {task.output_names}"
        assert all(len(output) == 5 for output in outputs), "an output of what ships has not one row per example"
        torch.testing.assert_close(outputs[0], plain, msg=lambda text: f"the first output is that of the network: {text}")
        to_onnx(module, task.example(1), tmp_path / "task.onnx", outputs=task.output_names, metadata={}, exporter="torchscript")
        session = onnxruntime.InferenceSession(tmp_path / "task.onnx", providers=["CPUExecutionProvider"])
        assert tuple(output.name for output in session.get_outputs()) == task.output_names
        for ours, theirs in zip(outputs, session.run(None, {session.get_inputs()[0].name: taken.numpy()}), strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4, err_msg="the ONNX file computes otherwise than PyTorch")

    def test_data_of_another_task_are_refused(self, bound: Bound) -> None:
        """In a sentence that names the task that the data are for."""
        _, dataset = bound
        other = dataset.description.model_copy(update={"task": "juggling"})
        reason = refusal(lambda: self.make().bind(other))
        assert reason is not None, "bind takes data that were prepared for 'juggling': raise ValueError unless description.task is your own"
        assert_sentence(reason, "data of another task")
        assert "juggling" in reason, f"data of another task are refused with {reason!r}: name the task that they are for"

    def test_the_data_need_no_file_and_fill_every_split(self, bound: Bound) -> None:
        """A task comes with real data, so that this contract can be held anywhere."""
        _, dataset = bound
        assert self.source().paths() == [], f"the data are read from {self.source().paths()}: name a source that needs no file"
        counts = dataset.description.counts
        assert all(counts.values()), f"a split is empty: {counts}"
        dataset.verify()


def examples(dataset: Dataset, split: str) -> Examples:
    """The stored examples of a split."""
    return load_examples([(dataset.inputs(split), dataset.targets(split))], torch.device("cpu"))
