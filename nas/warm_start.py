"""A search that begins with what is known already: the best of earlier searches, or of zero-cost proxies.

Abdelfattah et al. 2021, Zero-cost proxies for lightweight NAS (warm-up); the guard against a prior that misleads and the share of
proposals that ignore it follow Hvarfner et al. 2022, pi-BO, and Mallik et al. 2023, PriorBand, in spirit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import PrivateAttr

from nas.architecture import Architecture, Choices
from nas.pareto import best_first
from nas.strategies.base import Canonical, Discretize, Features, Strategy
from nas.trial import History, Proposal, Trial

EXPLORATION = 0.3
"""Share of the first proposals that the wrapped strategy makes without the prior."""
JUDGED_AFTER = 10
"""Scored trials before the prior is judged."""
LEAST_CORRELATION = 0.2
"""Rank correlation of prior and scores below which the prior is dropped."""
_NEIGHBOURS = 3


@final
class WarmStart(Strategy):
    """Proposes given architectures first and wraps the strategy that goes on; a prior that does not correlate is dropped.

    The history is its only memory.
    """

    _strategy: Strategy = PrivateAttr()
    _seeds: Sequence[Architecture] = PrivateAttr()
    _prior: Callable[[Architecture], float] = PrivateAttr()

    @classmethod
    def around(cls, strategy: Strategy, seeds: Sequence[Architecture], prior: Callable[[Architecture], float]) -> Self:
        """Return a strategy that proposes `seeds` in order, as long as `prior`, greater for better, agrees with the scores."""
        warm = cls()
        warm._strategy, warm._seeds, warm._prior = strategy, seeds, prior
        warm._choices = strategy.choices
        return warm

    @property
    def requires(self) -> frozenset[str]:
        """What the wrapped strategy requires."""
        return self._strategy.requires

    @property
    def several_objectives(self) -> str:
        """As the wrapped strategy says; the prior is judged by the first objective."""
        return self._strategy.several_objectives

    @property
    def fidelities(self) -> tuple[int, ...]:
        """What the wrapped strategy proposes."""
        return self._strategy.fidelities

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Propose the next seed, or ask the wrapped strategy: for a share of the proposals, and when seeds or trust are used up."""
        proposed = {self.canonical(trial.architecture) for trial in history}
        left = [seed for seed in self._seeds if self.canonical(seed) not in proposed]
        if left and rng.random() >= EXPLORATION and not self.dropped(history):
            return Proposal(left[0])
        return self._strategy.ask(history, rng)

    def dropped(self, history: History) -> bool:
        """Whether the prior orders the scored trials no better than `LEAST_CORRELATION`."""
        scored = [(self._prior(trial.architecture), trial.score.values[0]) for trial in history if trial.score and trial.score.values]
        return len(scored) >= JUDGED_AFTER and rank_correlation(*zip(*scored, strict=True)) < LEAST_CORRELATION

    def canonical(self, architecture: Architecture) -> str:
        """As the wrapped strategy says."""
        return self._strategy.canonical(architecture)

    def bind(
        self, choices: Choices, features: Features | None = None, canonical: Canonical | None = None, discretize: Discretize | None = None
    ) -> Self:
        """Bind the wrapped strategy."""
        self._strategy.bind(choices, features, canonical, discretize)
        return super().bind(choices, features, canonical, discretize)

    def tell(self, trial: Trial) -> None:
        """Tell the wrapped strategy."""
        self._strategy.tell(trial)

    def best(self, history: History) -> Trial | None:
        """As the wrapped strategy says."""
        return self._strategy.best(history)

    def candidates(self, history: History) -> Sequence[Trial]:
        """As the wrapped strategy says."""
        return self._strategy.candidates(history)

    def conclude(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Architecture]:
        """As the wrapped strategy says."""
        return self._strategy.conclude(history, count, rng)

    def telemetry(self) -> Mapping[str, Sequence[float]]:
        """As the wrapped strategy says."""
        return self._strategy.telemetry()

    def state_dict(self) -> dict[str, Any]:
        """What the wrapped strategy learned."""
        return self._strategy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the wrapped strategy what it learned."""
        self._strategy.load_state_dict(state)


def best_of(trials: Sequence[Trial], count: int) -> list[Architecture]:
    """Return the `count` best different architectures of an earlier search, the best first."""
    ranked = best_first(trial for trial in trials if trial.status == "done")
    return list(dict.fromkeys(trial.architecture for trial in ranked))[:count]


def nearest_scores(trials: Sequence[Trial]) -> Callable[[Architecture], float]:
    """Return the prior of an earlier search: the mean score of the three scored architectures that differ in the fewest choices.

    Raises ValueError when the search scored nothing.
    """
    known = [(trial.architecture, trial.score.values[0]) for trial in trials if trial.score is not None and trial.score.values]
    if not known:
        raise ValueError("the earlier search scored no architecture: name one that did, or none")

    def prior(architecture: Architecture) -> float:
        distances = [sum(other[name] != option for name, option in architecture.items()) for other, _ in known]
        nearest = np.argsort(distances, kind="stable")[:_NEIGHBOURS]
        return float(np.mean([known[index][1] for index in nearest]))

    return prior


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation of two equally long sequences, between -1 and 1; 0 where one of them is constant."""
    ranks = np.array([_ranks(first), _ranks(second)])
    deviations = ranks - ranks.mean(axis=1, keepdims=True)
    scale = float(np.sqrt((deviations**2).sum(axis=1).prod()))
    return float((deviations[0] * deviations[1]).sum()) / scale if scale else 0.0


def _ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]
