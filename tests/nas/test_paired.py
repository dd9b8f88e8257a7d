"""Two models on the same examples: the exact test against tables, and resampling against the exact test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas.paired import by_hits, by_resampling


def hits(won: int, lost: int, same: int = 50) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The second model alone is right `won` times, the first alone `lost` times, both `same` times."""
    first = np.array([False] * won + [True] * lost + [True] * same)
    second = np.array([True] * won + [False] * lost + [True] * same)
    return first, second


@pytest.mark.parametrize(
    ("won", "lost", "probability"),
    [(5, 0, 0.0625), (6, 0, 0.03125), (0, 6, 0.03125), (8, 2, 0.109375), (10, 1, 12 / 1024), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_the_exact_test_is_the_binomial_of_the_pairs_that_differ(won: int, lost: int, probability: float) -> None:
    found = by_hits(*hits(won, lost))
    assert found.probability == pytest.approx(probability)
    assert found.difference == pytest.approx((won - lost) / (won + lost + 50))
    assert found.better == (won > lost and probability < 0.05)


@given(st.integers(0, 40), st.integers(0, 40))
def test_who_comes_first_changes_the_sign_alone(won: int, lost: int) -> None:
    first, second = hits(won, lost)
    one, other = by_hits(first, second), by_hits(second, first)
    assert one.difference == -other.difference
    assert one.probability == other.probability <= 1.0
    assert not (one.better and other.better)


@pytest.mark.parametrize(("won", "lost", "better"), [(14, 2, True), (2, 14, False), (8, 7, False), (0, 0, False)])
def test_resampling_decides_as_the_exact_test_does(won: int, lost: int, better: bool) -> None:
    first, second = hits(won, lost)
    scores = [lambda drawn, right=right: float(right[drawn].mean()) for right in (first, second)]
    found = by_resampling(*scores, len(first), np.random.default_rng(0))
    exact = by_hits(first, second)
    assert found.difference == pytest.approx(exact.difference)
    assert (found.better, exact.better) == (better, better)
    assert found == by_resampling(*scores, len(first), np.random.default_rng(0))  # the same draws, the same answer
