"""Regularized evolution: a tournament picks a parent, one mutation makes a child, the oldest of the population dies.

Real, Aggarwal, Huang and Le 2019, Regularized evolution for image classifier architecture search, algorithm 1.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Self, final

import numpy as np
from pydantic import Field, model_validator

from nas.pareto import merits
from nas.strategies.base import Strategy
from nas.trial import History, Proposal


@final
class Evolution(Strategy):
    """Regularized (ageing) evolution.

    With several objectives the winner of a tournament is the one in the first Pareto front of those alive, then the least crowded.
    """

    population: int = Field(20, ge=2)
    """How many of the latest trials are alive (P in the paper); a quarter of the budget or less works well."""
    tournament: int = Field(5, ge=1)
    """How many of the population are drawn to compete to be the parent (S in the paper)."""
    crossover: float = Field(0.0, ge=0, le=1)
    """Probability that a child mixes the winners of two tournaments before it mutates; the paper only mutates."""

    @model_validator(mode="after")
    def _tournament_fits(self) -> Self:
        if self.tournament > self.population:
            raise ValueError(f"tournament is {self.tournament}: draw at most the population of {self.population}")
        return self

    @property
    def random_first(self) -> int:
        """As many as make a population; where trials fail, a few more."""
        return self.population

    @property
    def several_objectives(self) -> str:
        """Its tournaments go by them."""
        return "holds tournaments by Pareto front and crowding among those alive"

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        """Propose a random architecture until the population is full, then mutants of tournament winners.

        Failed trials die at once: they never compete. The tournament is drawn without replacement.
        """
        scored = ((trial.score, trial.number) for trial in reversed(history) if trial.score is not None)
        alive = list(islice(scored, self.population))
        if len(alive) < self.population:
            return Proposal(self.choices.sample(rng))
        ranked = list(zip(merits([score for score, _ in alive]), (number for _, number in alive), strict=True))
        origin = [self._winner(ranked, rng)]
        parent = history[origin[0]].architecture
        if self.crossover > 0 and rng.random() < self.crossover:  # no draw at 0: what is proposed is then what the paper proposes
            origin.append(self._winner(ranked, rng))
            parent = self.choices.crossover(parent, history[origin[1]].architecture, rng)
        return Proposal(self.choices.mutate(parent, rng), origin=tuple(dict.fromkeys(origin)))

    def _winner(self, ranked: Sequence[tuple[tuple[float, ...], int]], rng: np.random.Generator) -> int:
        drawn: list[int] = rng.choice(len(ranked), size=self.tournament, replace=False).tolist()
        _, number = max(ranked[index] for index in drawn)
        return number
