"""An interrupted evaluation goes on from its checkpoint and ends as if it had not been; nothing else is ever taken for it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_images import task_of
from torch import Tensor

from nas import atomic, checkpoint
from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, guarded
from nas.evaluators.scratch import Scratch
from nas.spaces.cell import EDGES, Cell
from nas.spaces.chain import Chain
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Guard, LimitError, Limits
from nas.training.loop import Training
from nas.training.recipe import Augmentation, Recipe
from nas.trial import Proposal, Report, Trial

CHAIN = Chain(widths=((4, 6), (6, 8)))
CELL = Cell(widths=(4,), cells=1)
SGD = Recipe(batch_size=32, ema=0.9, augmentation=Augmentation(shift=1))
ADAMW = Recipe(optimizer="adamw", learning_rate=0.01, batch_size=32)
Make = Callable[..., Scratch]


@pytest.fixture
def make(digits: Dataset, digit_task: ImageClassification, tmp_path: Path) -> Make:
    """Evaluators that write a checkpoint after every step; those of one folder are of one run."""

    def bound(folder: str = "broken", space: Chain | Cell = CHAIN, seed: int = 7, **settings: Any) -> Scratch:
        evaluator = Scratch(**{"steps": 6, "recipe": SGD, "device": "cpu", **settings})
        evaluator._checkpoint_seconds = 0.0
        return evaluator.bind(Bench(space, digit_task, digits, tmp_path / folder, seed))

    return bound


def architecture(seed: int = 0) -> Architecture:
    return CHAIN.choices(task_of()).sample(np.random.default_rng(seed))


def cell(*operations: str) -> Architecture:
    return Architecture({f"edge_{source}_{target}": name for (source, target), name in zip(EDGES, operations, strict=True)})


TWINS = (
    cell("nor_conv_3x3", "none", "none", "none", "skip_connect", "none"),
    cell("none", "none", "none", "nor_conv_3x3", "none", "none"),
)


def read_again(trial: Trial) -> Trial:
    """The trial as a journal gives it back: equal texts are other objects."""
    proposal = trial.proposal
    found = Architecture(json.loads(json.dumps(dict(proposal.architecture))))
    return Trial(trial.number, Proposal(found, proposal.steps, proposal.parent))


def interrupt(evaluator: Scratch, trial: Trial, at: int) -> None:
    """Evaluate, and press Ctrl-C in step `at`, before its checkpoint."""

    def pressing(self: Guard, step: int) -> None:
        if step == at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guard, "check_time", pressing)
        with pytest.raises(KeyboardInterrupt):
            guarded(evaluator, trial)


def resume(evaluator: Scratch, trial: Trial) -> tuple[dict[str, float], int]:
    """Evaluate; returns the metrics and how many steps it took."""
    update, steps = Training._update, list[int]()

    def counting(self: Training, inputs: Tensor, targets: Tensor) -> Tensor:
        steps.append(self.step)
        return update(self, inputs, targets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_update", counting)
        return dict(evaluator.evaluate(trial).metrics), len(steps)


def content(evaluator: Scratch, number: int) -> bytes:
    return evaluator._weights(number).read_bytes()


def unfinished(evaluator: Scratch) -> list[Path]:
    """All checkpoints, and the beginnings of some."""
    return sorted(evaluator._weights(0).parent.glob("*unfinished-*"))


@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("moments", [(2,), (6,), (2, 2, 5), (1, 4)])
def test_interrupted_and_continued_is_uninterrupted(recipe: Recipe, moments: tuple[int, ...], make: Make) -> None:
    straight, trial = make("straight", recipe=recipe), Trial(3, Proposal(architecture()))
    expected = dict(straight.evaluate(trial).metrics)
    for moment in moments:
        interrupt(make(recipe=recipe), read_again(trial), moment)
    torch.manual_seed(99)
    evaluator = make(recipe=recipe)
    found, steps = resume(evaluator, read_again(trial))
    assert found == expected
    assert steps == 6 - (moments[-1] - 1), "only what the last checkpoint lacks is trained"
    assert content(evaluator, 3) == content(straight, 3)
    assert unfinished(evaluator) == []
    assert unfinished(straight) == []


@pytest.mark.parametrize("space", [CHAIN, CELL], ids=["another architecture", "a twin"])
def test_a_child_is_continued_too(space: Chain | Cell, make: Make) -> None:
    first, second = (architecture(1), architecture(2)) if space is CHAIN else TWINS
    straight, evaluator = make("straight", space), make(space=space)
    parent, child = Trial(0, Proposal(first, steps=2)), Trial(1, Proposal(second, steps=5, parent=0))
    expected = [dict(straight.evaluate(trial).metrics) for trial in (parent, child)]
    interrupt(evaluator, parent, 2)
    assert resume(evaluator, read_again(parent)) == (expected[0], 1)
    interrupt(evaluator, child, 4)
    assert resume(make(space=space), read_again(child)) == (expected[1], 2)
    assert [content(evaluator, number) for number in (0, 1)] == [content(straight, number) for number in (0, 1)]


def die(step: int, folder: str, prepared: str) -> None:
    """Evaluate in this process, and kill it when the checkpoint of a step is written and not yet in its place."""
    torch.set_num_threads(1)
    data, replace = Dataset.open(Path(prepared)), os.replace
    evaluator = Scratch(steps=6, recipe=SGD, device="cpu")
    evaluator.bind(Bench(CHAIN, ImageClassification().bind(data.description), data, Path(folder), 7))
    evaluator._checkpoint_seconds, written = 0.0, list[str]()

    def dying(source: str, target: Path) -> None:
        written.append(source)
        if len(written) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = dying  # type: ignore[assignment]
    evaluator.evaluate(Trial(3, Proposal(architecture())))


def test_killed_while_a_checkpoint_is_written_is_never_killed(make: Make, digits: Dataset) -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['die'](4, *sys.argv[2:])"
    root, evaluator, straight = Path(__file__).parents[3], make(), make("straight")
    environment = {**os.environ, "PYTHONPATH": f"{root / 'tests' / 'support'}:{root}"}
    command = [sys.executable, "-c", code, __file__, str(evaluator._bench.folder), str(digits.folder)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(unfinished(evaluator)) == 2, "the checkpoint of step 3, and the file that was to be that of step 4"
    trial = Trial(3, Proposal(architecture()))
    assert resume(evaluator, trial) == (dict(straight.evaluate(trial).metrics), 3)
    assert content(evaluator, 3) == content(straight, 3)
    assert unfinished(evaluator) == []


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "of another kind", "a folder"])
def test_a_damaged_checkpoint_is_as_good_as_none(damage: str, make: Make) -> None:
    evaluator, straight, trial = make(), make("straight"), Trial(0, Proposal(architecture()))
    interrupt(evaluator, trial, 5)
    [path] = unfinished(evaluator)
    whole = path.read_bytes()
    middle = len(whole) // 2  # within a tensor, where PyTorch does not notice
    contents = {"empty": b"", "text": b"no checkpoint", "cut": whole[:-500]}
    contents["flipped"] = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    if damage == "of another kind":
        checkpoint.save(path, {"record": {}})
    elif damage == "a folder":
        path.unlink()
        path.symlink_to(path.parent)
    else:
        path.write_bytes(contents[damage])
    assert resume(evaluator, trial) == (dict(straight.evaluate(trial).metrics), 6)
    assert content(evaluator, 0) == content(straight, 0)
    assert unfinished(evaluator) == []


def test_a_checkpoint_serves_its_own_training_alone(make: Make) -> None:
    one, other = architecture(1), architecture(2)
    settings: list[tuple[Trial, dict[str, Any]]] = [
        (Trial(0, Proposal(other)), {}),
        (Trial(0, Proposal(one, steps=5)), {}),
        (Trial(0, Proposal(one, parent=9)), {}),
        (Trial(1, Proposal(one)), {}),
        (Trial(0, Proposal(one)), {"seed": 8}),
        (Trial(0, Proposal(one)), {"recipe": ADAMW}),
        (Trial(0, Proposal(one)), {"recipe": SGD.model_copy(update={"learning_rate": 0.2})}),
        (Trial(0, Proposal(one, steps=6)), {"steps": 7}),
    ]
    for number, (trial, changed) in enumerate(settings):
        folder = f"run-{number}"
        make(folder).evaluate(Trial(9, Proposal(other, steps=0)))
        interrupt(make(folder), Trial(0, Proposal(one)), 5)
        [path] = unfinished(make(folder))
        path.rename(path.with_name(f"unfinished-{trial.number}.pt"))
        assert resume(make(folder, **changed), trial)[1] >= 5, trial


def test_the_time_before_an_interruption_counts(make: Make) -> None:
    evaluator, trial = make(limits=Limits(seconds=1000)), Trial(0, Proposal(architecture()))
    interrupt(evaluator, trial, 3)
    [path] = unfinished(evaluator)
    saved = checkpoint.load(path)
    assert 0 < saved["state"]["seconds"] < 1000
    checkpoint.save(path, {**saved, "state": {**saved["state"], "seconds": 900.0}})
    interrupt(evaluator, trial, 5)
    assert checkpoint.load(path)["state"]["seconds"] > 900, "it adds up over interruptions"
    assert 900 < evaluator.evaluate(trial).seconds < 1000
    checkpoint.save(path, {**saved, "state": {**saved["state"], "seconds": 1000.0}})
    with pytest.raises(LimitError, match=r"time of .* passed the limit of 1000 s at step 3"):
        evaluator.evaluate(trial)
    assert unfinished(evaluator) == [], "a trial that failed leaves none"


@pytest.mark.parametrize("error", [RuntimeError("bad"), SystemExit(3)])
def test_a_candidate_that_fails_leaves_no_checkpoint(error: BaseException, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, seen = make(), list[list[Path]]()

    def failing(self: Guard, step: int) -> None:
        seen.append(unfinished(evaluator))
        if step == 4:
            raise error

    monkeypatch.setattr(Guard, "check_time", failing)
    assert guarded(evaluator, Trial(0, Proposal(architecture()))).error is not None
    assert seen[-1], "there was one"
    assert unfinished(evaluator) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_a_checkpoint_that_cannot_be_written_is_done_without(error: Exception, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, straight, trial = make(), make("straight"), Trial(0, Proposal(architecture()))
    expected, write, refused = dict(straight.evaluate(trial).metrics), atomic.write, list[str]()

    def full(path: Path, fill: Any) -> None:
        if path.name.startswith("unfinished"):
            refused.append(path.name)
            raise error
        write(path, fill)

    monkeypatch.setattr(atomic, "write", full)
    assert dict(evaluator.evaluate(trial).metrics) == expected
    assert len(refused) == 5
    assert content(evaluator, 0) == content(straight, 0)


def test_a_short_training_writes_none(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, written, write = make(), list[str](), atomic.write
    evaluator._checkpoint_seconds = Scratch()._checkpoint_seconds

    def noting(path: Path, fill: Any) -> None:
        written.append(path.name)
        write(path, fill)

    monkeypatch.setattr(atomic, "write", noting)
    evaluator.evaluate(Trial(0, Proposal(architecture())))
    assert written == ["trial-0.json", "trial-0.pt"]


def test_the_weights_of_a_chain_are_trained_again(make: Make) -> None:
    """Each trial goes on from the one before: a promotion, a promotion of it, and a child of another architecture."""
    evaluator, one = make(), architecture(1)
    proposals = [Proposal(one, 2), Proposal(one, 4, 0), Proposal(one, None, 1), Proposal(architecture(2), 3, 2)]
    trials = [Trial(number, proposal, evaluator.evaluate(Trial(number, proposal))) for number, proposal in enumerate(proposals)]
    before = {trial.number: (content(evaluator, trial.number), evaluator.reassess(trial, "confirm")) for trial in trials}
    for trial in reversed(trials):
        evaluator.forget(set())
        assert not list(evaluator._weights(0).parent.glob("*.pt"))
        assert make().reassess(read_again(trial), "confirm") == before[trial.number][1]
        assert content(evaluator, trial.number) == before[trial.number][0]


def test_a_search_may_go_on_from_weights_that_were_removed(make: Make) -> None:
    evaluator, one = make(), architecture(1)
    expected = [evaluator.evaluate(Trial(number, Proposal(one, 2 + number, number - 1 if number else None))) for number in range(3)]
    evaluator.forget({0})
    assert dict(make().evaluate(Trial(2, Proposal(one, 4, 1))).metrics) == dict(expected[2].metrics)


def test_restoring_is_not_limited_but_the_trial_is(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, one, used = make(limits=Limits(seconds=50, memory=4000)), architecture(1), list[tuple[int, Limits]]()
    evaluator.evaluate(Trial(0, Proposal(one, 2)))
    evaluator.forget(set())
    train = Scratch._train

    def noting(self: Scratch, trial: Trial, limits: Limits) -> tuple[dict[str, float], float]:
        used.append((trial.number, limits))
        return train(self, trial, limits)

    monkeypatch.setattr(Scratch, "_train", noting)
    evaluator.evaluate(Trial(1, Proposal(one, 4, 0)))
    assert [(number, limits.seconds, limits.memory) for number, limits in used] == [(0, None, None), (1, 50, 4000)]


def test_a_reused_trial_is_restored_as_its_twin_was_trained(make: Make) -> None:
    evaluator = make(space=CELL)
    report = evaluator.evaluate(Trial(0, Proposal(TWINS[0])))
    reused = Trial(4, Proposal(TWINS[1]), Report(report.metrics, reused=0))
    before = evaluator.reassess(reused, "confirm")
    evaluator.forget(set())
    assert evaluator.reassess(reused, "confirm") == before
    assert checkpoint.load(evaluator._weights(0))["architecture"] == dict(TWINS[0])


def test_where_nothing_says_how_a_parent_was_trained_the_reason_is_clear(make: Make) -> None:
    evaluator, one = make(), architecture()
    evaluator.evaluate(Trial(0, Proposal(one, 2)))
    evaluator.forget(set())
    origin = evaluator._origin(0)
    origin.write_text("[]")
    with pytest.raises(ValueError, match=r"trial-0\.json is damaged: remove the run's folder, and everything is computed again"):
        evaluator.evaluate(Trial(1, Proposal(one, parent=0)))
    origin.unlink()
    with pytest.raises(FileNotFoundError, match=r"trial-0\.pt is missing: trial 0 failed, or its weights were removed"):
        evaluator.evaluate(Trial(1, Proposal(one, parent=0)))


def test_forgetting_leaves_no_checkpoint(make: Make) -> None:
    evaluator = make()
    for number in (0, 1):
        evaluator.evaluate(Trial(number, Proposal(architecture(), steps=1)))
    interrupt(evaluator, Trial(2, Proposal(architecture(1))), 3)
    folder = evaluator._weights(0).parent
    for name in (".trial-2.pt.abc", ".unfinished-2.pt.abc"):
        (folder / name).write_bytes(b"half")
    evaluator.forget({1})
    assert sorted(os.listdir(folder)) == ["trial-0.json", "trial-1.json", "trial-1.pt"]
