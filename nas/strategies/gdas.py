"""Gradient search with one option at a time: hard samples forward, the gradient of the soft ones backward.

Dong and Yang 2019, Searching for a robust neural architecture in four GPU hours (GDAS). A trial costs what a single path costs.
"""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.strategies.logits import Logits, Vector, parts, softmax, through_softmax
from nas.trial import Trial

_DRAWS = 100


@final
class Gdas(Logits):
    """GDAS."""

    warmup: int = Field(250, ge=0)
    """As in the other gradient methods, but longer: a trial trains one option of each choice only."""
    anneal: int = Field(500, ge=1)
    """Trials after the warm-up over which the temperature falls; about as many as the search has left."""
    hot: float = Field(1.0, gt=0)
    """Temperature at the start. The paper's 10 spreads the gradient evenly over options for most of the search, which takes many
    thousands of steps to learn from."""
    cold: float = Field(0.1, gt=0)
    """Temperature from the end of the annealing on."""

    _soft: dict[str, list[float]] = PrivateAttr(default_factory=dict)

    def offer(self, number: int, rejected: set[Architecture], rng: np.random.Generator) -> tuple[Architecture, Vector]:
        """Offer one option per choice, drawn by the softmax of the logits: the largest of the logits with Gumbel noise.

        A sample that was rejected before is drawn again, a few times.
        """
        for _ in range(_DRAWS):
            soft = softmax(self.choices, (self.logits + rng.gumbel(size=self.logits.size)) / self.temperature(number))
            picks = [int(part.argmax()) for part in parts(self.choices, soft)]
            architecture = Architecture({choice.name: choice.options[pick] for choice, pick in zip(self.choices, picks, strict=True)})
            if architecture not in rejected:
                break
        self._soft[str(number)] = soft.tolist()
        return architecture, np.concatenate([np.eye(len(choice.options))[pick] for choice, pick in zip(self.choices, picks, strict=True)])

    @property
    def expected(self) -> Vector:
        """The probabilities that options are drawn with."""
        return softmax(self.choices, self.logits)

    def temperature(self, number: int) -> float:
        """Return the temperature of a trial: `hot` during the warm-up, then linear in its number for `anneal` trials."""
        return self.hot + (self.cold - self.hot) * min(1.0, max(0, number - self.warmup) / self.anneal)

    def chain(self, trial: Trial, gradient: Vector) -> Vector:
        """The straight-through estimate: the gradient at the hard sample, through the softmax whose largest part the sample is.

        Options that did not run have no gradient of their own and still move, since the weights of a choice sum to 1.
        """
        return through_softmax(self.choices, np.array(self._soft[str(trial.number)]), gradient) / self.temperature(trial.number)

    def tell(self, trial: Trial) -> None:
        """Learn from a finished trial, and forget what it was drawn from."""
        super().tell(trial)
        self._soft.pop(str(trial.number), None)

    def extra(self) -> Mapping[str, float]:
        """The temperature of the next trial."""
        return {"temperature": self.temperature(self.told)}

    def state_dict(self) -> dict[str, Any]:
        """What all gradient methods remember, and what the running samples were drawn from."""
        state = super().state_dict()
        return state and {**state, "soft": {number: list(soft) for number, soft in self._soft.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        super().load_state_dict(state)
        self._soft = {number: list(soft) for number, soft in state.get("soft", {}).items()}
