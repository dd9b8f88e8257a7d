"""An interrupted evaluation goes on from its checkpoint and ends as if it had not been; nothing else is ever taken for it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointed import ADAMW, CELL, CHAIN, SGD, TWINS, Make, architecture, content, interrupt, make, read_again
from torch import Tensor

from nas import atomic, checkpoint
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, guarded
from nas.evaluators.scratch import Scratch
from nas.spaces.cell import Cell
from nas.spaces.chain import Chain
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Guard, LimitError, Limits
from nas.training.loop import Training
from nas.training.recipe import Recipe
from nas.trial import Proposal, Trial

__all__ = ["make"]


def resume(evaluator: Scratch, trial: Trial) -> tuple[dict[str, float], int]:
    """Evaluate; returns the metrics and how many steps it took."""
    update, steps = Training._update, list[int]()

    def counting(self: Training, inputs: Tensor, targets: Tensor) -> Tensor:
        steps.append(self.step)
        return update(self, inputs, targets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_update", counting)
        return dict(evaluator.evaluate(trial).metrics), len(steps)


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
