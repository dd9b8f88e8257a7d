"""Records: they cannot be changed, and a score compares by constraints first."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import Architecture
from nas.trial import Proposal, Report, Score, Trial

PROPOSAL = Proposal(Architecture({"a": "x"}))
numbers = st.floats(-10, 10).map(lambda number: round(number))
noise = st.integers(0, 2)
noisy_scores = st.builds(
    lambda violation, points: Score(
        -float(violation),
        tuple(value for value, _, _ in points),
        tuple((value - below, value + above) for value, below, above in points),
    ),
    st.integers(0, 1),
    st.tuples(*[st.tuples(st.integers(0, 4), noise, noise)] * 2),
)
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


@settings(deadline=None)
@given(st.lists(noisy_scores, max_size=12))
def test_with_intervals_domination_has_no_circles_and_needs_more_than_noise(several: list[Score]) -> None:
    plain = [Score(score.feasibility, score.values) for score in several]
    for score, point in zip(several, plain, strict=True):
        assert not score.dominates(score)
        for other, position in zip(several, plain, strict=True):
            if score.dominates(other):
                assert not other.dominates(score)
                assert point.dominates(position), "a part of what the values alone say, which is a partial order: no circles"
    left = list(several)
    while left:
        remaining = [score for score in left if any(other.dominates(score) for other in left)]
        assert len(remaining) < len(left), "in every set there is one that no other dominates"
        left = remaining


@given(scores, scores, noise)
def test_intervals_of_no_width_change_nothing(first: Score, second: Score, which: int) -> None:
    exact = [score._replace(intervals=score.bounds) if which != place else score for place, score in enumerate((first, second))]
    assert exact[0].dominates(exact[1]) == first.dominates(second)


@pytest.mark.parametrize(
    ("better", "worse", "dominates"),
    [
        (Score(0.0, (2.0,), ((1.6, 2.4),)), Score(0.0, (1.0,), ((0.5, 1.5),)), True),
        (Score(0.0, (2.0,), ((1.5, 2.4),)), Score(0.0, (1.0,), ((0.5, 1.5),)), False),
        (Score(0.0, (2.0, 0.9), ((1.5, 2.4), (0.9, 0.9))), Score(0.0, (1.0, 0.8), ((0.5, 1.5), (0.8, 0.8))), True),
        (Score(0.0, (2.0, 0.7), ((1.9, 2.1), (0.7, 0.7))), Score(0.0, (1.0, 0.8), ((0.9, 1.1), (0.8, 0.8))), False),
        (Score(0.0, (2.0, 1.0)), Score(0.0, (1.0, 1.0), ((0.5, 1.9), (1.0, 1.0))), True),
        (Score(0.0, (1.0,), ((0.0, 9.0),)), Score(-0.1, (8.0,), ((7.0, 9.0),)), True),
    ],
)
def test_only_separate_intervals_are_better(better: Score, worse: Score, dominates: bool) -> None:
    assert better.dominates(worse) == dominates
    assert not worse.dominates(better)
