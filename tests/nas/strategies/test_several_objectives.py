"""What strategies do with several objectives, each by itself; and that those which use them dominate more than random search does."""

import math
from typing import Any

import numpy as np
import pytest
from additive import CHOICES, Additive

from nas.architecture import Architecture
from nas.components import restore
from nas.evaluators.base import Evaluator
from nas.front_measures import hypervolume_curve
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.strategies.base import Strategy
from nas.strategies.cma import _keys
from nas.strategies.evolution import Evolution
from nas.strategies.halving import Halving
from nas.strategies.local import Local
from nas.strategies.predictor import Predictor
from nas.strategies.random import Random
from nas.trial import Proposal, Report, Score, Trial
from nas.warm_start import best_of

OBJECTIVE = Objective(metrics=("accuracy", "-parameters"))
WORST = (0.0, -120.0)
"""No accuracy at the greatest number of parameters, six times 4² + 4."""


def made(answers: str) -> Architecture:
    return Architecture(dict(zip("abcdef", answers, strict=True)))


def told(*results: tuple[str, tuple[float, ...] | None], steps: int | None = None) -> list[Trial]:
    """Finished trials of these architectures and values; without values they failed."""
    scores = [None if values is None else Score(0.0, values) for _, values in results]
    reports = [Report({}, error="broke" if score is None else None) for score in scores]
    proposals = [Proposal(made(answers), steps) for answers, _ in results]
    return [Trial(number, *parts) for number, parts in enumerate(zip(proposals, reports, scores, strict=True))]


def nearest(strategy: Strategy, history: list[Trial], draws: int = 60) -> set[int]:
    """The trials of which something that is proposed is a mutant in one choice."""
    found = set()
    for seed in range(draws):
        proposal = strategy.ask(history, np.random.default_rng(seed))
        assert proposal is not None
        apart = [sum(proposal.architecture[name] != option for name, option in trial.architecture.items()) for trial in history]
        found |= {number for number, distance in enumerate(apart) if distance == 1}
    return found


FRONT = [("000000", (0.0, 9.0)), ("000111", (4.0, 4.0)), ("000222", (9.0, 0.0)), ("111000", (3.0, 3.0)), ("222000", (8.9, -1.0))]
"""The first three are not dominated; the last two have greater first values than others, and are."""


def test_evolution_holds_tournaments_by_front_then_crowding() -> None:
    history = told(*FRONT)
    assert nearest(Evolution(population=5, tournament=5).bind(CHOICES), history) == {2}, "of the two ends the later one"
    assert nearest(Evolution(population=5, tournament=3).bind(CHOICES), history) <= {0, 1, 2}, "two of the five are dominated"
    assert nearest(Evolution(population=5, tournament=1).bind(CHOICES), history) == {0, 1, 2, 3, 4}


def test_halving_promotes_the_first_front_of_a_rung() -> None:
    promoted = []
    history = told(*FRONT, ("333333", None), steps=10)
    strategy = Halving(rungs=(10, 30), eta=2).bind(CHOICES)
    for _ in range(4):
        proposal = strategy.ask(history, np.random.default_rng(0))
        assert proposal is not None
        promoted.append(proposal.parent)
        history.append(Trial(len(history), proposal))
    assert promoted == [0, 2, 1, None], "three of six: the ends, then what is between them"


def test_climbs_have_weights_of_their_own_and_go_on_from_what_is_best_by_them() -> None:
    """The first climb weighs both objectives equally, the second gives the first one a quarter, the third three quarters."""
    history = told(("000000", (0.0, 8.0)), ("111111", (10.0, 0.0)), ("222222", (5.5, 5.0)))
    for start in (2, 0, 1):
        assert nearest(Local(initial=3).bind(CHOICES), history) == {start}
        around = CHOICES.neighbours(history[start].architecture)
        for neighbour in around:
            history.append(Trial(len(history), Proposal(neighbour), Report({}), Score(0.0, (-1.0, -1.0))))
    best = [made("000000"), made("111111"), made("222222")]
    for seed in range(20):
        proposal = Local(initial=3).bind(CHOICES).ask(history, np.random.default_rng(seed))
        assert proposal is not None
        distances = [sum(proposal.architecture[name] != option for name, option in one.items()) for one in best]
        assert min(distances) > 1, "all neighbours of the best are known, whatever the weights: anew from random ones"


def test_of_a_generation_the_first_front_counts_most_and_failures_least() -> None:
    keys = _keys([Score(0.0, (3.0, 3.0)), None, Score(0.0, (9.0, 0.0)), Score(0.0, (4.0, 4.0)), Score(-1.0, ()), Score(0.0, (0.0, 9.0))])
    assert sorted(range(6), key=keys.__getitem__, reverse=True) == [2, 5, 3, 0, 4, 1]
    assert _keys([Score(0.0, (2.0,)), None, Score(-0.5, ())]) == [(0.0, 2.0), (-math.inf,), (-0.5,)]


def test_the_predictor_aims_elsewhere_with_every_trial() -> None:
    """On one history but for trials that failed, so that only the number of the next trial differs."""
    rng = np.random.default_rng(0)
    drawn = [CHOICES.sample(rng) for _ in range(40)]
    objective = Objective(metrics=("accuracy", "-parameters"))
    reports = [Additive().evaluate(Trial(0, Proposal(one))) for one in drawn]
    history = [
        Trial(number, Proposal(one), report, objective.score(report.metrics))
        for number, (one, report) in enumerate(zip(drawn, reports, strict=True))
    ]
    sizes = []
    for failures in range(1, 25):
        extended = history + [Trial(40 + place, Proposal(drawn[0]), Report(error="broke")) for place in range(failures)]
        proposal = Predictor().bind(CHOICES).ask(extended, np.random.default_rng(0))
        assert proposal is not None
        sizes.append(Additive().inspect(proposal)["parameters"])
    assert min(sizes) < 30 < 60 < max(sizes)


def test_what_is_looked_at_in_the_end_and_what_a_search_begins_with_are_of_the_front() -> None:
    history = told(*FRONT, ("000222", (9.0, 0.0)))
    ends = [made("000000"), made("000222"), made("000111")]
    assert Random().bind(CHOICES).conclude(history, 3, np.random.default_rng(0)) == ends
    assert best_of(history, 3) == ends


def volume(settings: dict[str, Any], trials: int, seed: int, evaluator: Evaluator) -> float:
    strategy = restore("strategies", settings).bind(CHOICES)
    found = list(search(strategy, evaluator, OBJECTIVE, MemoryJournal(), trials=trials, seed=seed))
    return hypervolume_curve(found, WORST)[-1]


@pytest.mark.parametrize(("name", "trials", "seeds"), [("evolution", 250, 6), ("nsga2", 250, 6), ("local", 250, 6), ("predictor", 50, 3)])
def test_more_is_dominated_than_by_random_search_at_equal_evaluations(name: str, trials: int, seeds: int) -> None:
    found, drawn = ([volume({"name": one}, trials, seed, Additive()) for seed in range(seeds)] for one in (name, "random"))
    assert np.mean(found) > np.mean(drawn) + 2 * math.hypot(np.std(found), np.std(drawn)) / math.sqrt(seeds)
    assert np.median(found) > max(drawn)
