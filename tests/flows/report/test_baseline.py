"""What random search would have found, against counting every case."""

from itertools import combinations, product
from statistics import mean

import pytest

from flows.report.baseline import best_range, chance, expected_best, within

VALUES = [0.3, 0.9, 0.1, 0.5, 0.5]


@pytest.mark.parametrize("count", range(1, 6))
def test_the_expected_best_is_the_mean_over_all_ways_to_draw(count: int) -> None:
    assert expected_best(VALUES, count) == pytest.approx(mean(max(drawn) for drawn in combinations(VALUES, count)))


@pytest.mark.parametrize("count", [0, 6])
def test_no_more_can_be_drawn_than_there_is(count: int) -> None:
    with pytest.raises(ValueError, match=f"the best of {count} of 5 values is not known: take at least one and at most all of them"):
        expected_best(VALUES, count)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_the_range_holds_what_it_says(count: int, coverage: float) -> None:
    best = sorted(max(drawn) for drawn in product(VALUES, repeat=count))
    low, high = best_range(VALUES, count, coverage)
    tail = (1 - coverage) / 2
    assert low == next(value for value in best if sum(other <= value for other in best) / len(best) >= tail)
    assert high == next(value for value in best if sum(other <= value for other in best) / len(best) >= 1 - tail)


@pytest.mark.parametrize(
    ("reached", "drawn", "low", "high"),
    [(0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0)],
)
def test_bounds_of_a_probability_are_those_of_the_tables(reached: int, drawn: int, low: float, high: float) -> None:
    assert chance(reached, drawn) == pytest.approx((low, high), abs=5e-5)


def test_more_draws_reach_more() -> None:
    assert within((0.0, 0.5), 3) == pytest.approx((0.0, 0.875))


def test_a_long_random_search_is_counted_in_a_moment_and_as_exactly() -> None:
    values = [((number * 7919) % 3001) / 3001 for number in range(3000)]
    assert expected_best(values, 1) == pytest.approx(mean(values))
    assert expected_best(values, 3000) == max(values)
    rising = [expected_best(values, count) for count in range(1, 3001, 50)]
    assert rising == sorted(rising)
