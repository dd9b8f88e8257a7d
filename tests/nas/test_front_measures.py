"""Hypervolumes against counting cells, curves, and knees of fronts with a known shape."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.architecture import Architecture
from nas.front_measures import beyond, hypervolume, hypervolume_curve, knee, worst_point
from nas.trial import Proposal, Report, Score, Trial


def trials_of(*scores: Score | None) -> list[Trial]:
    return [Trial(number, Proposal(Architecture({})), Report(), score) for number, score in enumerate(scores)]


def cells(points: list[tuple[int, ...]], reference: tuple[int, ...]) -> int:
    """The volume of whole numbers, by counting."""
    grid = np.indices((6,) * len(reference)).reshape(len(reference), -1).T + np.array(reference)
    covered = [any(all(corner + 1 <= value for corner, value in zip(cell, point, strict=True)) for point in points) for cell in grid]
    return sum(covered)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_hypervolume_is_what_counting_gives(count: int) -> None:
    rng = np.random.default_rng(count)
    for size in (0, 1, 2, 5, 9):
        points = [tuple(map(int, row)) for row in rng.integers(-1, 7, (size, count))]
        reference = (1,) * count
        assert hypervolume([tuple(map(float, point)) for point in points], tuple(map(float, reference))) == cells(points, reference)


pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), max_size=7)


@settings(deadline=None)
@given(pairs, st.permutations(range(7)))
def test_the_hypervolume_knows_no_order_and_never_falls(points: list[tuple[float, float, float]], order: list[int]) -> None:
    shuffled = [points[index] for index in order if index < len(points)]
    whole = hypervolume(points, (0.0, 0.0, 0.0))
    assert hypervolume(shuffled, (0.0, 0.0, 0.0)) == pytest.approx(whole)
    assert hypervolume([point[::-1] for point in points], (0.0, 0.0, 0.0)) == pytest.approx(whole)
    assert hypervolume(points[:-1], (0.0, 0.0, 0.0)) <= whole + 1e-12


def test_the_curve_has_a_point_per_trial_and_counts_what_is_trained_and_feasible() -> None:
    scores = [Score(0.0, (2.0, 1.0)), None, Score(-1.0, (9.0, 9.0)), Score(-1.0, ()), Score(0.0, (1.0, 2.0)), Score(0.0, (1.0, 1.0))]
    trials = [*trials_of(*scores, Score(0.0, (2.0, 2.0))), Trial(7, Proposal(Architecture({})))]
    assert hypervolume_curve(trials, (0.0, 0.0)) == [2, 2, 2, 2, 3, 3, 4, 4]
    assert worst_point(trials) == (1.0, 1.0)
    assert worst_point(trials[1:4]) is None
    assert hypervolume_curve([], (0.0, 0.0)) == []


def test_the_curve_ends_at_the_hypervolume_of_the_front() -> None:
    points = [tuple(row) for row in np.random.default_rng(0).random((60, 2)).tolist()]
    curve = hypervolume_curve(trials_of(*(Score(0.0, point) for point in points)), (0.0, 0.0))
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(hypervolume(points, (0.0, 0.0)))


def test_the_knee_is_farthest_beyond_the_line_through_the_ends() -> None:
    points = [(0.9, -9.0), (0.88, -3.0), (0.7, -2.0), (0.6, -1.0)]
    assert knee(trials_of(*(Score(0.0, point) for point in points))).number == 1
    assert beyond(points, [(0.9, -9.0), (0.6, -1.0), (0.9, -1.0)]) == pytest.approx([0, 0, math.sqrt(0.5)])
    scaled = [(100 * first, second / 7) for first, second in points]
    assert beyond(scaled, scaled) == pytest.approx(beyond(points, points)), "units do not matter"


def test_in_three_dimensions_it_is_the_plane_through_the_ends() -> None:
    front = [(10.0, 0.0, 0.0), (0.0, 10.0, 2.0), (0.0, 0.0, 10.0), (6.0, 6.0, 6.0)]
    normal = np.linalg.solve([[1, 0, 0], [0, 1, 0.2], [0, 0, 1]], np.ones(3))
    assert beyond(front, front) == pytest.approx([0, 0, 0, (0.6 * normal.sum() - 1) / np.linalg.norm(normal)])
    assert knee(trials_of(*(Score(0.0, point) for point in front))).number == 3


def test_where_the_ends_give_no_plane_the_corners_do() -> None:
    front = [(1.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    assert beyond(front, front) == pytest.approx([1 / math.sqrt(3), 0])
    alone = trials_of(Score(0.0, (1.0, 2.0)))
    assert knee(alone) is alone[0]
    hollow = trials_of(*(Score(0.0, point) for point in [(0.0, 1.0), (0.1, 0.1), (1.0, 0.0)]))
    assert knee(hollow).number == 2, "no member lies beyond the line: the end with the greatest first objective"


@pytest.mark.parametrize("scores", [[], [Score(-1.0, (1.0, 2.0))], [None]])
def test_what_is_no_front_has_no_knee(scores: list[Score | None]) -> None:
    with pytest.raises(ValueError, match="there is no knee: give the members of a front"):
        knee(trials_of(*scores))
