"""What a proposal says it was made from is what it was made from: the choices tell."""

from collections.abc import Mapping, Sequence

import pytest
from additive import CHOICES, Additive
from fake_search import run_search

from nas.journal import MemoryJournal
from nas.load import load
from nas.objective import Objective
from nas.strategies.base import Strategy
from nas.testing.doubles import check_origin
from nas.trial import Proposal, Report, Trial
from nas.warm_start import WarmStart

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "evolution": {"population": 6, "tournament": 3},
    "local": {"initial": 4},
    "predictor": {"initial": 4},
    "nsga2": {"population": 6, "crossover": 0.0},
}
TWO = Objective(metrics=("accuracy", "-parameters"))


def made(name: str, **settings: object) -> Strategy:
    strategy: Strategy = load("strategies", name)(**{**SETTINGS.get(name, {}), **settings})
    return strategy.bind(CHOICES)


def searched(strategy: Strategy, trials: int = 60, objective: Objective | None = None) -> list[Trial]:
    return run_search(strategy, Additive(), MemoryJournal(), trials, objective=objective or Objective())


def differing(trial: Trial, other: Trial) -> int:
    return sum(other.architecture[name] != option for name, option in trial.architecture.items())


def children(found: Sequence[Trial]) -> list[tuple[Trial, list[Trial]]]:
    return [(trial, [found[number] for number in trial.proposal.origin]) for trial in found if trial.proposal.origin]


@pytest.mark.parametrize("objective", [None, TWO], ids=["one", "two"])
@pytest.mark.parametrize("name", ["evolution", "local", "predictor"])
def test_a_mutant_and_a_neighbour_differ_from_their_origin_in_one_choice(name: str, objective: Objective | None) -> None:
    found = children(searched(made(name), objective=objective))
    assert len(found) > 5
    assert {len(parents) for _, parents in found} == {1}
    assert {differing(trial, parents[0]) for trial, parents in found} == {1}
    assert all(parents[0].number < trial.number for trial, parents in found)


@pytest.mark.parametrize("name", ["evolution", "nsga2"])
def test_a_child_of_two_takes_nearly_every_choice_from_either(name: str) -> None:
    found = [(trial, parents) for trial, parents in children(searched(made(name, crossover=1.0))) if len(parents) == 2]
    assert len(found) > 5
    foreign = [
        sum(all(parent.architecture[choice] != option for parent in parents) for choice, option in trial.architecture.items())
        for trial, parents in found
    ]
    assert max(foreign) <= (1 if name == "evolution" else len(CHOICES) // 2)
    assert 0 in foreign


@pytest.mark.parametrize("name", ["random", "tpe", "reinforce", "cma"])
def test_what_is_sampled_has_no_origin(name: str) -> None:
    assert children(searched(made(name), 20)) == []


def test_the_first_are_drawn_and_a_wrapped_strategy_names_the_trials_of_the_whole_search() -> None:
    plain = searched(made("evolution"))
    assert [trial.proposal.origin for trial in plain[:6]] == [()] * 6
    halved = searched(made("halving", strategy={"name": "evolution", **SETTINGS["evolution"]}, eta=2, rungs=(3, 9)), 90)
    found = children(halved)
    assert len(found) > 5
    assert {differing(trial, parents[0]) for trial, parents in found} == {1}
    assert any(trial.proposal.parent is not None for trial in halved)
    assert all(parents[0].proposal.parent is None and trial.proposal.parent is None for trial, parents in found)


def test_a_warm_start_passes_the_origin_on() -> None:
    strategy = made("evolution")
    warm = WarmStart.around(strategy, [strategy.choices.neighbours(found.architecture)[0] for found in searched(made("random"), 3)], len)
    assert children(searched(warm, 30))


def test_an_origin_that_is_no_finished_trial_breaks_the_contract() -> None:
    found = searched(made("random"), 2)
    history = [Trial(0, found[0].proposal, Report()), Trial(1, found[1].proposal)]
    check_origin(Proposal(found[0].architecture, origin=(0,)), history, "trial 2")
    for origin, words in (((1,), "names trial 1, which has not finished"), ((7,), "names trial 7"), ((0, 0), "name each trial once")):
        with pytest.raises(AssertionError, match=words):
            check_origin(Proposal(found[0].architecture, origin=origin), history, "trial 2")
