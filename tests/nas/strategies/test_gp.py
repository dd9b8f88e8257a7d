"""Optuna's Gaussian process as a function of the history. Few trials: each proposal costs a large part of a second."""

import numpy as np

from nas.architecture import Choice, Choices
from nas.strategies.gp import Gp, _scalarised
from nas.trial import Proposal, Report, Score, Trial

WIDE = Choices([Choice(name, tuple("012")) for name in "abcd"])


def searched(count: int, seed: int, *, objectives: int = 1, bound: bool = False, startup: int = 6) -> list[Trial]:
    """A search for the option 2, which a constraint may forbid for the choice a; a second objective says the opposite."""
    strategy, history = Gp(startup=startup).bind(WIDE), list[Trial]()
    for number in range(count):
        made = strategy.ask(history, np.random.default_rng([seed, number])).architecture
        matches = sum(option == "2" for option in made.values())
        score = Score(-1.0 if bound and made["a"] == "2" else 0.0, (matches / 4, -matches / 4)[:objectives])
        history.append(Trial(number, Proposal(made), Report(), score))
    return history


def test_it_finds_the_optimum_of_a_separable_function_soon_and_proposes_nothing_twice() -> None:
    history = searched(16, 0)
    assert max(trial.score.values[0] for trial in history if trial.score) == 1.0
    assert len({trial.architecture for trial in history}) == 16


def test_several_objectives_are_weighed_anew_for_every_proposal() -> None:
    scores = [Score(0.0, (float(first), 4.0 - first)) for first in range(5)]
    history = [Trial(number, Proposal(WIDE.sample(np.random.default_rng(number))), Report(), score) for number, score in enumerate(scores)]
    for failed, leader in ((1, 4), (2, 0), (3, 2)):  # the first one's weights: 7/8, 1/16 and 9/16
        told = _scalarised([*history, *(Trial(5 + number, history[0].proposal, Report(error="broke")) for number in range(failed))])
        scalars = [trial.score.values for trial in told if trial.score]
        assert all(len(values) == 1 for values in scalars)
        assert scalars.index(max(scalars)) == leader
    assert _scalarised(single := searched(3, 1)) is single


def test_two_objectives_are_searched() -> None:
    found = searched(9, 1, objectives=2)
    assert len({trial.architecture for trial in found}) == 9


def test_what_breaks_a_constraint_is_avoided() -> None:
    history = searched(16, 3, bound=True)
    assert any(trial.status == "infeasible" for trial in history[:6]), "or this test says nothing"
    assert sum(trial.architecture["a"] == "2" for trial in history[8:]) <= 2
    assert max(trial.score for trial in history if trial.score) == Score(0.0, (0.75,))


def test_what_followed_the_history_asks_like_what_is_new() -> None:
    history, followed = searched(10, 2, startup=10), Gp(startup=6).bind(WIDE)
    for count in (7, 8, 10, 7):
        seen = [*history[:count], Trial(count, Proposal(WIDE.sample(np.random.default_rng(0))))]
        assert followed.ask(seen, np.random.default_rng(count)) == Gp(startup=6).bind(WIDE).ask(seen, np.random.default_rng(count))
