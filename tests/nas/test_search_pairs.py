"""The loop's bargain between strategy and evaluator: wrong pairs are refused, spaces repair, shared weights are looked at in the end."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from fake_search import CHOICES, Fake, Learner, plain, run_search, strategy_of

from nas.architecture import Architecture
from nas.components import restore
from nas.evaluators.base import Evaluator
from nas.journal import FileJournal, MemoryJournal
from nas.search import mismatch
from nas.trial import Report, Trial
from nas.warm_start import WarmStart


class Looking(Learner):
    """A learner whose trials cannot be compared; looks change nothing."""

    commit_every: ClassVar[int] = 3

    @property
    def looks(self) -> int:
        return 4

    def comparable(self, trial: Trial) -> bool:
        return trial.proposal.steps == 0

    def evaluate(self, trial: Trial) -> Report:
        before = self.state_dict()
        report = super().evaluate(trial)
        if trial.proposal.steps == 0:
            self.load_state_dict(before)
        return report


class Tidy(Fake):
    """A space whose rule is that a and b are equal."""

    def repair(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        return architecture.replace(*(("a", architecture["b"]) if rng.random() < 0.5 else ("b", architecture["a"])))


@pytest.mark.parametrize("strategy", ["random", "reinforce", "pupil"])
def test_a_search_on_shared_weights_ends_with_looks_and_a_kill_between_them_changes_nothing(tmp_path: Path, strategy: str) -> None:
    whole = run_search(strategy_of(strategy), Looking(), MemoryJournal(), 10)
    assert [trial.proposal.steps for trial in whole] == [None] * 10 + [0] * 4
    assert [trial.number for trial in whole] == list(range(14))
    assert len({trial.architecture for trial in whole[10:]}) == 4
    for stop in (7, 11, 13, None):
        with FileJournal(tmp_path, fingerprint=strategy) as journal:
            found = run_search(strategy_of(strategy), Looking(), journal, 10, stop=stop)
    assert plain(found) == plain(whole)


def test_the_looks_are_at_the_best_of_what_was_trained() -> None:
    whole = run_search(strategy_of("random"), Looking(), MemoryJournal(), 10)
    ranked = sorted(whole[:10], key=lambda trial: (trial.score, -trial.number), reverse=True)
    assert [trial.architecture for trial in whole[10:]] == [trial.architecture for trial in ranked[:4]]


@pytest.mark.parametrize("strategy", ["random", "evolution", "tpe", "reinforce"])
def test_what_the_space_repairs_is_what_is_evaluated_and_remembered(tmp_path: Path, strategy: str) -> None:
    whole = run_search(strategy_of(strategy), Tidy(), MemoryJournal(), 20)
    for trial in whole:
        CHOICES.check(trial.architecture)
        assert trial.architecture["a"] == trial.architecture["b"]
    for stop in (5, 12, None):
        with FileJournal(tmp_path, fingerprint=strategy) as journal:
            found = run_search(strategy_of(strategy), Tidy(), journal, 20, stop=stop)
    assert plain(found) == plain(whole)


def test_a_wrong_pair_is_refused_with_the_cure() -> None:
    class Plain(Evaluator):
        def evaluate(self, trial: Trial) -> Report:
            return Report({"accuracy": 1.0})

    assert mismatch(strategy_of("random"), Plain()) is None
    wrong = mismatch(strategy_of("darts"), Plain())
    assert wrong is not None
    assert "the strategy 'darts' learns from the gradient" in wrong
    with pytest.raises(ValueError, match="use the evaluator 'scratch'"):
        run_search(strategy_of("halving"), Plain(), MemoryJournal(), 3)


@pytest.mark.parametrize("name", ["halving", "hyperband"])
def test_rungs_that_the_evaluator_refuses_are_found_before_any_work(name: str) -> None:
    strategy = restore("strategies", {"name": name, "rungs": [5, 200]}).bind(CHOICES)
    assert mismatch(strategy, restore("evaluators", {"name": "scratch", "steps": 200})) is None
    for judge, allowed in (
        ({"name": "scratch", "steps": 180}, "proposes 200 steps, but 'scratch' takes 1 to 180"),
        (
            {"name": "table", "path": "t.csv", "metrics": {"accuracy": {12: "a", 200: "b"}}},
            "proposes 5 steps, but 'table' takes 12 or more",
        ),
    ):
        wrong = mismatch(strategy, restore("evaluators", judge))
        assert wrong is not None
        assert allowed in wrong
        assert "change the strategy's rungs" in wrong
        warm = WarmStart.around(strategy, [], lambda architecture: 0.0)
        assert mismatch(warm, restore("evaluators", judge)) is not None
