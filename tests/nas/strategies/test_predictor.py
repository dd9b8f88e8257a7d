"""The predictor finds what can be learned, learns what is feasible, and depends on the history alone."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from fake_search import Fake, plain, run_search, strategy_of
from pydantic import PrivateAttr

from nas.architecture import Architecture, Choice, Choices
from nas.evaluators.base import Evaluator
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.strategies import predictor
from nas.strategies.base import Strategy
from nas.strategies.predictor import Predictor
from nas.strategies.random import Random
from nas.trial import Proposal, Report, Score, Trial

WIDE = Choices([Choice(name, tuple("01234")) for name in "abcdef"])


class Landscape(Evaluator):
    """Effects of every option, and of every pair of options of neighbouring choices; some architectures may fail or break a constraint."""

    seed: int = 0
    failing: bool = False
    _effects: np.ndarray = PrivateAttr()
    _pairs: np.ndarray = PrivateAttr()

    def model_post_init(self, _: object) -> None:
        rng = np.random.default_rng(self.seed)
        self._effects, self._pairs = rng.normal(size=(6, 5)), 0.5 * rng.normal(size=(6, 5, 5))

    def value(self, architecture: Mapping[str, str]) -> float:
        numbers = [int(option) for option in architecture.values()]
        neighbours = zip(self._pairs, numbers, numbers[1:] + numbers[:1], strict=True)
        return float(sum(self._effects[range(6), numbers])) + float(sum(pairs[one, two] for pairs, one, two in neighbours))

    def evaluate(self, trial: Trial) -> Report:
        if self.failing and trial.architecture["b"] == "0":
            raise RuntimeError("fails")
        return Report({"accuracy": self.value(trial.architecture), **self.inspect(trial.proposal)})

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        return {"size": float(proposal.architecture["a"])}


def best_of(strategy: Strategy, seed: int, trials: int) -> float:
    found = search(strategy, Landscape(seed=seed), Objective(), MemoryJournal(), trials=trials, seed=seed)
    return max(trial.score.values[0] for trial in found if trial.score)


def done(number: int, architecture: Architecture, value: float) -> Trial:
    return Trial(number, Proposal(architecture), Report({}), Score(0.0, (value,)))


def random_history(count: int, choices: Choices = WIDE) -> list[Trial]:
    rng = np.random.default_rng(7)
    return [done(number, choices.sample(rng), float(rng.normal())) for number in range(count)]


def test_it_finds_with_fifty_trials_what_random_search_does_not_with_three_hundred() -> None:
    learned = [best_of(Predictor().bind(WIDE), seed, 50) for seed in range(4)]
    drawn = [best_of(Random().bind(WIDE), seed, 300) for seed in range(4)]
    assert sum(one > other for one, other in zip(learned, drawn, strict=True)) >= 3
    assert np.mean(learned) > np.mean(drawn) + 0.3


def test_features_that_tell_are_made_use_of_and_others_do_little_harm() -> None:
    def noise(architecture: Architecture) -> Sequence[float]:
        return np.random.default_rng([int(option) for option in architecture.values()]).normal(size=3).tolist()

    def after_some(features: Callable[[int], Callable[[Architecture], Sequence[float]]] | None) -> float:
        return float(np.mean([best_of(Predictor().bind(WIDE, features(seed) if features else None), seed, 20) for seed in range(4)]))

    def telling(seed: int) -> Callable[[Architecture], Sequence[float]]:
        return lambda architecture: [np.exp(Landscape(seed=seed).value(architecture)), *noise(architecture)]

    unaided, told, misled = after_some(None), after_some(telling), after_some(lambda _: noise)
    assert told > unaided + 0.5, (unaided, told, misled)
    assert misled > unaided - 1.0


def test_one_function_is_proposed_once_and_an_exhausted_space_ends_the_search() -> None:
    small = Choices([Choice("a", tuple("0123")), Choice("b", tuple("012")), Choice("idle", ("x", "y"))])

    def form(architecture: Architecture) -> str:
        return architecture["a"] + architecture["b"]

    history: list[Trial] = []
    strategy = Predictor(initial=4).bind(small, None, form)
    while (proposal := strategy.ask(history, np.random.default_rng(len(history)))) is not None:
        history.append(done(len(history), proposal.architecture, float(proposal.architecture["a"])))
    assert sorted(form(trial.architecture) for trial in history) == sorted(a + b for a in "0123" for b in "012")
    assert strategy.ask([*history[:-1], Trial(len(history) - 1, history[-1].proposal)], np.random.default_rng(0)) is None


def test_a_space_in_which_all_candidates_are_known_is_used_up() -> None:
    small = Choices([Choice("a", tuple("012")), Choice("b", tuple("01"))])
    strategy, history = Predictor(initial=2).bind(small, lambda architecture: [float(architecture["a"])]), random_history(0)
    while (proposal := strategy.ask(history, np.random.default_rng(len(history)))) is not None:
        history.append(done(len(history), proposal.architecture, float(len(history))))
    assert len({trial.architecture for trial in history}) == len(history) == 6


def test_running_trials_are_kept_away_from(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    honest = predictor.posterior
    monkeypatch.setattr(predictor, "posterior", lambda inner, *rest: sizes.append((len(inner), len(rest[1]))) or honest(inner, *rest))
    history = random_history(20)
    for _ in range(8):
        proposal = Predictor().bind(WIDE).ask(history, np.random.default_rng(0))
        assert proposal is not None
        history.append(Trial(len(history), proposal))
    assert len({trial.architecture for trial in history}) == len(history)
    assert set(sizes) == {(size, 20) for size in range(20, 28)}  # those that run lower the uncertainty, and have no results


@pytest.mark.parametrize("width", [1, 3])
def test_an_object_that_knows_nothing_yet_proposes_the_same(width: int) -> None:
    class Forgetful(Strategy):
        def ask(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal | None:
            return strategy_of("predictor").ask(history, rng)

    objective = Objective(constraints={"parameters": "<= 800"})
    kept = run_search(strategy_of("predictor"), Fake(width=width, trouble=True), MemoryJournal(), 40, objective=objective)
    forgotten = run_search(Forgetful(), Fake(width=width, trouble=True), MemoryJournal(), 40, objective=objective)
    assert plain(kept) == plain(forgotten)


def test_what_breaks_a_constraint_or_fails_is_soon_left_alone() -> None:
    objective = Objective(constraints={"size": "<= 1"})
    first: list[bool] = []
    last: list[bool] = []
    for seed in range(6):
        found = list(search(Predictor().bind(WIDE), Landscape(failing=True), objective, MemoryJournal(), trials=50, seed=seed))
        first += [trial.status == "done" for trial in found[:15]]
        last += [trial.status == "done" for trial in found[-25:]]
    assert np.mean(first) < 0.6
    assert np.mean(last) > 0.8


def test_while_nothing_is_feasible_breaking_less_is_the_aim() -> None:
    rng = np.random.default_rng(0)
    drawn = [Architecture({**WIDE.sample(rng), "a": "4", "b": str(number % 4 + 1)}) for number in range(12)]
    history = [Trial(number, Proposal(one), Report({}), Score(-float(one["b"]), ())) for number, one in enumerate(drawn)]
    proposals = [Predictor(initial=6).bind(WIDE).ask(history, np.random.default_rng(seed)) for seed in range(5)]
    assert all(proposal is not None and proposal.architecture["b"] in "01" for proposal in proposals)


def test_the_first_architectures_are_random_and_more_of_them_where_no_features_help() -> None:
    def different(count: int, features: Callable[[Architecture], Sequence[float]] | None) -> int:
        strategies = [Predictor(initial=5, strangers=1).bind(WIDE, features) for _ in range(10)]
        history = random_history(count)
        return len({strategy.ask(history, np.random.default_rng(seed)).architecture for seed, strategy in enumerate(strategies)})  # type: ignore[union-attr]

    def telling(architecture: Architecture) -> Sequence[float]:
        return [float(architecture["a"])]

    assert [different(4, telling), different(9, None)] == [10, 10]
    assert max(different(5, telling), different(10, None)) < 5


@pytest.mark.parametrize("score", [None, Score(0.0, (1.0,)), Score(-1.0, ())])
def test_where_all_results_are_equal_proposals_are_random(score: Score | None) -> None:
    history = [Trial(trial.number, trial.proposal, Report({}), score) for trial in random_history(25)]
    proposals = {Predictor().bind(WIDE).ask(history, np.random.default_rng(seed)).architecture for seed in range(10)}  # type: ignore[union-attr]
    assert len(proposals) == 10


def test_features_that_are_missing_or_infinite_are_borne() -> None:
    def features(architecture: Architecture) -> Sequence[float]:
        return [float("nan") if architecture["a"] == "0" else 1.0, float("inf") if architecture["b"] == "0" else -float("inf"), 0.0]

    assert Predictor().bind(WIDE, features).ask(random_history(20), np.random.default_rng(0)) is not None


def test_long_histories_are_learned_from_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "MEMORY", 20)
    sizes = []
    honest = predictor.posterior
    monkeypatch.setattr(predictor, "posterior", lambda inner, *rest: sizes.append(len(inner)) or honest(inner, *rest))
    history = random_history(60)
    strategy = Predictor().bind(WIDE)
    for number in (60, 61):
        proposal = strategy.ask(history, np.random.default_rng(0))
        assert proposal is not None
        history.append(done(number, proposal.architecture, 100.0))
    assert max(sizes) <= 20
    last = strategy.ask(history, np.random.default_rng(1))
    assert last is not None
    assert min(sum(last.architecture[name] != trial.architecture[name] for name in WIDE_NAMES) for trial in history[60:]) == 1


WIDE_NAMES = [choice.name for choice in WIDE]
