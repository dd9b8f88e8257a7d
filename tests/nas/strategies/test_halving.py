"""Asynchronous successive halving against algorithm 2 of Li et al. 2020."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
from fake_search import number_of, plain, run_search
from pydantic import ValidationError

from nas.architecture import Architecture, Choice, Choices
from nas.evaluators.base import Evaluator
from nas.journal import FileJournal, MemoryJournal
from nas.load import load
from nas.strategies.base import Strategy
from nas.strategies.halving import Halving
from nas.strategies.hyperband import Hyperband
from nas.trial import Proposal, Report, Score, Trial

LETTERS = Choices([Choice("letter", tuple("abcdefghijkl"))])
WIDE = Choices([Choice(name, tuple("01234")) for name in "abcdef"])
FULL = 300


class Improving(Evaluator):
    """Accuracy grows with the steps towards a limit that the architecture sets, so ranks are the same at every length."""

    fails: frozenset[int] = frozenset()

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"steps"})

    def evaluate(self, trial: Trial) -> Report:
        if trial.number in self.fails:
            raise RuntimeError("broke")
        steps = trial.proposal.steps or FULL
        limit = number_of(trial.architecture) % 1009 / 1009
        return Report({"accuracy": limit * (1 - 0.5 ** (steps / 30)), "steps": float(steps)})


def letter(number: int, name: str, value: float | None, steps: int | None = 10, parent: int | None = None) -> Trial:
    """A finished trial; without a value it failed."""
    score = None if value is None else Score(0.0, (value,))
    report = Report(error="broke") if value is None else Report({"accuracy": value})
    return Trial(number, Proposal(Architecture({"letter": name}), steps, parent), report, score)


def halving(**settings: Any) -> Halving:
    return Halving(**{"rungs": (10, 30), **settings}).bind(LETTERS)


def asked(strategy: Strategy, history: list[Trial], seed: int = 0) -> Proposal:
    proposal = strategy.ask(history, np.random.default_rng(seed))
    assert proposal is not None
    return proposal


def test_nothing_is_promoted_before_a_rung_has_eta_members() -> None:
    history = [letter(0, "a", 0.1), letter(1, "b", 0.9)]
    assert asked(halving(), history) == Proposal(LETTERS.sample(np.random.default_rng(0)), 10)


def test_the_best_third_is_promoted_with_its_trial_as_parent_and_each_once() -> None:
    values = [0.1, 0.9, 0.3, 0.8, 0.2, 0.7]
    history = [letter(number, name, value) for number, (name, value) in enumerate(zip("abcdef", values, strict=True))]
    first = asked(halving(), history)
    assert first == Proposal(Architecture({"letter": "b"}), 30, parent=1)
    history.append(Trial(6, first))
    second = asked(halving(), history)
    assert second == Proposal(Architecture({"letter": "d"}), 30, parent=3), "a running promotion counts as made"
    history.append(Trial(7, second))
    assert asked(halving(), history).parent is None, "two of six went on"


def test_the_highest_rung_promotes_first_and_ends_in_a_full_training() -> None:
    history = [letter(number, name, 0.9 - number / 10) for number, name in enumerate("abcdefghi")]
    history += [letter(9 + place, "abc"[place], value, 30, place) for place, value in enumerate((0.91, 0.95, 0.93))]
    history += [letter(12, "jkl"[place], 0.99) for place in range(1)]
    assert asked(halving(), history) == Proposal(Architecture({"letter": "b"}), None, parent=10)
    history.append(letter(13, "b", None, None, 10))
    after = asked(halving(), history)
    assert after == Proposal(Architecture({"letter": "j"}), 30, parent=12), "a promotion that failed is not made again"


def test_failed_and_infeasible_trials_lose_and_rejected_ones_take_no_part() -> None:
    history = [letter(0, "a", None), letter(1, "b", None), letter(2, "c", 0.1)]
    assert asked(halving(), history).parent == 2
    infeasible = Trial(2, history[2].proposal, history[2].report, Score(-0.5, (0.99,)))
    assert asked(halving(), [*history[:2], infeasible]).parent is None
    rejected = [Trial(number, letter(number, "ab"[number], 1.0).proposal, Report(), Score(-1.0, ())) for number in range(2)]
    assert asked(halving(), [*rejected, history[2]]).parent is None


def test_one_function_is_one_member_of_a_rung() -> None:
    history = [letter(0, "a", 0.9), letter(1, "b", 0.15), letter(2, "c", 0.1), letter(3, "d", 0.2)]
    strategy = halving(eta=2)
    assert asked(strategy, history).parent == 0
    strategy.bind(LETTERS, None, lambda architecture: architecture["letter"].replace("b", "a"))
    history.append(letter(4, "a", 0.95, 30, 0))
    assert asked(strategy, history).parent is None, "a and b are one of three members, and it was promoted"


@final
class Spy(Strategy):
    """Remembers what it saw."""

    _asked: list[list[tuple[str, float | None]]] = []
    _told: list[tuple[int, str]] = []

    def ask(self, history: Any, rng: np.random.Generator) -> Proposal:
        assert [trial.number for trial in history] == list(range(len(history)))
        self._asked.append([(trial.architecture["letter"], trial.score and trial.score.values[0]) for trial in history])
        return Proposal(Architecture({"letter": "l"}), parent=0 if history else None)

    def tell(self, trial: Trial) -> None:
        self._told.append((trial.number, trial.architecture["letter"]))

    def telemetry(self) -> dict[str, list[float]]:
        return {"trial": [float(number) for number, _ in self._told], "value": [0.5] * len(self._told)}


def test_the_wrapped_strategy_sees_its_own_trials_with_their_longest_training() -> None:
    spy = Spy()
    strategy = halving(strategy=spy)
    history = [letter(0, "a", 0.3), letter(1, "b", 0.2), letter(2, "c", 0.1), letter(3, "a", 0.7, 30, 0)]
    history += [letter(4, "d", None), Trial(5, Proposal(Architecture({"letter": "e"}), 10))]
    for trial in history[:5]:
        strategy.tell(trial)
    assert asked(strategy, history) == Proposal(Architecture({"letter": "l"}), 10), "and a parent that it names is not passed on"
    assert spy._asked == [[("a", 0.7), ("b", 0.2), ("c", 0.1), ("d", None), ("e", None)]]
    assert spy._told == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert strategy.telemetry() == {"trial": [0.0, 1.0, 2.0, 4.0], "value": [0.5] * 4}


def test_the_state_of_the_wrapped_strategy_is_kept() -> None:
    pupil = load("strategies", "fake_search:Pupil")
    one, other = halving(strategy=pupil()), halving(strategy=pupil())
    for number in range(4):
        one.tell(letter(number, "abcd"[number], 0.1 * number))
    assert one.state_dict()["own"] == [0, 1, 2, 3]
    assert one.state_dict() != other.state_dict()
    other.load_state_dict(one.state_dict())
    assert one.state_dict() == other.state_dict()


@pytest.mark.parametrize("kind", [Halving, Hyperband])
@pytest.mark.parametrize("inner", ["fake_search:Pupil", "evolution"])
def test_killed_after_each_trial_it_goes_on_the_same(tmp_path: Path, kind: Callable[..., Strategy], inner: str) -> None:
    whole = run_search(kind(strategy=inner).bind(WIDE), Improving(), MemoryJournal(), 30)
    for stop in range(1, 31):
        with FileJournal(tmp_path, fingerprint="one") as journal:
            found = run_search(kind(strategy=inner).bind(WIDE), Improving(), journal, 30, stop=stop)
    assert plain(found) == plain(whole)


def test_only_the_highest_rung_that_was_reached_can_win() -> None:
    history = [letter(0, "a", 0.9), letter(1, "b", 0.3), letter(2, "c", 0.4, 30, 0)]
    strategy = halving()
    assert strategy.best(history) is history[2]
    assert strategy.best(history[:2]) is history[0]
    assert list(strategy.candidates(history)) == [history[2]]
    history += [letter(3, "d", 0.2, None, 2), letter(4, "e", 0.1, None, 2)]
    assert strategy.best(history) is history[3]
    assert [made["letter"] for made in strategy.conclude(history, 5, np.random.default_rng(0))] == ["d", "e"]


def steps_of(trials: list[Trial]) -> int:
    """The optimizer steps that a search took: a promotion continues its parent's."""
    taken = 0
    for trial in trials:
        before = trials[trial.proposal.parent].proposal.steps if trial.proposal.parent is not None else 0
        taken += (trial.proposal.steps or FULL) - (before or 0)
    return taken


