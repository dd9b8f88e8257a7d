"""NSGA-II against Deb et al. 2002: fronts, crowding, constraint domination, and a front that random search does not reach."""

import json
import math

import numpy as np
from fake_search import CHOICES, Fake, run_search

from nas.architecture import Architecture, Choice, Choices
from nas.evaluators.base import Evaluator
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.pareto import crowding, fronts
from nas.search import search
from nas.strategies.base import Strategy
from nas.strategies.nsga2 import Nsga2, select
from nas.strategies.random import Random
from nas.trial import Proposal, Report, Score, Trial

WIDE = Choices([Choice(name, tuple("01234")) for name in "abcdefgh"])
SMALL = Choices([Choice("a", ("x", "y", "z")), Choice("b", ("x", "y")), Choice("idle", ("x", "y"))])
SETTLED = Choices([Choice("a", ("x",)), Choice("b", ("x", "y", "z"))])


def made(answers: str) -> Architecture:
    return Architecture(dict(zip("abcdefgh", answers, strict=True)))


def done(number: int, architecture: Architecture, score: Score | None) -> Trial:
    return Trial(number, Proposal(architecture), Report({}, error="broke" if score is None else None), score)


def without_idle(architecture: Architecture) -> str:
    return json.dumps({name: option for name, option in architecture.items() if name != "idle"})


def random_scores(rng: np.random.Generator, count: int) -> list[Score]:
    """Scores of all kinds, with equals: feasible, infeasible, and never trained."""
    scores = []
    for _ in range(count):
        feasibility = float(rng.choice([0.0, 0.0, 0.0, -0.1, -0.2]))
        trained = feasibility == 0 or rng.random() < 0.5
        scores.append(Score(feasibility, tuple(rng.integers(0, 6, 2).astype(float).tolist()) if trained else ()))
    return scores


def test_a_front_is_what_only_earlier_fronts_dominate() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 30, 60):
        scores = random_scores(rng, count)
        left = list(range(count))
        for front in fronts(scores):
            assert front == [index for index in left if not any(scores[other].dominates(scores[index]) for other in left)]
            left = [index for index in left if index not in front]
        assert left == []


def test_crowding_is_the_relative_size_of_the_box_between_neighbours() -> None:
    scores = [Score(0.0, values) for values in [(0.0, 10.0), (1.0, 8.0), (2.0, 2.0), (8.0, 1.0), (10.0, 0.0)]]
    assert crowding(scores) == [math.inf, 2 / 10 + 8 / 10, 7 / 10 + 7 / 10, 8 / 10 + 2 / 10, math.inf]
    assert crowding([]) == []
    assert crowding([Score(-1.0, ()), Score(-1.0, ())]) == [0.0, 0.0]
    assert crowding([Score(-1.0, ()), Score(-1.0, (3.0,))]) == [0.0, math.inf]
    assert crowding([Score(0.0, (1.0,))] * 3) == [math.inf, 0.0, math.inf]


def test_the_survivors_are_whole_fronts_and_the_least_crowded_of_the_next() -> None:
    front = [(0.0, 10.0), (1.0, 8.0), (2.0, 2.0), (8.0, 1.0), (10.0, 0.0)]
    scores = [Score(0.0, (11.0, 11.0)), *(Score(0.0, values) for values in front), Score(-0.1, (99.0, 99.0)), None]
    trials = [done(number, WIDE.sample(np.random.default_rng(number)), score) for number, score in enumerate(scores)]
    assert [member.trial.number for member in select(trials, 4)] == [0, 1, 5, 3]
    assert [member.place[0] for member in select(trials, 4)] == [0, 1, 1, 1]
    assert [member.trial.number for member in select(trials, 8)] == [0, 1, 5, 3, 2, 4, 6]


def test_children_come_from_the_latest_whole_generation() -> None:
    """Without crossover a child differs from a survivor in few choices; strangers differ in six or more of eight."""
    good = ["00000000", "00000001", "00000010", "00000100"]
    poor = ["33333333", "34343434", "43434343", "44444444"]
    history = [done(number, made(one), Score(0.0, (float(one in good), 0.0))) for number, one in enumerate([*good[:2], *poor[:2]])]
    strategy = Nsga2(population=4, crossover=0).bind(WIDE)
    assert nearest(strategy, history[:3], good) > 4, "no generation yet: random"
    assert nearest(strategy, history, good[:2] + poor[:2]) < 3
    history += [
        done(4, made(good[2]), Score(0.0, (1.0, 0.0))),
        done(5, made(poor[2]), None),
        done(6, made(poor[3]), Score(0.0, (0.0, 0.0))),
        done(7, made("20202020"), None),
    ]
    same = [
        strategy.ask(history, np.random.default_rng(seed)) == strategy.ask(history[:4], np.random.default_rng(seed)) for seed in range(100)
    ]
    assert sum(same) > 80, "the second generation is not whole, since a failed trial is no part of it: only what is known has grown"
    history += [done(8, made(good[3]), Score(0.0, (1.0, 0.0))), done(9, made("22222222"), Score(0.0, (-1.0, 0.0)))]
    history.append(Trial(10, Proposal(made("11111111"))))
    assert nearest(strategy, history, good) < 3
    assert nearest(strategy, history, poor) > 5, "the poor have died out"


