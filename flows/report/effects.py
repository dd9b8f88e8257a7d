"""What every option is worth, from all trials: an additive model of the scores, with intervals, and whether it predicts at all.

Bayesian linear regression on one-hot options: effects are normal around zero with one variance for all, which is learned and integrated
over, so that where nothing is known nothing is claimed (Gelman et al. 2013, Bayesian data analysis, sections 14.8 and 15.1). Left-out
trials: PRESS (Allen 1974, The relationship between variable selection and data augmentation and a method for prediction).
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
_RATIOS = 10.0 ** np.arange(-2, 4.25, 0.25)
"""Of the variance of the noise to that of the effects; each is as likely as the others before anything is seen."""
_DRAWS = 4000
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
    columns = _columns(architectures)
    if len(values) < LEAST_TRIALS or min(values) == max(values) or not columns:
        return None
    scores = tamed(np.array(values, dtype=np.float64))
    codes = np.array([[row[choice] == option for choice, option in columns] for row in architectures], dtype=np.float64)
    model = _Model.of(codes, scores)
    contrast = _contrast(codes.mean(0), [choice for choice, _ in columns])
    drawn = model.draws(np.random.default_rng(seed)) @ contrast.T
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    worth = contrast @ model.mean()
    found = []
    for index, (choice, option) in enumerate(columns):
        count = int(codes[:, index].sum())
        ends = (float(low[index]), float(high[index])) if count >= LEAST_OF_OPTION else (None, None)
        found.append(Effect(choice, option, count, float(worth[index]), *ends))
    return Effects(found, model.explained(), len(scores))


def tamed(scores: Floats) -> Floats:
    """The scores, greater for better, with those that collapsed raised to the edge of the others: a single one would decide everything.

    The edge is 3.5 deviations below the median, by the median absolute deviation (Iglewicz and Hoaglin 1993, How to detect outliers).
    """
    middle = np.median(scores)
    deviation = 1.4826 * np.median(np.abs(scores - middle))
    return np.maximum(scores, middle - 3.5 * deviation) if deviation > 0 else scores


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


@final
@dataclass(frozen=True, slots=True)
class _Model:
    """scores = mean + centred codes @ effects + noise, by the singular values of the centred codes, shape (trials, options)."""

    left: Floats
    singular: Floats
    right: Floats
    scores: Floats
    weights: Floats
    """The probability of each of `_RATIOS`."""
    noise: Floats
    """The variance of the noise for each of them."""

    @classmethod
    def of(cls, codes: Floats, scores: Floats) -> "_Model":
        left, singular, right = np.linalg.svd(codes - codes.mean(0), full_matrices=False)
        kept = singular > 1e-9 * singular[0]
        left, singular, right = left[:, kept], singular[kept], right[kept]
        centred, freedom = scores - scores.mean(), len(scores) - 1
        along = left.T @ centred
        spread = 1 + singular**2 / _RATIOS[:, None]
        noise = ((along**2 / spread).sum(1) + max(0.0, float(centred @ centred - along @ along))) / freedom
        evidence = -0.5 * np.log(spread).sum(1) - 0.5 * freedom * np.log(noise)
        weights = np.exp(evidence - evidence.max())
        return cls(left, singular, right, scores, weights / weights.sum(), noise)

    def mean(self) -> Floats:
        """The expected effects, shape (options,)."""
        along = self.left.T @ (self.scores - self.scores.mean())
        shrunk = (self.weights[:, None] * (self.singular / (self.singular**2 + _RATIOS[:, None]))).sum(0)
        effects: Floats = self.right.T @ (shrunk * along)
        return effects

    def draws(self, rng: np.random.Generator) -> Floats:
        """Effects as they may be, shape (draws, options)."""
        freedom, options = len(self.scores) - 1, self.right.shape[1]
        picked = rng.choice(len(_RATIOS), size=_DRAWS, p=self.weights)
        ratio = _RATIOS[picked][:, None]
        deviation = np.sqrt(self.noise[picked] * freedom / rng.chisquare(freedom, _DRAWS))[:, None]
        along = self.left.T @ (self.scores - self.scores.mean())
        seen = self.singular / (self.singular**2 + ratio) * along
        seen = seen + deviation * rng.standard_normal((_DRAWS, len(self.singular))) / np.sqrt(self.singular**2 + ratio)
        # What the trials do not tell apart stays as wide as the effects are in general.
        free = rng.standard_normal((_DRAWS, options)) * deviation / np.sqrt(ratio)
        drawn: Floats = seen @ self.right + free - free @ self.right.T @ self.right
        return drawn

    def explained(self) -> float:
        """The share of the variance of trials that a model of the others predicts, with the likeliest ratio."""
        ratio, count = float(_RATIOS[int(self.weights.argmax())]), len(self.scores)
        shares = self.singular**2 / (self.singular**2 + ratio)
        centred = self.scores - self.scores.mean()
        residual = centred - self.left @ (shares * (self.left.T @ centred))
        leverage = 1 / count + (self.left**2) @ shares
        error, plain = ((residual / (1 - leverage)) ** 2).sum(), ((centred * count / (count - 1)) ** 2).sum()
        return float(1 - error / plain)


def _contrast(shares: Floats, choices: Sequence[str]) -> Floats:
    """What takes effects to effects relative to the mean trial, shape (options, options)."""
    names = np.array(choices)
    same = (names[:, None] == names[None, :]).astype(np.float64)
    contrast: Floats = np.eye(len(names)) - same * (shares / (same @ shares))[None, :]
    return contrast
