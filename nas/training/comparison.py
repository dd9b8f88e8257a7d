"""Do two scores differ by more than noise?"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """Scores of one thing on `examples` examples, one score per seed."""

    scores: Sequence[float]
    examples: int

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return statistics.mean(self.scores)


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """`difference` of the second to the first, and the noise that it would have to pass to mean something."""

    difference: float
    noise: float

    @property
    def within_noise(self) -> bool:
        """Whether nothing can be said."""
        return abs(self.difference) <= self.noise

    @property
    def verdict(self) -> str:
        """`within noise`, `higher` or `lower`."""
        return "within noise" if self.within_noise else ("higher" if self.difference > 0 else "lower")


def compare(first: Measured, second: Measured, *, share: bool) -> Comparison:
    """Compare two measurements; noise is two standard errors of their difference.

    The spread over seeds counts on both sides. When the score is a `share` of examples, so does the luck of which examples
    were measured: binomial, with two successes and two failures added, so that a share of 0 or 1 is not taken for certain
    (Agresti and Coull 1998, Approximate is better than exact for interval estimation of binomial proportions).
    """
    noise = 2 * math.sqrt(_variance(first, share) + _variance(second, share))
    return Comparison(second.mean - first.mean, noise)


def standard_error(side: Measured, *, share: bool) -> float:
    """Return the standard error of one measurement, as `compare` has it."""
    return math.sqrt(_variance(side, share))


def _variance(side: Measured, share: bool) -> float:
    variance = statistics.variance(side.scores) / len(side.scores) if len(side.scores) > 1 else 0.0
    if share:
        count = side.examples + 4
        middle = (side.mean * side.examples + 2) / count
        variance += middle * (1 - middle) / count
    return variance
