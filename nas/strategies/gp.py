"""Bayesian optimization with a Gaussian process: the architecture of the greatest expected improvement.

Snoek, Larochelle and Adams 2012, Practical Bayesian optimization of machine learning algorithms; the acquisition is the
logarithm of Ament, Daulton, Eriksson, Balandat and Bakshy 2023, Unexpected improvements to expected improvement. The
implementation is Optuna's: a Matern 5/2 kernel with a length scale for each choice, on whether two options are equal.
"""

from typing import final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.optuna_study import FollowedStudy, seed_from, trained, unseen
from nas.strategies.base import Strategy
from nas.trial import History, Proposal, Score, Trial


@final
class Gp(Strategy):
    """Optuna's Gaussian process sampler, for the first objective. The history is its only state.

    Of several objectives only the first is modelled. A second process models how likely a constraint holds, once one was
    broken. Running trials are taken into account. A known function is drawn again, then mutated. A proposal takes a large
    part of a second, so this is for trainings of minutes.
    """

    startup: int = Field(10, ge=2)
    """Trained random trials before the process is asked."""

    _study: FollowedStudy | None = PrivateAttr(default=None)

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        """Propose at random until `startup` trials are trained, then where improvement is expected."""
        if len(trained(history)) < self.startup:
            return Proposal(unseen(lambda: self.choices.sample(rng), history, self.choices, self.canonical, rng))
        first = [_first_objective(trial) for trial in history]
        return Proposal(unseen(lambda: self._draw(first, rng), history, self.choices, self.canonical, rng, redraws=1))

    def _draw(self, history: History, rng: np.random.Generator) -> Architecture:
        from optuna.samplers import GPSampler

        self._study = self._study or FollowedStudy(self.choices)
        return self._study.ask(history, GPSampler(n_startup_trials=0, seed=seed_from(rng)))


def _first_objective(trial: Trial) -> Trial:
    score = trial.score and Score(trial.score.feasibility, trial.score.values[:1])
    return Trial(trial.number, trial.proposal, trial.report, score)
