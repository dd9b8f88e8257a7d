"""Hyperband: brackets of successive halving that begin with trainings of different lengths, against misleading short ones.

Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar 2018, Hyperband: A novel bandit-based approach to hyperparameter optimization,
algorithm 1; each bracket halves asynchronously, as in Li et al. 2020. With `tpe` as the strategy it is close to BOHB (Falkner,
Klein and Hutter 2018).
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Annotated, Any, Self, final

import numpy as np
from annotated_types import MinLen
from pydantic import Field, PositiveInt, PrivateAttr

from nas.architecture import Architecture, Choices
from nas.components import component, restore
from nas.strategies.base import Canonical, Discretize, Features, Strategy
from nas.strategies.halving import Halving
from nas.trial import History, Proposal, Trial


@final
class Hyperband(Strategy):
    """Rotates through brackets; the first begins at the lowest rung, the last with full trainings.

    Which bracket a trial belongs to follows from its number alone. A round of the rotation gives each bracket as many trials as it
    takes to halve its n architectures of algorithm 1 down to the full training, so the brackets cost about the same when each rung has
    `eta` times the steps of the one below. One strategy proposes for all brackets and sees the trials of all of them; see
    `halving` for what it sees.
    """

    strategy: Annotated[Strategy, *component("strategies")] = Field(default_factory=partial(restore, "strategies", {"name": "random"}))
    """What proposes architectures: any strategy that needs neither steps nor gradients."""
    eta: int = Field(3, ge=2)
    """One in so many of a rung goes on to the next (the reduction factor)."""
    rungs: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (33, 100)
    """Steps at each rung, increasing, as the evaluator counts them; above the last is a full training, as long as the evaluator sets."""

    _halving: Halving = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Make the halving that all brackets share. Raises ValidationError when it refuses the settings."""
        self._halving = Halving(strategy=self.strategy, eta=self.eta, rungs=self.rungs)

    @property
    def requires(self) -> frozenset[str]:
        """Steps that change the result."""
        return self._halving.requires

    @property
    def several_objectives(self) -> str:
        """As halving does."""
        return self._halving.several_objectives

    @property
    def fidelities(self) -> tuple[int, ...]:
        """The rungs."""
        return self.rungs

    @property
    def sizes(self) -> list[int]:
        """Trials of each bracket in a round of the rotation, the bracket with the shortest trainings first.

        With s rungs above its bottom a bracket begins n = ceil((s_max + 1) / (s + 1) * eta^s) architectures and continues
        floor(n / eta^i) of them i rungs higher.
        """
        most = len(self.rungs)
        begun = {above: math.ceil((most + 1) * self.eta**above / (above + 1)) for above in range(most + 1)}
        return [sum(begun[above] // self.eta**level for level in range(above + 1)) for above in reversed(range(most + 1))]

    def bind(
        self, choices: Choices, features: Features | None = None, canonical: Canonical | None = None, discretize: Discretize | None = None
    ) -> Self:
        """Tell this strategy and the wrapped one what there is to decide."""
        self._halving.bind(choices, features, canonical, discretize)
        return super().bind(choices, features, canonical, discretize)

    def ask(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """Promote in the bracket whose turn it is, or begin at its bottom rung what the wrapped strategy proposes."""
        ends = list(accumulate(self.sizes))
        turn = self._bracket(len(history), ends)
        return self._halving.climb(history, [trial for trial in history if self._bracket(trial.number, ends) == turn], turn, rng)

    def tell(self, trial: Trial) -> None:
        """Tell the wrapped strategy of what it proposed."""
        self._halving.tell(trial)

    def candidates(self, history: History) -> Sequence[Trial]:
        """Return the trained trials that may be compared for the win: those of the highest rung that any has reached."""
        return self._halving.candidates(history)

    def best(self, history: History) -> Trial | None:
        """Return the greatest score of the highest rung, the first of equals; None when no trial has one."""
        return self._halving.best(history)

    def conclude(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Architecture]:
        """Return at most `count` different architectures of the highest rung, the best first."""
        return self._halving.conclude(history, count, rng)

    def telemetry(self) -> Mapping[str, Sequence[float]]:
        """Return the curves of the wrapped strategy, by the numbers that its trials have here."""
        return self._halving.telemetry()

    def state_dict(self) -> dict[str, Any]:
        """What the wrapped strategy learned, and the numbers of its trials."""
        return self._halving.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._halving.load_state_dict(state)

    @staticmethod
    def _bracket(number: int, ends: Sequence[int]) -> int:
        """The bracket of a trial, which is also its bottom rung."""
        return next(bracket for bracket, end in enumerate(ends) if number % ends[-1] < end)