def test_it_sees_three_times_as_many_architectures_at_the_cost_of_full_trainings() -> None:
    found = run_search(Halving(rungs=(33, 100)).bind(WIDE), Improving(), MemoryJournal(), 130)
    begun, continued, full = (sum(trial.proposal.steps == steps for trial in found) for steps in (33, 100, None))
    assert begun // 3 <= continued <= begun // 2, "a little more than a third: some were promoted before better ones came"
    assert continued // 3 <= full <= continued // 2
    assert begun > 3 * steps_of(found) / FULL
    expected = max((trial for trial in found if trial.proposal.parent is None), key=lambda trial: number_of(trial.architecture) % 1009)
    best = Halving(rungs=(33, 100)).bind(WIDE).best(found)
    assert best is not None
    assert best.architecture == expected.architecture, "where ranks do not change, the best of all begun wins"


@pytest.mark.parametrize("kind", [Halving, Hyperband])
def test_the_wrapped_strategy_is_what_proposes(kind: Callable[..., Strategy]) -> None:
    strategy = kind(strategy={"name": "evolution", "population": 8, "tournament": 4}).bind(WIDE)
    found = run_search(strategy, Improving(), MemoryJournal(), 100)
    begun = [trial.architecture for trial in found if trial.proposal.parent is None]
    for place, made in enumerate(begun[8:], start=8):
        assert any(sum(made[name] != other[name] for name in made) == 1 for other in begun[:place]), "a mutant of an earlier one"


