"""CMA-ES over options as a function of the history."""

from dataclasses import replace

import numpy as np
import pytest
from fake_search import CHOICES

from nas.architecture import Architecture, Choice, Choices
from nas.strategies.cma import Cma
from nas.trial import Proposal, Report, Score, Trial

WIDE = Choices([Choice(name, tuple("01234")) for name in "abcdef"])


def told(seed: int, count: int, score: Score | None = None) -> list[Trial]:
    """Trials whose score is the share of the option 4, or all the same one."""
    rng = np.random.default_rng(seed)
    drawn = [WIDE.sample(rng) for _ in range(count)]
    scores = [score or Score(0.0, (sum(option == "4" for option in made.values()) / 6,)) for made in drawn]
    return [Trial(number, Proposal(made), Report(), scores[number]) for number, made in enumerate(drawn)]


def fours(strategy: Cma, history: list[Trial]) -> float:
    """The mean number of options 4 in what is proposed."""
    proposals = [strategy.ask(history, np.random.default_rng(seed)).architecture for seed in range(60)]
    return float(np.mean([sum(option == "4" for option in made.values()) for made in proposals]))


def test_the_distribution_moves_towards_the_best_of_a_generation() -> None:
    before, after = (fours(Cma(population=20).bind(WIDE), told(0, count)) for count in (19, 200))
    assert 0.9 < before < 1.5, "without a complete generation all options are equally likely: 6 / 5"
    assert after > before + 1


def test_constraints_come_first_and_failed_trials_are_the_worst() -> None:
    history = told(0, 200)
    fine = fours(Cma(population=20).bind(WIDE), history)
    many = [sum(option == "4" for option in trial.architecture.values()) >= 2 for trial in history]
    broken = [replace(trial, score=Score(-1.0, (9.0,))) if much else trial for trial, much in zip(history, many, strict=True)]
    failed = [replace(trial, score=None) if much else trial for trial, much in zip(history, many, strict=True)]
    assert fours(Cma(population=20).bind(WIDE), broken) < fine - 0.5
    assert fours(Cma(population=20).bind(WIDE), failed) < fine - 0.5


def test_what_followed_the_history_asks_like_what_is_new() -> None:
    history, followed = told(1, 60), Cma(population=7).bind(WIDE)
    for count in (0, 3, 7, 8, 20, 21, 50, 60, 10):
        asked = [strategy.ask(history[:count], np.random.default_rng(count)) for strategy in (followed, Cma(population=7).bind(WIDE))]
        assert asked[0] == asked[1], count


def test_another_draw_before_a_generation_is_told_changes_nothing() -> None:
    """A draw completes what the optimizer knows of its covariance; the next generation must not tell the difference."""
    history, asked, silent = told(2, 42), Cma(population=14).bind(WIDE), Cma(population=14).bind(WIDE)
    for count in range(42):
        asked.ask(history[:count], np.random.default_rng(count))
    assert asked.ask(history, np.random.default_rng(9)) == silent.ask(history, np.random.default_rng(9))


def test_it_finds_better_than_random_search() -> None:
    drawn = [max(trial.score.values[0] for trial in told(seed, 150) if trial.score) for seed in range(3)]
    assert np.mean(drawn) < 5 / 6
    for seed in range(3):
        history: list[Trial] = []
        strategy = Cma().bind(WIDE)
        for number in range(150):
            made = strategy.ask(history, np.random.default_rng([seed, number])).architecture
            history.append(Trial(number, Proposal(made), Report(), Score(0.0, (sum(option == "4" for option in made.values()) / 6,))))
        assert max(trial.score.values[0] for trial in history if trial.score) >= 5 / 6


@pytest.mark.parametrize("score", [Score(0.0, (1.0,)), Score(-1.0, ()), None])
def test_a_long_search_without_a_signal_stays_sound(score: Score | None) -> None:
    strategy = Cma().bind(CHOICES)
    history = [Trial(t.number, Proposal(CHOICES.sample(np.random.default_rng(t.number))), t.report, score) for t in told(0, 1500, score)]
    CHOICES.check(strategy.ask(history, np.random.default_rng(0)).architecture)


def test_choices_without_alternatives_are_kept() -> None:
    single = Choices([Choice("a", ("x",))])
    assert Cma().bind(single).ask([], np.random.default_rng(0)) == Proposal(Architecture({"a": "x"}))
    mixed = Choices([Choice("a", ("x",)), Choice("b", ("x", "y"))])
    assert Cma().bind(mixed).ask([], np.random.default_rng(0)).architecture["a"] == "x"
