"""What random search would have found, from the trials that were drawn at random.

Expected best of n: Tang, Lee, Xin, Liu, Yu and Lin 2020, Showing your work doesn't always work, equation 5, the estimator without bias;
after Dodge, Gururangan, Card, Schwartz and Smith 2019, Show your work, section 3.1.
"""

from collections.abc import Callable, Sequence
from math import comb

import numpy as np


def expected_best(values: Sequence[float], count: int) -> float:
    """The mean of the greatest of `count` of the values, over all ways to take so many of them; 1 <= count <= len(values)."""
    ordered, total = sorted(values), len(values)
    if not 1 <= count <= total:
        raise ValueError(f"the best of {count} of {total} values is not known: take at least one and at most all of them")
    # How probable each is to be the greatest, the largest first: C(place, count - 1) / C(total, count), one from the one before.
    places = np.arange(total - 1, count - 1, -1)
    chances = count / total * np.cumprod([1.0, *((places - count + 1) / places)])
    return float(chances @ np.array(ordered[count - 1 :][::-1]))


def best_range(values: Sequence[float], count: int, coverage: float = 0.9) -> tuple[float, float]:
    """The central range that holds the greatest of `count` draws from the values, each put back, with probability `coverage`.

    Exact for the distribution that the values are: the greatest of n draws is at most the i-th smallest of m with probability (i/m)^n.
    """
    ordered, total = sorted(values), len(values)
    low, high = (
        next(value for place, value in enumerate(ordered, 1) if (place / total) ** count >= share - 1e-12)
        for share in ((1 - coverage) / 2, (1 + coverage) / 2)
    )
    return low, high


def chance(reached: int, drawn: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a probability that came true `reached` times of `drawn` (Clopper and Pearson 1934, exact)."""
    tail = (1 - confidence) / 2
    low = 0.0 if reached == 0 else _root(lambda share: 1 - _at_most(reached - 1, drawn, share) - tail)
    high = 1.0 if reached == drawn else _root(lambda share: tail - _at_most(reached, drawn, share))
    return low, high


def within(chance_of_one: tuple[float, float], count: int) -> tuple[float, float]:
    """Bounds of the probability that at least one of `count` draws comes true."""
    low, high = (1 - (1 - share) ** count for share in chance_of_one)
    return low, high


def _at_most(successes: int, drawn: int, share: float) -> float:
    return sum(comb(drawn, number) * share**number * (1 - share) ** (drawn - number) for number in range(successes + 1))


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
