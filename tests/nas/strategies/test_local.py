"""Local search: climbs from the best start to the first better neighbour, starts anew at an optimum, repeats nothing."""

import json

import numpy as np
from fake_search import CHOICES, Fake, run_search

from nas.architecture import Architecture, Choice, Choices
from nas.evaluators.base import Evaluator
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.strategies.local import Local
from nas.trial import Proposal, Report, Score, Trial

WIDE = Choices([Choice(name, tuple("01234")) for name in "abcdef"])
SMALL = Choices([Choice("a", ("x", "y", "z")), Choice("b", ("x", "y")), Choice("idle", ("x", "y"))])


def made(answers: str) -> Architecture:
    return Architecture(dict(zip("abcdef", answers, strict=True)))


def done(number: int, architecture: Architecture, score: Score | None) -> Trial:
    return Trial(number, Proposal(architecture), Report({}, error="broke" if score is None else None), score)


def differences(first: Architecture, second: Architecture) -> int:
    return sum(first[name] != second[name] for name in first)


def asked(strategy: Local, history: list[Trial], draws: int = 40) -> list[Architecture]:
    proposals = [strategy.ask(history, np.random.default_rng(seed)) for seed in range(draws)]
    return [proposal.architecture for proposal in proposals if proposal is not None]


def without_idle(architecture: Architecture) -> str:
    return json.dumps({name: option for name, option in architecture.items() if name != "idle"})


class Matches(Evaluator):
    """The share of choices that are answered with the option 4: one optimum, and every other architecture has a better neighbour."""

    def evaluate(self, trial: Trial) -> Report:
        return Report({"accuracy": sum(option == "4" for option in trial.architecture.values()) / len(trial.architecture)})


def test_after_the_starts_every_proposal_is_a_neighbour_of_the_best_so_far() -> None:
    found = list(search(Local(initial=5).bind(WIDE), Matches(), Objective(), MemoryJournal(), trials=40, seed=0))
    assert any(differences(trial.architecture, found[0].architecture) > 1 for trial in found[1:5])
    best = max(found[:5], key=lambda trial: (trial.score, -trial.number))
    for trial in found[5:]:
        assert differences(trial.architecture, best.architecture) == 1
        best = max(best, trial, key=lambda trial: (trial.score, -trial.number))
    assert best.score is not None
    assert best.score.values[0] > 0.6


def test_it_reaches_the_optimum_of_a_separable_function_soon() -> None:
    """From any start six good answers are at most 6 x 24 neighbours away; the last climb needs about 60."""
    for seed in range(5):
        found = list(search(Local().bind(WIDE), Matches(), Objective(), MemoryJournal(), trials=154, seed=seed))
        assert max(trial.score for trial in found if trial.score) == Score(0.0, (1.0,))


def test_neighbours_are_proposed_in_random_order_and_all_of_them() -> None:
    history = [done(0, made("000000"), Score(0.0, (1.0,)))]
    proposals = asked(Local(initial=1).bind(WIDE), history, 300)
    assert set(proposals) == set(WIDE.neighbours(made("000000")))


def test_an_equal_neighbour_is_no_step_up() -> None:
    history = [done(0, made("000000"), Score(0.0, (1.0,))), done(1, made("000001"), Score(0.0, (1.0,)))]
    assert all(differences(proposal, made("000000")) == 1 for proposal in asked(Local(initial=1).bind(WIDE), history))


def test_at_a_local_optimum_it_starts_anew_and_is_not_drawn_back() -> None:
    history = [done(0, made("000000"), Score(0.0, (9.0,)))]
    for neighbour in WIDE.neighbours(made("000000")):
        history.append(done(len(history), neighbour, Score(0.0, (8.0,))))
    strategy = Local(initial=2).bind(WIDE)
    starts = asked(strategy, history)
    assert np.mean([differences(start, made("000000")) for start in starts]) > 4, "starts are random"
    history += [done(25, made("333333"), Score(0.0, (1.0,))), done(26, made("444444"), Score(0.0, (2.0,)))]
    assert all(differences(proposal, made("444444")) == 1 for proposal in asked(strategy, history)), "the new climb has its own best"


