"""What every option is worth, from all trials: an additive model of the scores, with intervals, and whether it predicts at all.

Ridge regression on one-hot options; its penalty is the one that predicts left-out trials best (PRESS; Allen 1974, The relationship
between variable selection and data augmentation and a method for prediction). Intervals by the Bayesian bootstrap (Rubin 1981).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

LEAST_TRIALS = 10
"""Fewer trials say nothing about options."""
LEAST_OF_OPTION = 3
"""An option that was tried less often gets no interval."""
_PENALTIES = 10.0 ** np.arange(-2, 3.5, 0.5)
_DRAWS = 400
Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Effect:
    """How much better trials with an option were than the mean trial, all else equal; `low` and `high` hold 95 %, None: too few trials."""

    choice: str
    option: str
    trials: int
    value: float
    low: float | None
    high: float | None

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@final
@dataclass(frozen=True, slots=True)
class Effects:
    """The effects of all options, and the share of the variance of left-out trials that the model explains; 0 or less: it says nothing."""

    effects: Sequence[Effect]
    explained: float
    trials: int

    def spread(self, choice: str) -> float:
        """How far apart the options of a choice are."""
        values = [effect.value for effect in self.effects if effect.choice == choice]
        return max(values) - min(values)


def main_effects(architectures: Sequence[Mapping[str, str]], values: Sequence[float], seed: int = 0) -> Effects | None:
    """Fit the model; None where there are too few trials, all are alike, or no choice was answered in two ways."""
    scores = np.array(values, dtype=np.float64)
    columns = _columns(architectures)
    if len(scores) < LEAST_TRIALS or np.ptp(scores) == 0 or not columns:
        return None
    codes = np.array([[row[choice] == option for choice, option in columns] for row in architectures], dtype=np.float64)
    uniform = np.full(len(scores), 1 / len(scores))
    error, penalty = min((_left_out(codes, scores, value), float(value)) for value in _PENALTIES)
    plain = (((scores - scores.mean()) * len(scores) / (len(scores) - 1)) ** 2).sum()
    choices = [choice for choice, _ in columns]
    worth = _worth(codes, scores, uniform, penalty, choices)
    rng = np.random.default_rng(seed)
    drawn = np.array([_worth(codes, scores, weights, penalty, choices) for weights in rng.dirichlet(np.ones(len(scores)), _DRAWS)])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    found = []
    for index, (choice, option) in enumerate(columns):
        count = int(codes[:, index].sum())
        ends = (float(low[index]), float(high[index])) if count >= LEAST_OF_OPTION else (None, None)
        found.append(Effect(choice, option, count, float(worth[index]), *ends))
    return Effects(found, float(1 - error / plain), len(scores))


def _columns(architectures: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """The options that occur, of the choices that were answered in two ways at least."""
    seen: dict[str, dict[str, None]] = {}
    for architecture in architectures:
        for choice, option in architecture.items():
            seen.setdefault(choice, {})[option] = None
    return [(choice, option) for choice, options in seen.items() if len(options) > 1 for option in sorted(options, key=_order)]


def _order(option: str) -> tuple[float, str]:
    """Numbers by size, words by the alphabet."""
    try:
        return float(option), ""
    except ValueError:
        return float("inf"), option


def _left_out(codes: Floats, scores: Floats, penalty: float) -> float:
    """The sum of squared errors of every trial, predicted from the others."""
    centred, count = codes - codes.mean(0), len(scores)
    gram = centred @ centred.T
    hat = gram @ np.linalg.inv(gram + penalty * np.eye(count)) + 1 / count
    residual = scores - hat @ scores
    return float(((residual / (1 - np.diag(hat))) ** 2).sum())


def _worth(codes: Floats, scores: Floats, weights: Floats, penalty: float, choices: Sequence[str]) -> Floats:
    """The effect of every option, shape (options,), relative to the weighted mean of its choice."""
    share = weights @ codes
    centred = codes - share
    weighted = centred.T * (weights * len(scores))
    targets = weighted @ (scores - weights @ scores)
    solution = np.linalg.solve(weighted @ centred + penalty * np.eye(len(share)), targets).astype(np.float64, copy=False)
    names = np.array(choices)
    for choice in dict.fromkeys(choices):
        mine = names == choice
        solution[mine] -= (share[mine] @ solution[mine]) / share[mine].sum()
    return solution
