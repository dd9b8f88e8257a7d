"""The training loop: continued is uninterrupted bit for bit, and each part of the recipe does what it says."""

import copy
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_images import CPU, random_examples, small_network, task_of
from torch import Tensor, nn

from nas.data.dataset import Dataset
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Guard, LimitError, Limits
from nas.training.loop import Examples, Pace, Training, load_examples, outputs_of, pick_device, stream_seed
from nas.training.recipe import Augmentation, Recipe

SHAKEN = Augmentation(shift=1, flip=True, rotate=20, scale=0.1, cutout=2)
GUARD = Guard(Limits(), CPU)


def training(recipe: Recipe, total: int = 12, seed: int = 5, task: ImageClassification | None = None) -> Training:
    task = task or task_of(classes=3)
    return Training(small_network(task), task, recipe, total=total, seed=seed, device=CPU)


def data(count: int = 20) -> Examples:
    return random_examples(task_of(classes=3), count)


def stored(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def flat(value: Any) -> list[Any]:
    """All tensors and numbers of a state, in order."""
    if isinstance(value, dict):
        return [part for key in value for part in (key, *flat(value[key]))]
    if isinstance(value, list | tuple):
        return [part for item in value for part in flat(item)]
    return [value.tolist() if isinstance(value, Tensor) else value]


def same(first: Training, second: Training) -> bool:
    return flat(first.state_dict()) == flat(second.state_dict())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_continued_after_any_step_is_uninterrupted(optimizer: str, ema: float) -> None:
    recipe = Recipe.model_validate({"optimizer": optimizer, "ema": ema, "batch_size": 8, "augmentation": SHAKEN, "gradient_clip": 1.0})
    examples, whole, states = data(), training(recipe), []
    for step in range(12):
        states.append(stored(whole.state_dict()))
        whole.advance(examples, step + 1, GUARD)
    straight = training(recipe)
    straight.advance(examples, 12, GUARD)
    assert same(whole, straight)
    for step, state in enumerate(states):
        torch.manual_seed(step)
        torch.rand(step + 1)
        resumed = training(recipe)
        resumed.load_state_dict(state)
        assert resumed.step == step
        resumed.advance(examples, 12, GUARD)
        assert same(resumed, whole), step


def test_other_seeds_and_steps_are_other_trainings() -> None:
    recipe, examples = Recipe(batch_size=8), data()
    one, other, shorter = training(recipe, seed=1), training(recipe, seed=2), training(recipe, seed=1)
    for each, until in ((one, 4), (other, 4), (shorter, 3)):
        each.advance(examples, until, GUARD)
    assert not same(one, other)
    assert not same(one, shorter)


def test_training_leaves_the_callers_randomness_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    training(Recipe(batch_size=8)).advance(data(), 3, GUARD)
    assert torch.equal(torch.rand(3), expected)


def fingerprint() -> str:
    """A text of all weights after a few steps."""
    one = training(Recipe(batch_size=8, ema=0.9, augmentation=SHAKEN))
    one.advance(data(), 5, GUARD)
    return repr(flat(one.state_dict()["network"]))


def test_equal_seeds_are_equal_weights_in_another_process() -> None:
    code = "import runpy, torch; torch.set_num_threads(1); print(runpy.run_path(__import__('sys').argv[1])['fingerprint']())"
    support = Path(__file__).parents[2] / "support"
    environment = {"PYTHONPATH": f"{support}:{Path(__file__).parents[3]}", "PATH": ""}
    command = [sys.executable, "-c", code, __file__]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert found.strip() == fingerprint()


def test_a_step_beyond_the_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="13 steps were asked for, but the schedule ends after 12"):
        training(Recipe()).advance(data(), 13, GUARD)


def test_every_epoch_shows_each_example_once_and_drops_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = Examples(torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1).repeat(1, 8, 8, 1), torch.arange(20) % 3)
    one, seen = training(Recipe(batch_size=6)), list[list[int]]()
    monkeypatch.setattr(Training, "_update", lambda self, inputs, targets: (seen.append(inputs[:, 0, 0, 0].tolist()), torch.zeros(()))[1])
    one.advance(examples, 6, GUARD)
    assert [len(batch) for batch in seen] == [6] * 6, "20 examples are 3 steps of 6; 2 are left out"
    first, second = ([number for batch in part for number in batch] for part in (seen[:3], seen[3:]))
    assert len(set(first)) == len(set(second)) == 18
    assert first != second


def test_a_batch_larger_than_the_data_takes_all_of_them() -> None:
    one = training(Recipe(batch_size=64))
    assert one.advance(data(5), 3, GUARD) > 0
    assert one.step == 3


def test_the_mean_loss_is_that_of_the_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    one, losses = training(Recipe(batch_size=5)), iter(torch.arange(1.0, 13.0))
    monkeypatch.setattr(Training, "_update", lambda *_: next(losses))
    assert one.advance(data(20), 10, GUARD) == pytest.approx((7 + 8 + 9 + 10) / 4)


def test_the_mean_loss_is_the_same_when_a_call_was_interrupted() -> None:
    recipe, examples = Recipe(batch_size=8, augmentation=SHAKEN), data(40)  # five steps an epoch
    whole, states = training(recipe), dict[int, dict[str, Any]]()
    whole.advance(examples, 3, GUARD)
    expected = whole.advance(examples, 11, GUARD, lambda: states.update({whole.step: stored(whole.state_dict())}))
    assert list(states) == list(range(4, 11)), "after every step but the last"
    assert "losses" not in whole.state_dict()
    for step, state in states.items():
        resumed = training(recipe)
        resumed.load_state_dict(state)
        assert resumed.advance(examples, 11, GUARD) == expected, step
        assert same(resumed, whole), step
    straight = training(recipe)
    straight.advance(examples, 3, GUARD)
    assert same(straight, training_from(straight.state_dict(), recipe)), "a state without losses begins with none"


