"""Optuna's tree-structured Parzen estimator as a function of the history."""

import numpy as np
from fake_search import CHOICES, Fake, run_search

from nas.architecture import Choice, Choices
from nas.evaluators.base import Evaluator
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.strategies.base import Strategy
from nas.strategies.random import Random
from nas.strategies.tpe import Tpe
from nas.trial import Report, Trial

WIDE = Choices([Choice(name, tuple("01234")) for name in "abcdef"])


class Matches(Evaluator):
    """The share of choices that are answered with the option 4, and how much that costs."""

    def evaluate(self, trial: Trial) -> Report:
        matches = sum(option == "4" for option in trial.architecture.values())
        return Report({"accuracy": matches / len(trial.architecture), "cost": float(matches)})


def best_after(strategy: Strategy, trials: int, seed: int) -> float:
    found = list(search(strategy.bind(WIDE), Matches(), Objective(), MemoryJournal(), trials=trials, seed=seed))
    return max(trial.score.values[0] for trial in found if trial.score)


def test_it_finds_better_than_random_search() -> None:
    estimated = [best_after(Tpe(), 60, seed) for seed in range(4)]
    drawn = [best_after(Random(), 60, seed) for seed in range(4)]
    assert np.mean(estimated) > np.mean(drawn) + 0.15


def test_it_begins_at_random_and_proposes_nothing_twice() -> None:
    found = run_search(Tpe(startup=5).bind(CHOICES), Fake(), MemoryJournal(), 60)
    drawn = run_search(Random().bind(CHOICES), Fake(), MemoryJournal(), 5)
    assert [trial.architecture for trial in found[:5]] == [trial.architecture for trial in drawn]
    assert len({trial.architecture for trial in found}) == 60


def test_the_generator_decides_what_is_drawn() -> None:
    found = list(search(Tpe().bind(WIDE), Matches(), Objective(), MemoryJournal(), trials=15, seed=0))
    proposals = {Tpe().bind(WIDE).ask(found, np.random.default_rng(seed)) for seed in range(10)}
    assert len(proposals) > 3


def test_with_several_objectives_it_looks_for_the_front() -> None:
    objective = Objective(metrics=("accuracy", "-cost"))
    found = list(search(Tpe().bind(WIDE), Matches(), objective, MemoryJournal(), trials=50, seed=0))
    late = {round(trial.score.values[0] * 6) for trial in found[20:] if trial.score}
    assert len(late) >= 4, "neither end of the front is left out"


def test_what_breaks_a_constraint_is_avoided() -> None:
    objective = Objective(constraints={"cost": "<= 0"})
    found = list(search(Tpe().bind(WIDE), Matches(), objective, MemoryJournal(), trials=60, seed=0))
    kept = sum(trial.status == "done" for trial in found[20:]) / 40
    assert kept > 0.5, "a quarter of all architectures keep to it: 0.8^6"
