"""Records: they cannot be changed, and a score compares by constraints first."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import Architecture
from nas.trial import Proposal, Report, Score, Trial

PROPOSAL = Proposal(Architecture({"a": "x"}))
numbers = st.floats(-10, 10).map(lambda number: round(number))
scores = st.builds(lambda violation, first, second: Score(-float(violation), (first, second)), st.integers(0, 2), numbers, numbers)


@pytest.mark.parametrize(
    ("trial", "status"),
    [
        (Trial(0, PROPOSAL), "running"),
        (Trial(0, PROPOSAL, Report(error="broke")), "failed"),
        (Trial(0, PROPOSAL, Report({"parameters": 9}, error="too large"), Score(-1.0, ())), "rejected"),
        (Trial(0, PROPOSAL, Report({"accuracy": 1.0}), Score(-0.5, (1.0,))), "infeasible"),
        (Trial(0, PROPOSAL, Report({"accuracy": 1.0}), Score(0.0, (1.0,))), "done"),
    ],
)
def test_status(trial: Trial, status: str) -> None:
    assert trial.status == status
    assert trial.rejected == (status == "rejected")
    assert trial.architecture is PROPOSAL.architecture


@pytest.mark.parametrize(("record", "field"), [(PROPOSAL, "steps"), (Report(), "seconds"), (Trial(0, PROPOSAL), "number")])
def test_records_are_frozen(record: object, field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(record, field, 1)


@given(scores, scores)
def test_a_greater_score_keeps_the_constraints_better_and_never_is_dominated(first: Score, second: Score) -> None:
    if first.feasibility != second.feasibility:
        assert (first > second) == (first.feasibility > second.feasibility) == first.dominates(second)
    if first.dominates(second):
        assert first > second
        assert not second.dominates(first)
    assert not first.dominates(first)


@given(scores, scores, scores)
def test_domination_is_transitive(first: Score, second: Score, third: Score) -> None:
    assert not (first.dominates(second) and second.dominates(third)) or first.dominates(third)


def test_an_untrained_candidate_is_below_every_feasible_one() -> None:
    assert Score(0.0, (-1e9,)) > Score(-1e-9, ())
    assert Score(0.0, (-1e9,)).dominates(Score(-1e-9, ()))
    assert not Score(-1.0, (3.0,)).dominates(Score(-1.0, ()))
    assert not Score(-1.0, ()).dominates(Score(-1.0, (3.0,)))
