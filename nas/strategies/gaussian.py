"""Gaussian processes on architectures: what results say of architectures that have none yet, and how sure that is.

Rasmussen and Williams 2006, Gaussian processes for machine learning, algorithm 2.1 and section 5.4.1 (evidence). Jones, Schonlau and
Welch 1998, Efficient global optimization of expensive black-box functions (expected improvement).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, pi, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int16]
"""Architectures as option numbers, shape (architectures, choices)."""


@dataclass(frozen=True)
class Apart:
    """Between two lists of architectures: the share of choices that differ, as a number of `choices`, and the distance of the features."""

    differing: NDArray[np.intp]
    choices: int
    distance: Floats


@dataclass(frozen=True)
class Points:
    """Architectures as option numbers, shape (n, choices), and their features' positions among the known ones, shape (n, features)."""

    codes: Codes
    places: Floats

    def to(self, other: "Points") -> Apart:
        """How far these are from others, shapes (n, m): random pairs have a squared feature distance of about 1."""
        differing = np.zeros((len(self.codes), len(other.codes)), dtype=np.int16)
        for one, two in zip(self.codes.T, other.codes.T, strict=True):
            differing += one[:, None] != two
        scale = 6 / max(1, self.places.shape[1])
        squares = (self.places**2).sum(1)[:, None] + (other.places**2).sum(1) - 2 * self.places @ other.places.T
        return Apart(differing.astype(np.intp), self.codes.shape[1], np.maximum(squares * scale, 0))


@dataclass(frozen=True, order=True)
class Kernel:
    """A covariance: an exponential of the choices that differ and one of the features' distance, which has the given share."""

    reach: float
    width: float
    share: float
    noise: float

    def of(self, apart: Apart) -> Floats:
        """The covariances, shape (n, m)."""
        options: Floats = np.exp(-np.arange(apart.choices + 1) / (self.reach * apart.choices))[apart.differing]
        return options if self.share == 0 else (1 - self.share) * options + self.share * np.exp(-apart.distance / self.width)


def kernels(features: bool) -> list[Kernel]:
    """The members to choose from; without features only the options count."""
    shares = [(0.0, 1.0), *([(share, width) for share in (0.5, 0.9) for width in (0.5, 2.0)] if features else [])]
    return [Kernel(reach, width, share, noise) for reach in (0.25, 0.75, 2.0) for share, width in shares for noise in (0.05, 0.3)]


def evidence(kernel: Kernel, apart: Apart, targets: Floats) -> float:
    """Return the logarithm of the likelihood of the targets, up to a constant."""
    lower = np.linalg.cholesky(kernel.of(apart) + kernel.noise * np.eye(len(targets))).astype(np.float64, copy=False)
    residual = _forward(lower, (targets - targets.mean())[:, None])
    return float(-0.5 * (residual**2).sum() - np.log(np.diag(lower)).sum())


def posterior(inner: Floats, across: Floats, targets: Floats, noise: float) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the candidates, each of shape (candidates,).

    `inner` (n, n) and `across` (n, candidates) are covariances. Targets may be fewer than n: the other points are still running and
    count as if they would turn out as expected, which leaves the means as they are and lowers the deviations.
    """
    lower = np.linalg.cholesky(inner + noise * np.eye(len(inner))).astype(np.float64, copy=False)
    white, told = _forward(lower, across), len(targets)
    residual = _forward(lower[:told, :told], (targets - targets.mean())[:, None])
    mean = targets.mean() + (residual * white[:told]).sum(0)
    return mean, np.sqrt(np.maximum(1 - (white**2).sum(0), 1e-9))


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """Return the mean of what a normal variable exceeds `best` by, shape of the arguments (Jones et al. 1998, equation 15)."""
    gain = (mean - best) / deviation
    below = np.array([0.5 + 0.5 * erf(value / sqrt(2)) for value in gain])
    improvement: Floats = deviation * (gain * below + np.exp(-0.5 * gain**2) / sqrt(2 * pi))
    return improvement


def normal_scores(values: Sequence[float]) -> Floats:
    """Return the normal quantiles of the values' ranks, shape (values,); equal values get their middle rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(values)
    return np.array([NormalDist().inv_cdf(share) for share in middle])[group]


def positions(reference: Floats, features: Floats) -> Floats:
    """Where features rank among those of the reference, from -0.5 to 0.5; features that are all equal there are left out."""
    telling = [column for column in range(reference.shape[1]) if len(np.unique(reference[:, column])) > 1]
    ranks = np.empty((len(features), len(telling)))
    for place, column in enumerate(telling):
        ordered = np.sort(reference[:, column])
        ranks[:, place] = np.searchsorted(ordered, features[:, column], "left") + np.searchsorted(ordered, features[:, column], "right")
    return ranks / (2 * len(reference)) - 0.5


def _forward(lower: Floats, right: Floats) -> Floats:
    """Solve lower @ x = right by blocks, so that most of the work is matrix products; NumPy has no triangular solver."""
    solved = np.empty_like(right)
    for start in range(0, len(lower), 64):
        block = slice(start, start + 64)
        solved[block] = np.linalg.solve(lower[block, block], right[block] - lower[block, :start] @ solved[:start])
    return solved