@pytest.mark.parametrize("kind", [Halving, Hyperband])
@pytest.mark.parametrize("stop", [3, 10, 17, 25])
def test_a_failed_promotion_does_not_stop_the_search(kind: Callable[..., Strategy], stop: int) -> None:
    found = run_search(kind().bind(WIDE), Improving(fails=frozenset(range(stop, stop + 5))), MemoryJournal(), 60)
    assert len(found) == 60
    parents = [trial.proposal.parent for trial in found if trial.proposal.parent is not None]
    assert len(set(parents)) == len(parents), "nobody is promoted twice"
    assert all(found[parent].status == "done" for parent in parents)


@pytest.mark.parametrize("kind", [Halving, Hyperband])
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rungs": (30, 10)}, "give each number of steps once, the smallest first"),
        ({"rungs": (10, 10)}, "give each number of steps once, the smallest first"),
        ({"strategy": {"name": "halving"}}, "requires steps: wrap one that only proposes architectures"),
        ({"eta": 1}, "greater than or equal to 2"),
        ({"rungs": ()}, "at least 1 item"),
    ],
)
def test_impossible_settings_are_refused(kind: Callable[..., Strategy], settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        kind(**settings)


def test_an_evaluator_must_know_steps() -> None:
    assert Halving().requires == frozenset({"steps"})
    assert Hyperband().requires == frozenset({"steps"})


@final
class Finite(Strategy):
    """Proposes each of its letters once."""

    letters: str = "abc"

    def ask(self, history: Any, rng: np.random.Generator) -> Proposal | None:
        return Proposal(Architecture({"letter": self.letters[len(history)]})) if len(history) < len(self.letters) else None


def test_a_wrapped_strategy_that_is_done_ends_the_search_after_the_last_promotion() -> None:
    found = run_search(halving(strategy=Finite()), Improving(), MemoryJournal(), 50)
    assert [trial.proposal.steps for trial in found] == [10, 10, 10, 30]
