"""CMA-ES: a normal distribution over a number per option, moved and reshaped towards the best of each generation.

Hansen and Ostermeier 2001, Completely derandomized self-adaptation in evolution strategies. The implementation is the library
cmaes (Nomura and Shibata 2024), on which Optuna's sampler is built.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.optuna_study import seed_from, unseen
from nas.pareto import merits
from nas.strategies.base import Strategy
from nas.trial import History, Proposal, Score

if TYPE_CHECKING:
    import cmaes

STEP = 0.3
"""The first standard deviation, of numbers that are 0 or 1 in what is told."""


@final
class Cma(Strategy):
    """Covariance matrix adaptation for choices without an order. The history is its only state.

    CMA-ES is made for real numbers. Here every option has one, and the greatest of a choice wins, so no order among the options is
    invented. What is told of a trial is its one-hot code, not the point that was drawn: this loses what the normal
    distribution knew within a choice, and lets the history alone be the memory. Trials make generations in the order of
    their numbers and are compared by score, constraints first; failed ones are the worst. Several objectives are compared by Pareto
    front and crowding within the generation. A known function is drawn again, then mutated.
    """

    population: int | None = Field(None, ge=4)
    """Trials per generation; empty for 4 + 3 ln(number of options), rounded down."""

    _optimizer: "cmaes.CMA | None" = PrivateAttr(default=None)
    _told: list[tuple[Architecture, Score | None]] = PrivateAttr(default_factory=list)

    @property
    def several_objectives(self) -> str:
        """Its generations go by them."""
        return "ranks every generation by Pareto front and crowding"

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        """Propose a draw from the distribution that all complete generations of the history lead to."""
        if not any(len(choice.options) > 1 for choice in self.choices):
            return Proposal(self.choices.sample(rng))
        optimizer = self._follow(history)
        optimizer.reseed_rng(seed_from(rng))
        return Proposal(unseen(lambda: self._decode(optimizer.ask()), history, self.choices, self.canonical, rng))

    def _follow(self, history: History) -> "cmaes.CMA":
        """The optimizer after the complete generations; only the new ones are told, unless the history is another one."""
        ended = [(trial.architecture, trial.score) for trial in history if trial.report is not None]
        if self._optimizer is None or ended[: len(self._told)] != self._told:
            self._optimizer, self._told = self._begin(), []
        size = self._optimizer.population_size
        for start in range(len(self._told), len(ended) - size + 1, size):
            generation = ended[start : start + size]
            # Only the order counts. A stable sort of what was told makes equal scores keep the order of their numbers.
            keys = _keys([score for _, score in generation])
            order = sorted(range(size), key=keys.__getitem__, reverse=True)
            ranked = [(self.choices.encode(generation[index][0]).astype(np.float64), float(rank)) for rank, index in enumerate(order)]
            self._optimizer.tell(ranked)
            self._told = ended[: start + size]
        return self._optimizer

    def _begin(self) -> "cmaes.CMA":
        import cmaes

        mean = np.concatenate([np.full(len(choice.options), 1 / len(choice.options)) for choice in self.choices])
        return cmaes.CMA(mean=mean, sigma=STEP, population_size=self.population)

    def _decode(self, numbers: NDArray[np.float64]) -> Architecture:
        """The option with the greatest number for every choice."""
        made, start = {}, 0
        for choice in self.choices:
            stop = start + len(choice.options)
            made[choice.name] = choice.options[int(numbers[start:stop].argmax())]
            start = stop
        return Architecture(made)


def _keys(scores: Sequence[Score | None]) -> list[tuple[float, ...]]:
    """What trials are compared by: their merits; a failed trial is below all."""
    known = iter(merits([score for score in scores if score is not None]))
    return [(-np.inf,) if score is None else next(known) for score in scores]
