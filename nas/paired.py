"""Two models on the same examples: is the second better by more than the luck of which examples were drawn?

Exact test of the pairs in which one alone is right: McNemar 1947, Note on the sampling error of the difference between correlated
proportions or percentages, Psychometrika 12. Resampled pairs for other metrics: Efron and Tibshirani 1993, An introduction to the
bootstrap, chapter 16.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
"""How often equal models would be called different."""
RESAMPLES = 1000

Score = Callable[[NDArray[np.intp]], float]
"""The score on the examples of these indices, which may repeat; greater is better."""


@final
@dataclass(frozen=True, slots=True)
class Paired:
    """`difference` of the second to the first on `examples` examples, and how probable one as large is between equal models."""

    difference: float
    probability: float
    examples: int

    @property
    def better(self) -> bool:
        """Whether the second is better by more than noise."""
        return self.difference > 0 and self.probability < LEVEL


def by_hits(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """Compare shares of right answers; per example, whether each model was right, N >= 1 each. Exact and two-sided."""
    won, lost = int((second & ~first).sum()), int((first & ~second).sum())
    tail = sum(math.comb(won + lost, count) for count in range(min(won, lost) + 1)) / 2 ** (won + lost)
    return Paired((won - lost) / len(first), min(1.0, 2 * tail), len(first))


def by_resampling(first: Score, second: Score, examples: int, rng: np.random.Generator) -> Paired:
    """Compare any scores on `examples` examples, by resampled sets of which both see the same; two-sided."""
    everything = np.arange(examples)
    differences = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        drawn = rng.integers(0, examples, examples)
        differences[number] = second(drawn) - first(drawn)
    # One is added to both sides, so that no probability is zero that a thousand draws cannot tell from a small one.
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum())) + 1
    return Paired(second(everything) - first(everything), min(1.0, 2 * beyond / (RESAMPLES + 1)), examples)
