"""Tree-structured Parzen estimator: options that are more frequent among the best trials than among the others.

Bergstra, Bardenet, Bengio and Kegl 2011, Algorithms for hyper-parameter optimization, section 4; with the choices modelled
jointly as in Falkner, Klein and Hutter 2018, BOHB, section 4. The implementation is Optuna's.
"""

from typing import final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.optuna_study import FollowedStudy, seed_from, trained, unseen
from nas.strategies.base import Strategy
from nas.trial import History, Proposal


@final
class Tpe(Strategy):
    """Optuna's TPE, for one or several objectives. The history is its only state.

    Running trials count as bad ones, so that several at once differ. Trials that break a constraint count as bad, the more
    the further they are from it. A known function is drawn again, then mutated.
    """

    startup: int = Field(10, ge=1)
    """Trained random trials before the estimator is asked."""
    draws: int = Field(24, ge=1)
    """How many are drawn from the model of the good trials, to take the most promising one of."""

    @property
    def random_first(self) -> int:
        """Those before the first model."""
        return self.startup

    @property
    def several_objectives(self) -> str:
        """Optuna's estimator knows them."""
        return "takes the trials of the first Pareto fronts for the good ones"

    _study: FollowedStudy | None = PrivateAttr(default=None)

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        """Propose at random until `startup` trials are trained, then what the estimator expects to be good."""
        started = len(trained(history)) >= self.startup
        draw = self._draw if started else lambda history, rng: self.choices.sample(rng)
        return Proposal(unseen(lambda: draw(history, rng), history, self.choices, self.canonical, rng))

    def _draw(self, history: History, rng: np.random.Generator) -> Architecture:
        from optuna.samplers import TPESampler

        self._study = self._study or FollowedStudy(self.choices)
        return self._study.ask(history, TPESampler(n_startup_trials=0, n_ei_candidates=self.draws, seed=seed_from(rng)))
