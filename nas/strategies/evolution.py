"""Regularized evolution: a tournament picks a parent, one mutation makes a child, the oldest of the population dies.

Real, Aggarwal, Huang and Le 2019, Regularized evolution for image classifier architecture search, algorithm 1.
"""

from itertools import islice
from typing import Self, final

import numpy as np
from pydantic import Field, model_validator

from nas.strategies.base import Strategy
from nas.trial import History, Proposal


@final
class Evolution(Strategy):
    """Regularized (ageing) evolution."""

    population: int = Field(20, ge=2)
    """How many of the latest trials are alive (P in the paper); a quarter of the budget or less works well."""
    tournament: int = Field(5, ge=1)
    """How many of the population are drawn to compete to be the parent (S in the paper)."""

    @model_validator(mode="after")
    def _tournament_fits(self) -> Self:
        if self.tournament > self.population:
            raise ValueError(f"tournament is {self.tournament}: draw at most the population of {self.population}")
        return self

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        """Propose a random architecture until the population is full, then mutants of tournament winners.

        Failed trials die at once: they never compete. The tournament is drawn without replacement.
        """
        scored = ((trial.score, trial.number) for trial in reversed(history) if trial.score is not None)
        alive = list(islice(scored, self.population))
        if len(alive) < self.population:
            return Proposal(self.choices.sample(rng))
        drawn = rng.choice(len(alive), size=self.tournament, replace=False)
        _, parent = max(alive[index] for index in drawn)
        return Proposal(self.choices.mutate(history[parent].architecture, rng))
