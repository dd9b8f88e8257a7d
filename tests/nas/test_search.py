"""The loop: what is found depends on the seed and the number of slots, and on nothing that can be interrupted or delayed."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import fake_search
import numpy as np
import pytest
from fake_search import CHOICES, Fake, Learner, Pupil, number_of, plain, run_search, search_in, strategy_of
from pydantic import PrivateAttr

from nas.evaluators.base import Evaluator
from nas.journal import FileJournal, MemoryJournal, Resumed
from nas.objective import Objective
from nas.search import SearchError, search
from nas.strategies.base import Strategy
from nas.trial import History, Proposal, Report, Trial

CONSTRAINED = Objective(constraints={"parameters": "<= 800"})
PAIRS = [(name, width) for name in ("random", "evolution") for width in (1, 2, 3)]


def fake(width: int = 1, trouble: bool = True) -> Fake:
    return Fake(width=width, trouble=trouble)


@pytest.mark.parametrize(("name", "width"), PAIRS)
def test_interrupted_after_every_trial_equals_never_interrupted(tmp_path: Path, name: str, width: int) -> None:
    whole = run_search(strategy_of(name), fake(width), MemoryJournal(), 30, objective=CONSTRAINED)
    found: list[Trial] = []
    for made in count(1):
        with FileJournal(tmp_path, fingerprint="f") as journal:
            found = run_search(strategy_of(name), fake(width), journal, 30, objective=CONSTRAINED, stop=made)
        if len(found) < made:
            break
        assert plain(found) == plain(whole[:made])
    assert plain(found) == plain(whole)
    assert {trial.status for trial in whole} == {"done", "failed", "rejected"}


@pytest.mark.parametrize(("name", "width"), PAIRS)
def test_timing_changes_nothing(name: str, width: int) -> None:
    first, second = (run_search(strategy_of(name), fake(width), MemoryJournal(), 60, objective=CONSTRAINED) for _ in range(2))
    assert plain(first) == plain(second)


def test_slots_are_part_of_what_is_searched() -> None:
    one, two = (run_search(strategy_of("evolution"), fake(width), MemoryJournal(), 60) for width in (1, 2))
    assert plain(one) != plain(two)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_trial_n_is_asked_when_trial_n_minus_k_is_told(width: int) -> None:
    class Watcher(Strategy):
        _seen: list[tuple[int, int]] = PrivateAttr(default_factory=list)

        def ask(self, history: History, rng: np.random.Generator) -> Proposal:
            assert [trial.number for trial in history] == list(range(len(history)))
            self._seen.append((len(history), sum(trial.report is not None for trial in history)))
            return Proposal(self.choices.sample(rng))

    watcher = Watcher().bind(CHOICES)
    run_search(watcher, fake(width), MemoryJournal(), 20, objective=CONSTRAINED)
    assert watcher._seen == [(number, max(0, number - width + 1)) for number in range(len(watcher._seen))]
    assert len(watcher._seen) > 20


@pytest.mark.parametrize(("name", "width"), PAIRS)
def test_more_trials_later_equals_more_at_once_and_fewer_are_the_prefix(tmp_path: Path, name: str, width: int) -> None:
    whole = run_search(strategy_of(name), fake(width), MemoryJournal(), 40, objective=CONSTRAINED)
    for trials in (10, 11, 25, 40, 17, 3):
        with FileJournal(tmp_path, fingerprint="f") as journal:
            found = run_search(strategy_of(name), fake(width), journal, trials, objective=CONSTRAINED)
        assert plain(found) == plain(whole[: len(found)])
        assert sum(not trial.rejected for trial in found) == trials
        assert not found[-1].rejected


@pytest.mark.parametrize("width", [1, 3])
def test_equal_identity_is_evaluated_once(width: int) -> None:
    evaluator = fake(width, trouble=False)
    found = run_search(strategy_of("evolution"), evaluator, MemoryJournal(), 120)
    reused = [trial for trial in found if trial.report and trial.report.reused is not None]
    assert len(reused) > 5
    assert sorted(evaluator.evaluated) == [trial.number for trial in found if trial not in reused]
    first: dict[int, int] = {}
    for trial in found:
        twin = first.setdefault(number_of(trial.architecture), trial.number)
        assert trial.report is not None
        assert trial.report.reused == (twin if twin < trial.number else None), "also where the twin was still running when this was asked"
        if trial.report.reused is not None:
            original = found[twin].report
            assert original is not None
            assert trial.report == Report(original.metrics, 0.0, reused=twin)
            assert trial.score == found[twin].score


def test_a_twin_of_a_running_trial_that_fails_is_evaluated_itself() -> None:
    evaluator = fake(3)
    found = run_search(strategy_of("evolution"), evaluator, MemoryJournal(), 120)
    failed = {number_of(trial.architecture) for trial in found if trial.status == "failed"}
    again = [trial for trial in found if number_of(trial.architecture) in failed]
    assert failed
    assert all(trial.report is not None and trial.report.reused is None for trial in again)


def test_without_identity_everything_is_evaluated() -> None:
    evaluator = Fake(reuse=False)
    run_search(strategy_of("evolution"), evaluator, MemoryJournal(), 80)
    assert evaluator.evaluated == list(range(80))


@pytest.mark.parametrize("width", [1, 3])
def test_what_breaks_a_constraint_is_never_trained_and_costs_no_budget(width: int) -> None:
    evaluator = fake(width, trouble=False)
    found = run_search(strategy_of("random"), evaluator, MemoryJournal(), 40, objective=CONSTRAINED)
    rejected = [trial for trial in found if number_of(trial.architecture) % 1000 > 800]
    assert rejected == [trial for trial in found if trial.rejected]
    assert len(found) - len(rejected) == 40
    assert not {trial.number for trial in rejected} & set(evaluator.evaluated)
    report = rejected[0].report
    assert report is not None
    assert report.error == f"parameters {report.metrics['parameters']} breaks <= 800"
    assert max(evaluator.evaluated) <= found[-1].number, "nothing beyond the budget is started"


def test_a_constraint_known_only_after_training_costs_budget_even_when_reused() -> None:
    evaluator = Fake(width=3)
    found = run_search(strategy_of("evolution"), evaluator, MemoryJournal(), 100, objective=Objective(constraints={"accuracy": ">= 0.7"}))
    assert len(found) == 100
    assert any(trial.status == "infeasible" and trial.report and trial.report.reused is not None for trial in found)
    assert max(evaluator.evaluated) <= 99, "nothing beyond the budget is started"


@pytest.mark.parametrize(("rest", "error"), [(0, "evaluate"), (2, "inspect"), (3, "identity")])
def test_a_candidate_that_raises_fails_with_its_reason_and_the_search_goes_on(rest: int, error: str) -> None:
    found = run_search(strategy_of("random"), fake(), MemoryJournal(), 100)
    failed = [trial for trial in found if number_of(trial.architecture) % 20 == rest]
    assert failed
    for trial in failed:
        assert trial.status == "failed"
        assert trial.report is not None
        assert trial.report.error == f"RuntimeError: trouble in {error}"
    assert len(found) == 100


def test_a_metric_that_is_no_number_fails_its_trial() -> None:
    found = run_search(strategy_of("random"), fake(), MemoryJournal(), 100)
    failed = [trial for trial in found if number_of(trial.architecture) % 20 == 1]
    assert failed
    assert {trial.report.error for trial in failed if trial.report} == {"metric 'accuracy' is nan: a score needs a finite number"}
    assert {trial.status for trial in failed} == {"failed"}
    assert not any(trial.report and trial.report.reused in {other.number for other in failed} for trial in found)


def test_a_failed_evaluation_with_metrics_is_failed_and_not_rejected() -> None:
    class Weak(Evaluator):
        def evaluate(self, trial: Trial) -> Report:
            return Report({"parameters": 900.0}, error="out of memory")

    found = run_search(strategy_of("random"), Weak(), MemoryJournal(), 5, objective=CONSTRAINED)
    assert [trial.status for trial in found] == ["failed"] * 5


class Large(Fake):
    """Nothing fits but the architectures of a few numbers."""

    fitting: int = 0

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        return {"parameters": 100 if number_of(proposal.architecture) % 1000 < self.fitting else 2000}


def test_a_search_where_nearly_nothing_fits_says_so() -> None:
    with pytest.raises(SearchError, match=r"200 of 200 architectures .*parameters 2000 breaks <= 800\): loosen objective.constraints"):
        run_search(strategy_of("random"), Large(), MemoryJournal(), 5, objective=CONSTRAINED)


def test_a_finished_search_is_found_again_however_many_were_rejected(tmp_path: Path) -> None:
    for trials in (30, 2):
        with FileJournal(tmp_path, fingerprint="f") as journal:
            found = run_search(strategy_of("random"), Large(fitting=60), journal, trials, objective=CONSTRAINED)
        assert sum(not trial.rejected for trial in found) == trials
    with FileJournal(tmp_path, fingerprint="f") as journal:
        assert sum(trial.rejected for trial in journal.resume().trials) > 100 + 20 * 2


class Finite(Strategy):
    """Proposes `total` architectures, the later ones only when the first half are finished."""

    total: int = 20

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        running = sum(trial.report is None for trial in history)
        if len(history) >= self.total or (len(history) == self.total // 2 and running):
            return None
        return Proposal(self.choices.sample(rng))


@pytest.mark.parametrize("width", [1, 3])
def test_a_strategy_with_nothing_left_ends_the_search(tmp_path: Path, width: int) -> None:
    whole = run_search(Finite().bind(CHOICES), fake(width), MemoryJournal(), 1000)
    assert len(whole) == 20
    for stop in (*range(1, 21), None):
        with FileJournal(tmp_path, fingerprint="f") as journal:
            found = run_search(Finite().bind(CHOICES), fake(width), journal, 1000, stop=stop)
        assert plain(found) == plain(whole[:stop])


def test_the_end_of_a_strategy_is_committed(tmp_path: Path) -> None:
    with FileJournal(tmp_path, fingerprint="f") as journal:
        whole = run_search(Finite().bind(CHOICES), Learner(), journal, 1000)
    with FileJournal(tmp_path, fingerprint="f") as journal:
        assert plain(journal.resume().trials) == plain(whole)
    assert len(whole) == 20


def test_learned_state_survives_a_kill_after_any_trial(tmp_path: Path) -> None:
    whole = run_search(Pupil().bind(CHOICES), Learner(), MemoryJournal(), 40)
    for stop in range(1, 40, 3):
        folder = tmp_path / str(stop)
        search_in(folder, "learning", 40, stop=stop)
        with FileJournal(folder, fingerprint="learning") as journal:
            assert len(journal.resume().trials) == stop // 7 * 7
        assert plain(search_in(folder, "learning", 40)) == plain(whole)
    again = run_search(Pupil().bind(CHOICES), Learner(), MemoryJournal(), 40)
    assert plain(again) == plain(whole)


def test_learned_state_is_needed(tmp_path: Path) -> None:
    """The test above would not fail if Learner and Pupil remembered nothing."""
    whole = search_in(tmp_path, "learning", 40, stop=20)

    class Forgetful(FileJournal):
        def resume(self) -> Resumed:
            return Resumed(super().resume().trials)

    with Forgetful(tmp_path, fingerprint="learning") as journal:
        found = run_search(Pupil().bind(CHOICES), Learner(), journal, 20)
    assert plain(found[:14]) == plain(whole[:14])
    assert plain(found[14:]) != plain(whole[14:20])


def test_only_the_seed_makes_the_search() -> None:
    def run(seed: int) -> list[dict[str, Any]]:
        return plain(list(search(strategy_of("random"), Fake(), Objective(), MemoryJournal(), trials=10, seed=seed)))

    random.seed(1)
    first = run(1)
    random.seed(2)
    np.random.seed(2)
    assert run(1) == first != run(2)


def test_an_interrupt_reaches_the_caller() -> None:
    class Interrupted(Fake):
        def evaluate(self, trial: Trial) -> Report:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(strategy_of("random"), Interrupted(), MemoryJournal(), 3)


@pytest.mark.parametrize(("kind", "trials", "kills"), [("parallel", 150, 6), ("learning", 1500, 2)])
def test_killed_at_any_moment_and_run_again_equals_never_killed(tmp_path: Path, kind: str, trials: int, kills: int) -> None:
    whole = search_in(tmp_path / "whole", kind, trials)
    command = [sys.executable, fake_search.__file__, str(tmp_path / "killed"), kind, str(trials)]
    journal, killed = tmp_path / "killed" / "journal.jsonl", 0
    random_moment = random.Random(5)
    for _ in range(kills):
        size = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while process.poll() is None and (not journal.exists() or journal.stat().st_size <= size) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(random_moment.random() * 0.1)
        process.kill()
        killed += process.wait(10) == -signal.SIGKILL
    subprocess.run(command, check=True, timeout=60)
    assert killed >= kills // 2, "the search was too short to be killed"
    with FileJournal(tmp_path / "killed", fingerprint=kind) as resumed:
        found = [trial for trial in resumed.resume().trials if trial.report is not None]
    assert plain(found) == plain(whole)
