"""Whatever call to the disk fails, is its process's last or is lost with the power, a search resumes to the same end or says why not."""

import errno
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_search import Fake, Learner, plain, run_search, strategy_of
from faulty_disk import Disk, Killed
from small_images import CPU, random_examples, small_network, task_of

from nas.atomic import DiskError
from nas.journal import FileJournal, read
from nas.training.recipe import Recipe
from nas.training.retrain import Plan, retrain

TASK = task_of(classes=3)
PLAN = Plan(Recipe(batch_size=8), epochs=2, seed=3, device=CPU, metric="accuracy", sign=1)
KINDS = {"learning": 16, "plain": 6}
"""Searches and their trials: with learned state after every seventh trial, and without after every one."""
FAULTS = {
    "full": (errno.ENOSPC, False),
    "stays full": (errno.ENOSPC, True),
    "broken once": (errno.EIO, False),
    "read-only from then on": (errno.EROFS, True),
    "over quota": (errno.EDQUOT, False),
    "killed": (None, True),
}


def search_in(folder: Path, kind: str) -> Any:
    """A search to its end: its trials and the learned state."""
    strategy, evaluator = (strategy_of("pupil"), Learner()) if kind == "learning" else (strategy_of("evolution"), Fake())
    with FileJournal(folder, fingerprint=kind) as journal:
        trials = run_search(strategy, evaluator, journal, KINDS[kind])
    return plain(trials), strategy.state_dict(), {name: tensor.tolist() for name, tensor in evaluator.state_dict().items()}


def train_in(folder: Path, kind: str) -> Any:
    """A full training to its end: the curve and the bytes that ship."""
    progress = retrain(small_network(TASK), TASK, PLAN, folder, random_examples(TASK, 26), None)
    return progress.curve, (folder / "seed-3.safetensors").read_bytes()


WORK = [(search_in, "learning"), (search_in, "plain"), (train_in, "")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def promises(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """How many trials the last commit that returned made durable, by journal."""
    promised: dict[Path, int] = {}
    commit = FileJournal.commit

    def noting(self: FileJournal, *arguments: Any) -> None:
        commit(self, *arguments)
        promised[self._path] = self._told

    monkeypatch.setattr(FileJournal, "commit", noting)
    return promised


def attempt(disk: Disk, work: Callable[[Path, str], Any], kind: str) -> Any:
    """Do the work on a disk; None when a fault ended it, and then in a sentence or as a kill."""
    problem: DiskError | None = None
    with disk.mounted():
        try:
            return work(disk.root, kind)
        except Killed:
            assert disk.number is None
        except DiskError as error:
            problem = error
    if problem is not None:
        assert problem.errno == disk.number
        assert str(disk.root) in str(problem)
        assert str(problem).endswith("then run the same command again")
    return None


def finish(disk: Disk, work: Callable[[Path, str], Any], kind: str) -> Any:
    """Do the work to its end, on the same disk without faults."""
    disk.restart()
    return attempt(disk, work, kind)


def check_promise(folder: Path, promises: dict[Path, int]) -> None:
    promised = promises.pop(folder / "journal.jsonl", 0)
    assert not promised or len(read(folder)) >= promised


@pytest.mark.parametrize(("work", "kind"), WORK)
@pytest.mark.parametrize("fault", FAULTS)
def test_any_failing_call_leaves_what_leads_to_the_same_end(tmp_path: Path, work: Any, kind: str, fault: str) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = work(whole, kind)
    ended = 0
    for at in range(1, 1000):
        folder = tmp_path / str(at)
        folder.mkdir()
        disk = Disk(folder, at, *FAULTS[fault])
        result = attempt(disk, work, kind)
        assert result in (None, expected)
        ended += result is None
        reached = disk.calls
        assert finish(disk, work, kind) == expected, f"{fault} at call {at}"
        if reached < at:
            break
    assert ended > 15


@pytest.mark.parametrize(("work", "kind"), WORK)
def test_power_lost_at_any_call_costs_nothing_that_was_committed(tmp_path: Path, work: Any, kind: str, promises: dict[Path, int]) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = work(whole, kind)
    for at in range(1, 1000):
        for seed in range(2 if work is train_in else 4):
            folder = tmp_path / f"{at}-{seed}"
            folder.mkdir()
            disk = Disk(folder, at)
            attempt(disk, work, kind)
            reached = disk.calls
            disk.lose_power(random.Random(seed))
            check_promise(folder, promises)
            assert finish(disk, work, kind) == expected, f"power lost at call {at}, seed {seed}"
        if reached < at:
            break
    assert at > 15


@pytest.mark.parametrize(("work", "kind"), WORK)
def test_one_fault_after_another_leads_to_the_same_end(tmp_path: Path, work: Any, kind: str, promises: dict[Path, int]) -> None:
    """What one process left in memory of the system, the next must make durable before it builds upon it."""
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = work(whole, kind)
    for seed in range(30):
        chance, folder = random.Random(seed), tmp_path / str(seed)
        folder.mkdir()
        disk = Disk(folder)
        for _ in range(5):
            disk.restart(chance.randint(1, 25), *chance.choice([*FAULTS.values(), (None, True), (None, True)]))
            attempt(disk, work, kind)
            if disk.number is None and chance.random() < 0.6:
                disk.lose_power(chance)
                check_promise(folder, promises)
        assert finish(disk, work, kind) == expected, f"seed {seed}"


def test_what_was_read_after_a_kill_is_durable_before_anything_builds_upon_it(tmp_path: Path) -> None:
    """A commit that was written but not synced is read by the next process, which removes the snapshot of the commit before."""
    expected = search_in(tmp_path, "learning")
    for at in range(1, 1000):
        for seed in range(3):
            folder = tmp_path / f"{at}-{seed}"
            folder.mkdir()
            disk = Disk(folder, at)
            attempt(disk, search_in, "learning")
            reached = disk.calls
            disk.restart()
            with disk.mounted(), FileJournal(folder, fingerprint="learning") as journal:
                journal.resume()
            disk.lose_power(random.Random(seed))
            assert finish(disk, search_in, "learning") == expected, f"killed at call {at}, seed {seed}"
        if reached < at:
            break
