"""Differentiable architecture search: every option runs, weighted by the softmax of logits that follow the gradient.

Liu, Simonyan and Yang 2019, DARTS: Differentiable architecture search. First or second order is a setting of the evaluator. Left alone
the method drifts towards options without weights, skip connections above all, because they are useful before anything has learned. Two
guards are known to help: Ye, Li, Li, Wang, Chen and Ouyang 2022, beta-DARTS: Beta-decay regularization for differentiable architecture
search; and Zela et al. 2020, Understanding and robustifying differentiable architecture search, section 5.2 (DARTS-ES).
"""

from collections.abc import Mapping
from typing import Any, Literal, final

import numpy as np
from pydantic import Field, PrivateAttr

from nas.architecture import Architecture
from nas.strategies.logits import Logits, Vector, from_mixture, softmax, through_softmax
from nas.trial import Trial

_WINDOW, _BACK = 5, 4


@final
class Darts(Logits):
    """DARTS, guarded against its collapse."""

    guard: Literal["decay", "curvature", "none"] = "decay"
    """What keeps the search from collapsing to skips. `decay` pulls the logits down by the softmax that they make, more and more, so that
    an early lead cannot feed itself (beta-DARTS). `curvature` ends the search when the loss grows sharp in the logits, and goes back to
    those from before (DARTS-ES); it needs `curvature_every` of the evaluator, say 20, and many trials. `none` lets it happen."""
    decay: float = Field(1.0, ge=0)
    """Weight of log(sum(exp(logits))) at the end of its rise, for `decay`; the paper has 50, with which hundreds of trials hardly part
    the logits."""
    decay_trials: int = Field(500, ge=1)
    """Trials over which that weight rises from 0; about as many as the search has."""
    patience: float = Field(1.3, gt=1)
    """Ratio of two mean curvatures, over five measurements each and four apart, that ends the search, for `curvature`."""

    _measured: list[float] = PrivateAttr(default_factory=list)
    _earlier: list[list[float]] = PrivateAttr(default_factory=list)
    _stopped: bool = PrivateAttr(False)

    def offer(self, number: int, rejected: set[Architecture], rng: np.random.Generator) -> tuple[Architecture, Vector] | None:
        """Offer the softmax of the logits, and the architecture that they decide for; nothing after the guard stopped the search."""
        architecture = None if self._stopped else self.likeliest(rejected)
        return None if architecture is None else (architecture, self.expected)

    @property
    def requires(self) -> frozenset[str]:
        """The gradient, and the curvature where it guards."""
        return super().requires | ({"curvature"} if self.guard == "curvature" else set())

    @property
    def expected(self) -> Vector:
        """The softmax of the logits."""
        return softmax(self.choices, self.logits)

    def chain(self, trial: Trial, gradient: Vector) -> Vector:
        """Through the softmax, at the mixture that was proposed, with the gradient of the decay."""
        assert trial.proposal.mixture is not None
        weights = from_mixture(self.choices, trial.proposal.mixture)
        slope = through_softmax(self.choices, weights, gradient)
        return slope + self._decay() * weights if self.guard == "decay" else slope

    def learn(self, trial: Trial, gradient: Vector) -> None:
        """Take one step, but not after the guard stopped the search; then ask the guard."""
        if self._stopped:
            return
        super().learn(trial, gradient)
        measured = trial.report.metrics.get("curvature") if trial.report is not None else None
        if measured is not None and self.guard == "curvature":
            self._watch(measured)

    def extra(self) -> Mapping[str, float]:
        """The last curvature, and 1 where the guard stopped the search."""
        return {"curvature": self._measured[-1] if self._measured else 0.0, "stopped": float(self._stopped)}

    def state_dict(self) -> dict[str, Any]:
        """What all gradient methods remember, and what the guard saw."""
        state = super().state_dict()
        guard = {"measured": list(self._measured), "earlier": [list(logits) for logits in self._earlier], "stopped": self._stopped}
        return state and {**state, **guard}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        super().load_state_dict(state)
        if state:
            self._measured, self._stopped = list(state["measured"]), bool(state["stopped"])
            self._earlier = [list(logits) for logits in state["earlier"]]

    def _decay(self) -> float:
        return self.decay * min(1.0, self.told / self.decay_trials)

    def _watch(self, measured: float) -> None:
        """Stop when the mean curvature of a window has risen too much since an earlier one, and go back to the logits from then."""
        self._measured = [*self._measured, measured][-_WINDOW - _BACK :]
        self._earlier = [*self._earlier, self.logits.tolist()][-(_WINDOW // 2) - _BACK - 1 :]
        if len(self._measured) == _WINDOW + _BACK:
            before, now = np.mean(self._measured[:_WINDOW]), np.mean(self._measured[-_WINDOW:])
            if now > self.patience * before:
                self._stopped = True
                self.reset(np.array(self._earlier[0]))
