"""What every strategy keeps to, held for every file of nas/strategies."""

import ast
import copy
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from fake_search import CHOICES, Fake, plain, run_search, strategy_of
from pydantic import ValidationError

from nas.architecture import Architecture
from nas.journal import FileJournal, MemoryJournal, encode_trial
from nas.load import load, names
from nas.objective import Objective
from nas.trial import Proposal, Report, Score, Trial

STRATEGIES = names("strategies")
OBJECTIVE = Objective(constraints={"parameters": "<= 800"})


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("width", [1, 3])
def test_proposals_lie_in_the_space_and_the_seed_decides_them(name: str, width: int) -> None:
    trials = 42 if name == "gp" else 60  # see strategy_of
    found = run_search(strategy_of(name), Fake(width=width, trouble=True), MemoryJournal(), trials, objective=OBJECTIVE)
    assert found
    for trial in found:
        CHOICES.check(trial.architecture)
        assert trial.proposal.parent is None or trial.proposal.parent < trial.number
        assert trial.proposal.steps is None or trial.proposal.steps >= 0
    again = run_search(strategy_of(name), Fake(width=width, trouble=True), MemoryJournal(), trials, objective=OBJECTIVE)
    assert plain(again) == plain(found)


def plain_proposal(proposal: Proposal | None) -> list[dict[str, str]]:
    """A proposal as JSON values, which can be compared: tensors of a mixture cannot."""
    return plain([Trial(0, proposal)]) if proposal is not None else []


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_the_generator_is_random(name: str) -> None:
    history = [*run_search(strategy_of(name), Fake(), MemoryJournal(), 30), Trial(30, Proposal(CHOICES.sample(np.random.default_rng(0))))]
    first, second, *others = (plain_proposal(strategy_of(name).ask(history, np.random.default_rng(seed))) for seed in (1, *range(1, 12)))
    assert first == second
    assert any(proposal != first for proposal in others)


@pytest.mark.parametrize("name", STRATEGIES)
def test_asking_changes_no_history(name: str) -> None:
    history = run_search(strategy_of(name), Fake(), MemoryJournal(), 30)
    before = copy.copy(history), plain(history)
    strategy_of(name).ask(history, np.random.default_rng(0))
    assert all(trial is known for trial, known in zip(history, before[0], strict=True))
    assert plain(history) == before[1]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("width", [1, 2])
def test_killed_and_resumed_equals_never_killed(tmp_path: Path, name: str, width: int) -> None:
    whole = run_search(strategy_of(name), Fake(width=width, trouble=True), MemoryJournal(), 40, objective=OBJECTIVE)
    for stop in (*range(1, len(whole), 4), None):
        with FileJournal(tmp_path, fingerprint=name) as journal:
            found = run_search(strategy_of(name), Fake(width=width, trouble=True), journal, 40, objective=OBJECTIVE, stop=stop)
    assert plain(found) == plain(whole)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_best_is_the_greatest_score_and_the_first_of_equals(name: str) -> None:
    def trial(number: int, score: Score | None) -> Trial:
        return Trial(number, Proposal(Architecture({})), Report(), score)

    strategy = strategy_of(name)
    scores = [Score(-0.1, (9.0,)), Score(0.0, (1.0,)), None, Score(0.0, (2.0,)), Score(-0.1, ()), Score(0.0, (2.0,))]
    history = [trial(number, score) for number, score in enumerate(scores)]
    best = strategy.best(history)
    assert best is history[3]
    assert strategy.best([]) is None
    assert strategy.best([trial(0, None), trial(1, Score(-1.0, ()))]) is None
    assert encode_trial(history[3]) == encode_trial(best)


@pytest.mark.parametrize("name", STRATEGIES)
def test_settings_are_refused_when_unknown_and_described_when_known(name: str) -> None:
    strategy = load("strategies", name)
    with pytest.raises(ValidationError, match=r"Extra inputs are not permitted"):
        strategy(no_such_setting=1)
    for field, information in strategy.model_fields.items():
        assert information.description, f"{name}.{field} needs a docstring"
        assert not information.is_required(), f"{name}.{field} needs a default"
    assert strategy() == strategy.model_validate(strategy().model_dump())


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_file_opens_with_its_citation(name: str) -> None:
    path = inspect.getsourcefile(load("strategies", name))
    assert path is not None
    docstring = ast.get_docstring(ast.parse(Path(path).read_text())) or ""
    assert re.search(r"\b(19|20)\d\d\b", docstring), "say who published the method, and when"