def nearest(strategy: Nsga2, history: list[Trial], parents: list[str]) -> float:
    """The mean over 100 proposals of the number of choices in which one differs from the nearest of the parents."""
    distances = []
    for seed in range(100):
        proposal = strategy.ask(history, np.random.default_rng(seed))
        assert proposal is not None
        distances.append(min(sum(proposal.architecture[name] != made(one)[name] for name in WIDE_NAMES) for one in parents))
    return float(np.mean(distances))


WIDE_NAMES = [choice.name for choice in WIDE]


def test_mutation_changes_one_choice_of_those_that_are_open_on_average_and_crossover_mixes() -> None:
    history = [done(0, made("00000000"), Score(0.0, (1.0,))), done(1, made("44444444"), Score(0.0, (1.0,)))]
    kept: dict[float, list[int]] = {}
    for crossover in (0.0, 1.0):
        strategy = Nsga2(population=2, crossover=crossover).bind(WIDE)
        proposals = [strategy.ask(history, np.random.default_rng(seed)) for seed in range(400)]
        answers = ["".join(proposal.architecture.values()) for proposal in proposals if proposal is not None]
        kept[crossover] = [max(answer.count("0"), answer.count("4")) for answer in answers]
    assert abs(np.mean([8 - count for count in kept[0.0]]) - 1 / (1 - (7 / 8) ** 8)) < 0.2, "one on average, and unchanged ones are refused"
    assert 3.5 < np.mean(kept[1.0]) < 6
    history = [
        done(0, Architecture({"a": "x", "b": "x"}), Score(0.0, (1.0,))),
        done(1, Architecture({"a": "x", "b": "y"}), Score(0.0, (1.0,))),
    ]
    proposal = Nsga2(population=2).bind(SETTLED).ask(history, np.random.default_rng(0))
    assert proposal is not None
    assert dict(proposal.architecture) == {"a": "x", "b": "z"}


class Conflict(Evaluator):
    """Two objectives that most architectures serve badly: pairs of 4s, and pairs of 0s."""

    def evaluate(self, trial: Trial) -> Report:
        answers = "".join(trial.architecture.values())
        first, second = (sum(value**2 for value in (answers[:4].count(one), answers[4:].count(one))) for one in "40")
        return Report({"accuracy": first / 32, "loss": -second / 32})


def volume(strategy: Strategy, seed: int) -> float:
    """Area that is dominated after 200 trials, relative to (0, 0)."""
    objective = Objective(metrics=("accuracy", "-loss"))
    found = list(search(strategy.bind(WIDE), Conflict(), objective, MemoryJournal(), trials=200, seed=seed))
    area = top = 0.0
    for first, second in sorted((trial.score.values for trial in found if trial.score), reverse=True):
        area, top = area + first * max(0.0, second - top), max(top, second)
    return area


def test_its_front_dominates_more_than_that_of_random_search() -> None:
    evolved, drawn = ([volume(strategy, seed) for seed in range(6)] for strategy in (Nsga2(), Random()))
    assert min(evolved) > max(drawn)
    assert np.mean(evolved) > 1.3 * np.mean(drawn)


class Matches(Evaluator):
    """The share of choices that are answered with the option 4."""

    def evaluate(self, trial: Trial) -> Report:
        return Report({"accuracy": sum(option == "4" for option in trial.architecture.values()) / len(trial.architecture)})


def test_one_objective_is_served_too() -> None:
    best = []
    for strategy in (Nsga2(), Random()):
        found = [list(search(strategy.bind(WIDE), Matches(), Objective(), MemoryJournal(), trials=200, seed=seed)) for seed in range(4)]
        best.append(np.mean([max(trial.score.values[0] for trial in trials if trial.score) for trials in found]))
    assert best[0] > best[1] + 0.15


def test_architectures_of_one_function_are_proposed_once_also_while_they_run() -> None:
    for width in (1, 4):
        strategy = Nsga2(population=6).bind(CHOICES, canonical=without_idle)
        found = run_search(strategy, Fake(width=width, trouble=True), MemoryJournal(), 200)
        forms = [without_idle(trial.architecture) for trial in found]
        assert len(found) == 200
        assert len(set(forms)) == len(forms)


def test_a_search_ends_when_the_space_is_used_up() -> None:
    for width in (1, 3):
        found = run_search(Nsga2(population=2).bind(SMALL, canonical=without_idle), Fake(width=width), MemoryJournal(), 50)
        assert len({without_idle(trial.architecture) for trial in found}) == len(found) == 6


def test_nothing_that_happens_to_trials_stops_it() -> None:
    for score in (None, Score(-0.3, ()), Score(-0.3, (1.0, 2.0))):
        history = [done(number, WIDE.sample(np.random.default_rng(number)), score) for number in range(9)]
        assert Nsga2(population=4).bind(WIDE).ask(history, np.random.default_rng(0)) is not None


def test_what_is_kept_between_calls_changes_no_proposal() -> None:
    found = run_search(Nsga2(population=5).bind(CHOICES), Fake(trouble=True), MemoryJournal(), 100)
    kept = Nsga2(population=5).bind(CHOICES)
    rewritten = [*found[:50], done(50, found[50].architecture, Score(0.0, (2.0,))), *found[51:100]]
    for history in (*(found[:length] for length in [*range(0, 100, 9), 40, 99]), rewritten):
        for seed in range(5):
            anew = Nsga2(population=5).bind(CHOICES)
            assert kept.ask(history, np.random.default_rng(seed)) == anew.ask(history, np.random.default_rng(seed))