def training_from(state: dict[str, Any], recipe: Recipe) -> Training:
    one = training(recipe)
    one.load_state_dict(stored(state))
    return one


def test_checkpoints_keep_their_pace() -> None:
    now, took, written = [100.0], [0.25], list[float]()

    def write() -> None:
        written.append(now[0])
        now[0] += took[0]

    pace = Pace(20.0, write, lambda: now[0])
    for _ in range(100):
        now[0] += 1
        pace()
    assert written == [120, 140.25, 160.5, 180.75, 201]
    took[0] = 4.0
    for _ in range(1000):
        now[0] += 1
        pace()
    waits = np.diff(written[6:])
    assert ((waits >= 200) & (waits <= 210)).all(), "writing for four seconds is worth two hundred of training"
    assert len(waits) > 2
    always, count = Pace(0.0, write, lambda: now[0]), len(written)
    for _ in range(3):
        always()
    assert len(written) == count + 3


def test_the_average_follows_its_formula() -> None:
    one, examples = training(Recipe(batch_size=8, ema=0.5)), data()
    expected = {name: value.clone() for name, value in one.network.state_dict().items()}
    for step in range(12):
        one.advance(examples, step + 1, GUARD)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in one.network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
    assert one.result is not one.network
    for name, value in one.result.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_without_an_average_the_network_is_the_result() -> None:
    one = training(Recipe())
    assert one.result is one.network


def test_gradients_are_clipped() -> None:
    recipe = Recipe(learning_rate=1.0, warmup=0.0, schedule="constant", momentum=0.0, weight_decay=0.0, batch_size=20, gradient_clip=1e-3)
    one = training(recipe)
    before = torch.cat([weight.detach().flatten().clone() for weight in one.network.parameters()])
    one.advance(data(20), 1, GUARD)
    after = torch.cat([weight.detach().flatten() for weight in one.network.parameters()])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_loss_is_smoothed(share: float) -> None:
    one = training(Recipe(batch_size=20, label_smoothing=share))
    one.network[3] = nn.Identity()  # no dropout: the first loss can be computed beside the loop
    examples, task = data(20), one.task
    network = copy.deepcopy(one.network).train()
    expected = task.loss(network(task.prepare()(examples.inputs)), examples.targets, share)
    assert one.advance(examples, 1, GUARD) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_bfloat16_trains_close_to_float32() -> None:
    losses = [
        training(Recipe.model_validate({"precision": name, "batch_size": 8})).advance(data(), 12, GUARD) for name in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_the_digits_are_learned(digits: Dataset, digit_task: ImageClassification) -> None:
    fit, select = (load_examples([(digits.inputs(name), digits.targets(name))], CPU) for name in ("fit", "select"))
    one = training(Recipe(batch_size=64, ema=0.9), total=60, task=digit_task)
    before = digit_task.metrics(outputs_of(one.result, select, digit_task), select.targets)
    one.advance(fit, 60, GUARD)
    after = digit_task.metrics(outputs_of(one.result, select, digit_task), select.targets)
    assert after["accuracy"] > before["accuracy"] + 0.15
    assert after["loss"] < before["loss"]


def test_loaded_examples_are_a_copy_of_all_parts(digits: Dataset) -> None:
    parts = [(digits.inputs(name), digits.targets(name)) for name in ("fit", "select")]
    examples = load_examples(parts, CPU)
    assert len(examples) == len(parts[0][0]) + len(parts[1][0])
    assert torch.equal(examples.inputs[-1], torch.tensor(parts[1][0][-1]))
    assert int(examples.targets[0]) == parts[0][1][0]
    examples.inputs.zero_()
    assert parts[0][0].any()


@pytest.mark.parametrize("mode", [True, False])
def test_outputs_are_those_of_evaluation_and_the_mode_stays(mode: bool) -> None:
    task = task_of(classes=3)
    network, examples = small_network(task).train(mode), random_examples(task, 700)
    outputs = outputs_of(network, examples, task)
    assert network.training is mode
    assert outputs.shape == (700, 3)
    with torch.no_grad():
        torch.testing.assert_close(outputs, network.eval()(task.prepare()(examples.inputs)))


def test_outputs_that_are_no_numbers_are_refused_and_the_mode_stays() -> None:
    task = task_of(classes=3)
    network = small_network(task).train()
    nn.init.constant_(network[0].weight, float("nan"))
    with pytest.raises(LimitError, match="outputs are not finite numbers: training diverged"):
        outputs_of(network, random_examples(task, 3), task)
    assert network.training


def test_devices_by_name() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match=r"device is 'cuda:97' but torch finds \d+ GPUs: set it to 'cpu' or 'auto'"):
        pick_device("cuda:97")
    with pytest.raises(ValueError, match="device is 'gpu', which torch does not know: use cpu, cuda, cuda:N or auto"):
        pick_device("gpu")


def test_seeds_of_other_parts_differ_and_stay() -> None:
    seeds = {stream_seed(a, b, c) for a in range(5) for b in range(3) for c in range(50)}
    assert len(seeds) == 750
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(1, 2, 3) == stream_seed(1, 2, 3)
