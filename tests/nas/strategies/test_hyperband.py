"""Hyperband against algorithm 1 of Li et al. 2018."""

import numpy as np
import pytest
from fake_search import CHOICES, Fake, run_search

from nas.journal import MemoryJournal
from nas.strategies.hyperband import Hyperband
from nas.trial import Proposal, Report, Score, Trial


@pytest.mark.parametrize(
    ("rungs", "eta", "sizes"),
    [
        # With R = 81 and eta = 3 algorithm 1 begins 81, 34, 15, 8 and 5 architectures.
        ((1, 3, 9, 27), 3, [81 + 27 + 9 + 3 + 1, 34 + 11 + 3 + 1, 15 + 5 + 1, 8 + 2, 5]),
        ((33, 100), 3, [9 + 3 + 1, 5 + 1, 3]),
        ((12,), 16, [16 + 1, 2]),
    ],
)
def test_a_round_gives_each_bracket_what_it_takes_to_halve_down(rungs: tuple[int, ...], eta: int, sizes: list[int]) -> None:
    assert Hyperband(rungs=rungs, eta=eta).sizes == sizes


class Patient(Fake):
    """Answers at every number of steps."""

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"steps"})


def bracket_of(number: int) -> int:
    """With rungs at 33 and 100 steps, 13, 6 and 3 of 22 trials belong to the brackets."""
    place = number % 22
    return 0 if place < 13 else 1 if place < 19 else 2


@pytest.mark.parametrize("width", [1, 3])
def test_a_bracket_begins_at_its_own_rung_and_promotes_only_its_own(width: int) -> None:
    found = run_search(Hyperband().bind(CHOICES), Patient(width=width, reuse=False), MemoryJournal(), 132)
    steps = (33, 100, None)
    seen: set[tuple[int, int]] = set()
    for trial in found:
        bracket, parent = bracket_of(trial.number), trial.proposal.parent
        rung = steps.index(trial.proposal.steps)
        seen.add((bracket, rung))
        if parent is None:
            assert rung == bracket
        else:
            assert bracket_of(parent) == bracket
            assert steps.index(found[parent].proposal.steps) == rung - 1
            assert found[parent].architecture == trial.architecture
    assert seen == {(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)}


def test_one_strategy_sees_the_trials_of_all_brackets() -> None:
    strategy = Hyperband(strategy={"name": "evolution", "population": 3, "tournament": 3}).bind(CHOICES)
    drawn = [CHOICES.sample(np.random.default_rng(number)) for number in range(3)]
    proposals = [Proposal(made, steps) for made, steps in zip(drawn, (33, 33, None), strict=True)]
    history = [Trial(number, made, Report({}), Score(0.0, (float(number),))) for number, made in enumerate(proposals)]
    proposal = strategy.ask(history, np.random.default_rng(0))
    assert proposal is not None
    assert proposal.steps == 33, "trial 3 belongs to the first bracket"
    assert sum(proposal.architecture[name] != drawn[2][name] for name in drawn[2]) == 1, "a mutant of the full training, which scored best"
