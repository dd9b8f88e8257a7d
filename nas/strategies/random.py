"""Random search: every option uniformly and independently.

Li and Talwalkar 2019, Random search and reproducibility for neural architecture search. The baseline every other strategy is compared with.
"""

from sys import maxsize
from typing import final

import numpy as np

from nas.strategies.base import Strategy
from nas.trial import History, Proposal


@final
class Random(Strategy):
    """Random search."""

    @property
    def random_first(self) -> int:
        """All of them."""
        return maxsize

    @property
    def several_objectives(self) -> str:
        """It looks at none."""
        return "looks at no objective, so it serves all alike"

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        """Propose an architecture that does not depend on the history."""
        return Proposal(self.choices.sample(rng))
