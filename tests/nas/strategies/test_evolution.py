"""Regularized evolution against algorithm 1 of Real et al. 2019."""

import math
from itertools import combinations

import numpy as np
import pytest
from fake_search import CHOICES, Fake, run_search
from pydantic import ValidationError

from nas.architecture import Architecture, Choice, Choices
from nas.evaluators.base import Evaluator
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.strategies.base import Strategy
from nas.strategies.evolution import Evolution
from nas.strategies.random import Random
from nas.trial import Proposal, Report, Score, Trial

WIDE = Choices([Choice(name, tuple("01234")) for name in "abcdef"])


def parents(strategy: Evolution, history: list[Trial], draws: int) -> list[set[int]]:
    """For every draw, the trials of which the child is a mutant in exactly one choice."""
    found = []
    for seed in range(draws):
        child = strategy.ask(history, np.random.default_rng(seed)).architecture
        found.append({trial.number for trial in history if differences(trial.architecture, child) == 1})
    return found


def differences(first: Architecture, second: Architecture) -> int:
    return sum(first[name] != second[name] for name in first)


def history_of(scores: list[float]) -> list[Trial]:
    """Trials whose architectures differ in at least three choices, so that a mutant has one possible parent."""
    answers = ["000000", "000111", "000222", "111000", "222000", "111111", "222222"]
    made = [Architecture(dict(zip("abcdef", answer, strict=True))) for answer in answers]
    assert all(differences(first, second) >= 3 for first, second in combinations(made, 2))
    return [Trial(number, Proposal(made[number]), Report({}), Score(0.0, (score,))) for number, score in enumerate(scores)]


def test_the_population_fills_at_random_then_children_differ_in_one_choice_from_a_living_parent() -> None:
    strategy = Evolution(population=8, tournament=3).bind(WIDE)
    found = run_search(strategy, Fake(reuse=False), MemoryJournal(), 60)
    random = run_search(Random().bind(WIDE), Fake(reuse=False), MemoryJournal(), 8)
    assert [trial.architecture for trial in found[:8]] == [trial.architecture for trial in random]
    for trial in found[8:]:
        living = found[trial.number - 8 : trial.number]
        assert any(differences(other.architecture, trial.architecture) == 1 for other in living)


def test_the_oldest_dies_however_good_it_is() -> None:
    history = history_of([99.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    everyone = parents(Evolution(population=6, tournament=6).bind(WIDE), history, 20)
    assert everyone == [{6}] * 20, "with a tournament of all, the best of the living wins, and trial 0 is dead"
    assert parents(Evolution(population=7, tournament=7).bind(WIDE), history, 20) == [{0}] * 20


def test_failed_and_running_trials_are_not_alive() -> None:
    history = history_of([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    history[5] = Trial(5, history[5].proposal)
    history[4] = Trial(4, history[4].proposal, Report(error="broke"))
    assert parents(Evolution(population=4, tournament=4).bind(WIDE), history, 20) == [{3}] * 20
    rng = np.random.default_rng(0)
    expected = WIDE.sample(np.random.default_rng(0))
    assert Evolution(population=5, tournament=2).bind(WIDE).ask(history, rng) == Proposal(expected), "four living do not fill five"


def test_the_tournament_is_drawn_without_replacement() -> None:
    """The member of rank r wins when it is drawn and nobody better is: C(P - r, S - 1) of C(P, S) tournaments; 5 sigma."""
    population, tournament, draws = 6, 3, 3000
    history = history_of([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    won = [next(iter(parent)) for parent in parents(Evolution(population=population, tournament=tournament).bind(WIDE), history, draws)]
    for rank in range(1, population + 1):
        share = math.comb(population - rank, tournament - 1) / math.comb(population, tournament)
        deviation = math.sqrt(draws * share * (1 - share))
        assert abs(won.count(population - rank) - draws * share) <= 5 * deviation, f"rank {rank}"


def test_crossover_mixes_two_living_before_the_child_mutates() -> None:
    history = history_of([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0])[-3:]
    history = [Trial(number, trial.proposal, trial.report, trial.score) for number, trial in enumerate(history)]  # 222000, 111111, 222222
    strategy = Evolution(population=3, tournament=1, crossover=1.0).bind(WIDE)
    children = [strategy.ask(history, np.random.default_rng(seed)).architecture for seed in range(300)]
    mixed = [child for child in children if min(differences(trial.architecture, child) for trial in history) > 1]
    assert 100 < len(mixed) < 250
    for child in children:
        foreign = sum(all(trial.architecture[name] != child[name] for trial in history) for name in child)
        assert foreign <= 1, "every choice comes from a parent, but for the one that mutates"
    rare = Evolution(population=3, tournament=1, crossover=0.1).bind(WIDE)
    few = [strategy.ask(history, np.random.default_rng(seed)) for strategy in [rare] for seed in range(300)]
    assert 0 < sum(min(differences(trial.architecture, one.architecture) for trial in history) > 1 for one in few) < 50


def test_without_crossover_the_proposals_are_those_of_before_there_was_one() -> None:
    """Worked out by hand from the generator: the tournament, then the mutation, and no draw between them."""
    history = history_of([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parent = max(rng.choice(6, size=3, replace=False), key=lambda index: 5 - index)
        winner = history[5 - int(parent)]
        expected = Proposal(WIDE.mutate(winner.architecture, rng), origin=(winner.number,))
        assert Evolution(population=6, tournament=3).bind(WIDE).ask(history, np.random.default_rng(seed)) == expected


class Matches(Evaluator):
    """The share of choices that are answered with the option 4: a separable function with one optimum."""

    def evaluate(self, trial: Trial) -> Report:
        return Report({"accuracy": sum(option == "4" for option in trial.architecture.values()) / len(trial.architecture)})


def best_after(strategy: Strategy, trials: int, seed: int) -> float:
    found = list(search(strategy.bind(WIDE), Matches(), Objective(), MemoryJournal(), trials=trials, seed=seed))
    return max(trial.score.values[0] for trial in found if trial.score)


def test_it_reaches_the_optimum_of_a_separable_function_and_random_search_does_not() -> None:
    seeds = range(10)
    evolved = [best_after(Evolution(population=16, tournament=6), 300, seed) for seed in seeds]
    drawn = [best_after(Random(), 300, seed) for seed in seeds]
    assert sum(best == 1.0 for best in evolved) >= 8
    assert sum(best == 1.0 for best in drawn) <= 2  # 300 of 15,625: 2 % a seed
    assert np.mean(evolved) > np.mean(drawn) + 0.1


@pytest.mark.parametrize("settings", [{"population": 1}, {"tournament": 0}, {"population": 4, "tournament": 5}, {"crossover": 2}])
def test_impossible_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Evolution(**settings)
    if "population" in settings and "tournament" in settings:
        with pytest.raises(ValidationError, match="tournament is 5: draw at most the population of 4"):
            Evolution(**settings)


def test_a_space_of_one_architecture_can_be_searched() -> None:
    single = Choices([Choice("a", ("x",))])
    found = run_search(Evolution(population=2, tournament=1).bind(single), Fake(), MemoryJournal(), 6)
    assert [dict(trial.architecture) for trial in found] == [{"a": "x"}] * 6
    assert len(CHOICES) == 5
