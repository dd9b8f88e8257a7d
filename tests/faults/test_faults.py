"""Nothing that a candidate does, or that is done to its process, ends a search or changes another trial: real searches, real processes."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from fake_search import plain, run_search, strategy_of
from faulty import Delayed, FaultySpace, Listed, PlainTask

from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, Evaluator
from nas.evaluators.scratch import Scratch
from nas.journal import FileJournal, MemoryJournal
from nas.objective import Objective
from nas.training.limits import Limits
from nas.training.recipe import Recipe
from nas.trial import Trial
from nas.workers import Workers

# Every process that dies takes two seconds to replace, so the faults that cost one come last.
ONE = ("none", "hoard", "nan", "raise", "none", "hang", "none", "exit")
TWO = ("none", "raise", "nan", "hoard", "none", "none", "sleep", "hang", "segfault", "exit", "none")
REASONS = {
    "exit": ("died", "the worker process died twice, the last time ended with exit status 3: "),
    "sleep": ("time", "LimitError: time passed the limit of 1.5 s "),
    "hang": ("time", "no answer after 6 s of evaluation, so its process was ended: "),
    "segfault": ("died", "the worker process died twice, the last time ended by signal 11 (SIGSEGV): a crash in compiled code"),
    "hoard": ("memory", "LimitError: memory passed the limit of 100 MiB "),
    "nan": ("diverged", "LimitError: "),
    "raise": ("RuntimeError", "RuntimeError: this candidate raises"),
}
Make = Callable[[], Scratch]


@pytest.fixture
def make(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Evaluators with limits, each in a folder of its own, and a patience that a test can wait for."""
    monkeypatch.setattr(Scratch, "patience", lambda self, trial: 6.0)
    numbers = iter(range(100))

    def bound() -> Scratch:
        evaluator = Scratch(steps=3, recipe=Recipe(batch_size=16), limits=Limits(seconds=1.5, memory=100), device="cpu")
        task = PlainTask().bind(digits.description)
        return evaluator.bind(Bench(FaultySpace(folder=tmp_path), task, digits, tmp_path / f"run-{next(numbers)}", 7))

    return bound


def searched(evaluator: Evaluator, faults: Sequence[str], space: Bench, folder: Path | None = None) -> list[Trial]:
    """A search through candidates with these faults."""
    strategy = Listed(faults=tuple(faults)).bind(space.space.choices(space.task))
    if folder is None:
        return run_search(strategy, evaluator, MemoryJournal(), len(faults), objective=Objective())
    with FileJournal(folder, fingerprint="f") as journal:
        run_search(strategy, evaluator, journal, len(faults), objective=Objective())
    with FileJournal(folder, fingerprint="f") as journal:
        return journal.resume().trials


@pytest.mark.parametrize(("faults", "devices"), [(ONE, ()), (TWO, ("cpu", "cpu"))], ids=["one worker", "two workers on devices"])
def test_the_search_ends_with_every_reason_recorded_and_good_trials_as_if_alone(
    make: Make, tmp_path: Path, faults: tuple[str, ...], devices: tuple[str, ...]
) -> None:
    alone, evaluator = make(), make()
    expected = searched(alone, ["none"] * len(faults), alone._bench)
    with Workers.around(evaluator, max(1, len(devices)), devices) as workers:
        found = searched(workers, faults, evaluator._bench, tmp_path / "journal")
    assert [trial.number for trial in found] == list(range(len(faults)))
    for fault, trial in zip(faults, found, strict=True):
        assert trial.report is not None
        if fault == "none":
            assert plain([trial]) == plain([expected[trial.number]])
        else:
            kind, reason = REASONS[fault]
            assert (trial.status, trial.report.kind) == ("failed", kind), trial.report
            assert str(trial.report.error).startswith(reason)


def next_process(folder: Path, name: str, known: set[int]) -> int:
    """The process of a candidate that waits, when it is not one of those known."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in folder.glob(f"{name}.*"):
            if path.suffix != ".go" and (process := int(path.suffix[1:])) not in known:
                known.add(process)
                return process
        time.sleep(0.01)
    raise TimeoutError(f"no process came to {name}")


def test_a_process_killed_once_changes_nothing_one_stopped_is_late_and_killed_twice_fails(make: Make, tmp_path: Path) -> None:
    alone, evaluator = make(), make()
    faults = ["none", "wait_0", "wait_1", "wait_2"]
    (tmp_path / "wait_0.go").touch()
    expected = searched(alone, [*faults[:2], "none", "none"], alone._bench)
    (tmp_path / "wait_0.go").unlink()
    seen = {os.getpid()}

    def disturb() -> None:
        os.kill(next_process(tmp_path, "wait_0", seen), signal.SIGKILL)
        next_process(tmp_path, "wait_0", seen)
        (tmp_path / "wait_0.go").touch()
        os.kill(next_process(tmp_path, "wait_1", set()), signal.SIGSTOP)
        for _ in range(2):
            os.kill(next_process(tmp_path, "wait_2", seen), signal.SIGKILL)

    with Workers.around(evaluator, 1) as workers, ThreadPoolExecutor(1) as thread:
        disturbance = thread.submit(disturb)
        found = searched(workers, faults, evaluator._bench, tmp_path / "journal")
        disturbance.result(120)
        assert [process for process in seen - {os.getpid()} if psutil.pid_exists(process)] == []
    assert plain(found[:2]) == plain(expected[:2])
    stopped, killed = (trial.report for trial in found[2:])
    assert stopped is not None
    assert stopped.kind == "time"
    assert len(list(tmp_path.glob("wait_1.[0-9]*"))) == 1, "what is late is not tried again"
    assert killed is not None
    assert killed.kind == "died"
    assert killed.error == "the worker process died twice, the last time ended by signal 9 (SIGKILL): out of memory or killed from outside"


def test_the_history_does_not_depend_on_which_process_is_faster() -> None:
    histories, overtaken = [], 0
    with Workers.around(Delayed(trouble=True), 2) as workers:
        for _ in range(3):
            found = run_search(strategy_of("evolution"), workers, MemoryJournal(), 60, objective=Objective())
            assert [trial.number for trial in found] == sorted(trial.number for trial in found)
            ends = [trial.report.seconds for trial in found if trial.status == "done" and trial.report and trial.report.reused is None]
            overtaken += sum(earlier > later for earlier, later in pairwise(ends))
            histories.append(plain(found))
    assert histories[0] == histories[1] == histories[2]
    assert overtaken > 0, "delays must have mattered"
