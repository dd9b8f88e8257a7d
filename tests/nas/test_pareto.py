"""Fronts, crowding and order against their definitions; weights that cover the simplex; the Tchebycheff scalar."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import Architecture
from nas.pareto import best_first, domination, fronts, merits, pareto_front, places, scalarised, tchebycheff, weights_at
from nas.trial import Proposal, Report, Score, Trial

values = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
kinds = st.sampled_from(["done", "done", "done", "infeasible", "rejected", "failed", "running"])


@settings(deadline=None)
@given(st.lists(st.tuples(kinds, values), max_size=25))
def test_the_pareto_front_is_what_its_definition_says(points: list[tuple[str, tuple[int, ...]]]) -> None:
    scores = {"done": lambda v: Score(0.0, v), "infeasible": lambda v: Score(-1.0, v), "rejected": lambda v: Score(-1.0, ())}
    trials = [
        Trial(number, Proposal(Architecture({})), None if kind == "running" else Report(), scores[kind](point) if kind in scores else None)
        for number, (kind, point) in enumerate(points)
    ]
    done = [(number, point) for number, (kind, point) in enumerate(points) if kind == "done"]
    expected = [
        number
        for number, point in done
        if not any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for _, other in done)
        and not any(other == point and earlier < number for earlier, other in done)
    ]
    assert [trial.number for trial in pareto_front(trials)] == expected


def interval(value: int, below: int, above: int) -> tuple[int, int]:
    return value - below, value + above


small = st.integers(0, 2)
points = st.lists(st.tuples(st.integers(0, 4), small, small), min_size=2, max_size=2)
any_score = st.builds(
    lambda violation, found, trained, noisy: Score(
        -float(violation),
        tuple(value for value, _, _ in found) if trained or not violation else (),
        tuple(interval(*point) for point in found) if noisy and (trained or not violation) else (),
    ),
    st.sampled_from([0, 0, 0, 1]),
    points,
    st.booleans(),
    st.booleans(),
)


@settings(deadline=None)
@given(st.lists(any_score, max_size=14))
def test_all_pairs_at_once_are_as_each_pair(scores: list[Score]) -> None:
    assert domination(scores).tolist() == [[score.dominates(other) for other in scores] for score in scores]
    left = list(range(len(scores)))
    for front in fronts(scores):
        assert front == [index for index in left if not any(scores[other].dominates(scores[index]) for other in left)]
        left = [index for index in left if index not in front]
    assert left == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_with_intervals_the_front_can_only_grow(pairs: list[tuple[int, int]]) -> None:
    def front(noise: float) -> set[int]:
        scores = [Score(0.0, pair, ((pair[0] - noise, pair[0] + noise), (pair[1], pair[1])) if noise else ()) for pair in pairs]
        return set(fronts(scores)[0])

    assert front(0.0) <= front(0.5) <= front(2.0)


def trials_of(*scores: Score | None) -> list[Trial]:
    return [Trial(number, Proposal(Architecture({})), Report(), score) for number, score in enumerate(scores)]


def test_the_order_is_that_of_scores_with_one_objective_and_of_places_with_several() -> None:
    one = trials_of(Score(0.0, (1.0,)), None, Score(-1.0, ()), Score(0.0, (2.0,)), Score(-1.0, (9.0,)), Score(0.0, (2.0,)))
    assert [trial.number for trial in best_first(one)] == [3, 5, 0, 4, 2]
    points = [(0.0, 10.0), (1.0, 8.0), (2.0, 2.0), (8.0, 1.0), (10.0, 0.0), (0.0, 1.0)]
    two = trials_of(*(Score(0.0, point) for point in points), Score(-1.0, (99.0, 99.0)))
    assert [trial.number for trial in best_first(two)] == [0, 4, 2, 1, 3, 5, 6]
    scores = [trial.score for trial in two if trial.score]
    assert [rank for rank, _ in places(scores)] == [0, 0, 0, 0, 0, 1, 2]
    assert merits(scores)[0] == (0, math.inf)
    assert best_first([]) == [] == pareto_front([])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_weights_are_positive_add_up_to_one_and_spread_evenly(count: int) -> None:
    found = np.array([weights_at(index, count) for index in range(256)])
    assert found.shape == (256, count)
    assert (found > 0).all()
    assert np.allclose(found.sum(1), 1)
    assert len({tuple(row) for row in found.tolist()}) == (256 if count > 1 else 1)
    assert np.allclose(found.mean(0), 1 / count, atol=0.02), "the mean of the uniform distribution on the simplex"
    assert np.allclose(weights_at(0, 2), 0.5)


def test_two_weights_cut_the_line_ever_finer() -> None:
    assert [float(weights_at(index, 2)[0]) for index in range(7)] == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]


def test_the_scalar_is_the_worst_weighed_distance_and_a_little_of_all() -> None:
    values, weights = np.array([[10.0, 2.0], [5.0, 2.0], [0.0, 1.0]]), np.array([0.75, 0.25])
    low, high = np.array([0.0, 0.0]), np.array([10.0, 2.0])
    assert tchebycheff(values, low, high, weights) == pytest.approx([0, -(0.375 + 0.05 * 0.375), -(0.75 + 0.05 * 0.875)])
    assert scalarised(values, weights) == pytest.approx([0, -(0.375 + 0.05 * 0.375), -(0.75 + 0.05 * 1.0)])
    assert scalarised(np.array([[7.0, 3.0], [7.0, 1.0]]), weights) == pytest.approx([0, -0.25 * 1.05]), (
        "what is equal everywhere costs nothing"
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12), st.integers(0, 60))
def test_what_has_the_greatest_scalar_is_of_the_front(pairs: list[tuple[int, int]], index: int) -> None:
    scalars = scalarised(np.array(pairs, dtype=np.float64), weights_at(index, 2))
    scores = [Score(0.0, pair) for pair in pairs]
    best = int(scalars.argmax())
    assert not any(score.dominates(scores[best]) for score in scores)