def test_while_the_last_neighbours_run_it_prepares_the_next_climb() -> None:
    neighbours = WIDE.neighbours(made("000000"))
    history = [done(0, made("000000"), Score(0.0, (9.0,)))]
    history += [done(number, neighbour, Score(0.0, (8.0,))) for number, neighbour in enumerate(neighbours[:-1], 1)]
    history.append(Trial(24, Proposal(neighbours[-1])))
    strategy = Local(initial=1).bind(WIDE)
    assert np.mean([differences(start, made("000000")) for start in asked(strategy, history)]) > 4
    history[24] = done(24, neighbours[-1], Score(0.0, (10.0,)))
    assert all(differences(proposal, neighbours[-1]) == 1 for proposal in asked(strategy, history)), "the last neighbour was better"


def test_what_failed_or_runs_counts_as_no_start_of_its_own_score() -> None:
    history = [done(0, made("000000"), None), done(1, made("111111"), Score(0.0, (1.0,))), Trial(2, Proposal(made("222222")))]
    assert any(differences(proposal, made("111111")) > 1 for proposal in asked(Local(initial=3).bind(WIDE), history)), (
        "one scored, one runs"
    )
    assert all(differences(proposal, made("111111")) == 1 for proposal in asked(Local(initial=2).bind(WIDE), history))
    failed = [done(number, made(f"{number}00000"), None) for number in range(5)]
    assert len(set(asked(Local(initial=2).bind(WIDE), failed))) > 5


def test_it_climbs_towards_what_breaks_the_constraints_less() -> None:
    history = [
        done(0, made("000000"), Score(-0.5, (99.0,))),
        done(1, made("333333"), Score(-0.2, ())),
        done(2, made("111111"), Score(-0.3, (50.0,))),
    ]
    assert all(differences(proposal, made("333333")) == 1 for proposal in asked(Local(initial=3).bind(WIDE), history))


def test_architectures_of_one_function_are_proposed_once_also_while_they_run() -> None:
    for width in (1, 4):
        strategy = Local(initial=4).bind(CHOICES, canonical=without_idle)
        found = run_search(strategy, Fake(width=width, trouble=True), MemoryJournal(), 200)
        forms = [without_idle(trial.architecture) for trial in found]
        assert len(found) == 200
        assert len(set(forms)) == len(forms)


def test_a_search_ends_when_the_space_is_used_up() -> None:
    for width in (1, 3):
        found = run_search(Local(initial=2).bind(SMALL, canonical=without_idle), Fake(width=width), MemoryJournal(), 50)
        assert sorted({without_idle(trial.architecture) for trial in found}) == sorted(
            {without_idle(Architecture({"a": first, "b": second})) for first in "xyz" for second in "xy"}
        )
        assert len(found) == 6


def test_the_last_architecture_of_a_space_is_found() -> None:
    """All but one of 15,625 are known: random draws will not do."""
    missing = made("314142")
    every = [Architecture(dict(zip("abcdef", f"{np.base_repr(number, 5):0>6}", strict=True))) for number in range(5**6)]
    history = [done(number, one, None) for number, one in enumerate(one for one in every if one != missing)]
    assert asked(Local().bind(WIDE), history, 1) == [missing]


def test_what_is_kept_between_calls_changes_no_proposal() -> None:
    found = run_search(Local(initial=4).bind(CHOICES), Fake(trouble=True), MemoryJournal(), 120)
    kept = Local(initial=4).bind(CHOICES)
    lengths = [*range(0, 120, 7), 30, 100, 3]
    for length in lengths:
        history = [*found[:length], Trial(length, found[length].proposal)]
        anew = Local(initial=4).bind(CHOICES).ask(history, np.random.default_rng(length))
        assert kept.ask(history, np.random.default_rng(length)) == anew
    rewritten = [*found[:50], done(50, found[50].architecture, Score(0.0, (2.0,))), *found[51:100]]
    kept.ask(found[:100], np.random.default_rng(0))
    assert asked(kept, rewritten) == asked(Local(initial=4).bind(CHOICES), rewritten)
