"""Bayesian optimization with a Gaussian process: the architecture of the greatest expected improvement.

Snoek, Larochelle and Adams 2012, Practical Bayesian optimization of machine learning algorithms; the acquisition is the
logarithm of Ament, Daulton, Eriksson, Balandat and Bakshy 2023, Unexpected improvements to expected improvement. The
implementation is Optuna's: a Matern 5/2 kernel with a length scale for each choice, on whether two options are equal.
"""

from dataclasses import replace
from typing import final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.optuna_study import FollowedStudy, seed_from, trained, unseen
from nas.pareto import scalarised, weights_at
from nas.strategies.base import Strategy
from nas.trial import History, Proposal, Score


@final
class Gp(Strategy):
    """Optuna's Gaussian process sampler, for a single number. The history is its only state.

    Several objectives are scalarised with other weights for every proposal (Knowles 2006, ParEGO). A second process models how likely
    a constraint holds, once one was broken. Running trials are taken into account. A known function is drawn again, then mutated.
    A proposal takes a large part of a second, so this is for trainings of minutes.
    """

    startup: int = Field(10, ge=2)
    """Trained random trials before the process is asked."""

    @property
    def random_first(self) -> int:
        """Those before the first model."""
        return self.startup

    @property
    def several_objectives(self) -> str:
        """It weighs them."""
        return "scalarises them (Tchebycheff), with other weights for every proposal (ParEGO)"

    _study: FollowedStudy | None = PrivateAttr(default=None)

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        """Propose at random until `startup` trials are trained, then where improvement is expected."""
        if len(trained(history)) < self.startup:
            return Proposal(unseen(lambda: self.choices.sample(rng), history, self.choices, self.canonical, rng))
        single = _scalarised(history)
        return Proposal(unseen(lambda: self._draw(single, rng), history, self.choices, self.canonical, rng, redraws=1))

    def _draw(self, history: History, rng: np.random.Generator) -> Architecture:
        from optuna.samplers import GPSampler

        self._study = self._study or FollowedStudy(self.choices)
        return self._study.ask(history, GPSampler(n_startup_trials=0, seed=seed_from(rng)))


def _scalarised(history: History) -> History:
    """The history with one value per trial: the only one, or the scalar that the weights of the next trial give."""
    told = [trial.score.values for trial in history if trial.score is not None and trial.score.values]
    if not told or len(told[0]) == 1:
        return history
    scalars = iter(scalarised(np.array(told), weights_at(len(history), len(told[0]))).tolist())
    return [
        replace(trial, score=Score(trial.score.feasibility, (next(scalars),))) if trial.score is not None and trial.score.values else trial
        for trial in history
    ]
