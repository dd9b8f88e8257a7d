"""Full training: killed and continued is never killed, byte for byte; the weights are chosen as the plan says."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_images import CPU, random_examples, small_network, task_of
from torch import Tensor, nn

from nas import checkpoint
from nas.checkpoint import CheckpointError
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Guard, LimitError
from nas.training.loop import Examples, Training
from nas.training.recipe import Augmentation, Recipe
from nas.training.retrain import Plan, Progress, retrain

RECIPE = Recipe(batch_size=8, ema=0.9, augmentation=Augmentation(shift=1, rotate=10), gradient_clip=5.0)
PLAN = Plan(RECIPE, epochs=40, seed=3, device=CPU, metric="accuracy", sign=1)
TASK = task_of(classes=3)
PER_EPOCH = 3


def full(folder: Path, plan: Plan = PLAN, held_out: Examples | None = None) -> Progress:
    """A training of 40 epochs of 3 steps, evaluated and written after every second epoch."""
    return retrain(small_network(TASK), TASK, plan, folder, random_examples(TASK, 26), held_out)


def die_at(step: int, folder: Path, seconds: float) -> None:
    """Train in this process, with checkpoints so many seconds apart, and kill it in the middle of a step."""
    torch.set_num_threads(1)
    update = Training._update

    def dying(self: Training, inputs: Tensor, targets: Tensor) -> Tensor:
        if self.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, inputs, targets)

    Training._update = dying  # type: ignore[method-assign]
    full(folder, replace(PLAN, checkpoint_seconds=seconds), held())


def held() -> Examples:
    return random_examples(TASK, 30, seed=9)


def test_whoever_waits_is_let_in_between_steps_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "beside").mkdir()
    let_in: list[int] = []
    plan = replace(PLAN, epochs=2)
    alone = retrain(small_network(TASK), TASK, plan, tmp_path / "alone", random_examples(TASK, 26), held())
    polite = replace(plan, between=lambda: let_in.append(1))
    beside = retrain(small_network(TASK), TASK, polite, tmp_path / "beside", random_examples(TASK, 26), held())
    per_epoch = 26 // PLAN.recipe.batch_size
    assert len(let_in) == 2 * (per_epoch - 1)
    assert beside.curve == alone.curve


def killed_at(step: int, folder: Path, seconds: float) -> None:
    given = "int(sys.argv[2]), pathlib.Path(sys.argv[3]), float(sys.argv[4])"
    code = f"import runpy, sys, pathlib; runpy.run_path(sys.argv[1])['die_at']({given})"
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'tests' / 'support'}:{root}"}
    command = [sys.executable, "-c", code, __file__, str(step), str(folder), str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_killed_twice_and_continued_is_never_killed(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected = full(whole, held_out=held())
    killed_at(2 * PER_EPOCH + 1, broken, 1000)  # in the middle of epoch 3
    assert (broken / "seed-3.epoch").read_text() == "2"
    assert not (broken / "seed-3.safetensors").exists()
    killed_at(5 * PER_EPOCH + 2, broken, 0)  # between the checkpoints after epochs 4 and 6, with one after every step
    assert (broken / "seed-3.epoch").read_text() == "4"
    assert checkpoint.load(broken / "seed-3.pt")["training"]["step"] == 5 * PER_EPOCH + 2
    found = full(broken, held_out=held())
    assert found.curve == expected.curve
    assert found.best == expected.best
    assert (broken / "seed-3.safetensors").read_bytes() == (whole / "seed-3.safetensors").read_bytes()


def interrupt(step: int, folder: Path, plan: Plan) -> None:
    """Train, and press Ctrl-C at the end of a step, before its checkpoint."""

    def pressing(self: Guard, now: int) -> None:
        if now == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "check_time", pressing)
        with pytest.raises(KeyboardInterrupt):
            full(folder, plan, held())


@pytest.mark.parametrize("epochs", [6, 33], ids=["every epoch is evaluated", "every second"])
def test_interrupted_within_epochs_loses_a_step_and_changes_nothing(epochs: int, tmp_path: Path) -> None:
    plan, (whole, broken) = replace(PLAN, epochs=epochs), (tmp_path / "whole", tmp_path / "broken")
    whole.mkdir()
    broken.mkdir()
    expected = full(whole, plan, held())
    often = replace(plan, checkpoint_seconds=0.0)
    moments = sorted(random.Random(epochs).sample(range(2, epochs * PER_EPOCH), 6))
    for moment in moments:
        interrupt(moment, broken, often)
        # An epoch's last step has no checkpoint but that of the evaluation, or the evaluation would be left out.
        lost = 2 if (moment - 1) % PER_EPOCH == 0 and ((moment - 1) // PER_EPOCH) % -(-epochs // 30) else 1
        assert checkpoint.load(broken / "seed-3.pt")["training"]["step"] == moment - lost
    found = full(broken, often, held())
    assert found.curve == expected.curve
    assert found.best == expected.best
    assert (broken / "seed-3.safetensors").read_bytes() == (whole / "seed-3.safetensors").read_bytes()


def test_a_checkpoint_of_another_training_is_named(tmp_path: Path) -> None:
    full(tmp_path, replace(PLAN, epochs=1), held())
    state = checkpoint.load(tmp_path / "seed-3.pt")
    wider = small_network(TASK, width=9)
    cure = r"seed-3\.pt is the checkpoint of another training: remove it, and this one starts over"
    with pytest.raises(CheckpointError, match=cure):
        retrain(wider, TASK, PLAN, tmp_path, random_examples(TASK, 26), held())
    checkpoint.save(tmp_path / "seed-3.pt", {**state, "training": {"step": 3}})
    with pytest.raises(CheckpointError, match=cure):
        full(tmp_path, PLAN, held())


def test_a_finished_training_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(PLAN, epochs=2)
    first = full(tmp_path, plan, held())
    written = (tmp_path / "seed-3.safetensors").read_bytes()
    (tmp_path / "seed-3.safetensors").unlink()
    monkeypatch.setattr(Training, "_update", None)
    assert full(tmp_path, plan, held()).curve == first.curve
    assert (tmp_path / "seed-3.safetensors").read_bytes() == written
    network = small_network(TASK, seed=1)
    network.load_state_dict(load_file(tmp_path / "seed-3.safetensors"))


def test_the_curve_has_at_most_thirty_rows_and_ends_at_the_end(tmp_path: Path) -> None:
    assert [row["epoch"] for row in full(tmp_path, held_out=held()).curve] == list(range(2, 41, 2))
    (tmp_path / "odd").mkdir()
    assert [row["epoch"] for row in full(tmp_path / "odd", replace(PLAN, epochs=33), held()).curve] == [*range(2, 33, 2), 33]


def scripted(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, float]]) -> None:
    """Give evaluations these metrics, one after the other."""
    answers = iter(rows)
    monkeypatch.setattr(ImageClassification, "metrics", lambda *_: next(answers))


@pytest.mark.parametrize(
    ("metric", "sign", "rows", "best"),
    [
        ("accuracy", 1, [(0.5, 1.0), (0.9, 1.0), (0.7, 0.1)], 2),
        ("accuracy", 1, [(0.9, 0.2), (0.9, 0.1), (0.9, 0.3)], 2),
        ("accuracy", 1, [(0.9, 0.2), (0.9, 0.2), (0.5, 0.2)], 2),
        ("loss", -1, [(0.1, 0.9), (0.2, 0.3), (0.9, 0.4)], 2),
        ("accuracy", 1, [(0.9, 0.2), (0.8, 0.1), (0.7, 0.1)], 1),
    ],
    ids=["greatest", "of equals the smaller loss", "then the last", "smallest", "first"],
)
def test_the_best_evaluation_chooses_the_weights(
    metric: str, sign: int, rows: list[tuple[float, float]], best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after: list[dict[str, Tensor]] = []
    scripted(monkeypatch, [{"accuracy": accuracy, "loss": loss} for accuracy, loss in rows])
    advance = Training.advance

    def noting(self: Training, *arguments: object) -> float:
        loss = advance(self, *arguments)  # type: ignore[arg-type]
        after.append({name: value.clone() for name, value in self.result.state_dict().items()})
        return loss

    monkeypatch.setattr(Training, "advance", noting)
    progress = full(tmp_path, replace(PLAN, epochs=3, metric=metric, sign=sign), held())
    assert progress.best["epoch"] == best
    saved = load_file(tmp_path / "seed-3.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in after[best - 1].items())


def test_without_held_out_examples_the_last_weights_are_chosen(tmp_path: Path) -> None:
    progress = full(tmp_path, replace(PLAN, epochs=4, metric="flops"))
    assert progress.best == progress.curve[-1]
    assert progress.best.keys() == {"epoch", "training_loss"}


def test_a_metric_that_training_does_not_change_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be chosen by 'flops', which training does not change: choose one of accuracy, "):
        full(tmp_path, replace(PLAN, metric="flops"), held())
    assert not list(tmp_path.iterdir())


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    network = small_network(TASK)
    nn.init.constant_(network[0].weight, float("inf"))
    with pytest.raises(LimitError, match="training diverged"):
        retrain(network, TASK, PLAN, tmp_path, random_examples(TASK, 26), held())


def test_a_short_final_batch_of_few_examples_still_trains(tmp_path: Path) -> None:
    progress = retrain(small_network(TASK), TASK, replace(PLAN, epochs=2), tmp_path, random_examples(TASK, 5), random_examples(TASK, 1))
    assert [row["epoch"] for row in progress.curve] == [1, 2]
