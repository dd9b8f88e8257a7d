"""Several objectives at once: what nothing dominates, how crowded it is there, how much it dominates, and where its knee is.

Scores are compared by `Score.dominates`: constraints first, then the values, greater is better, beyond noise. Volumes and knees are of
the values alone.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.trial import Score, Trial

Floats = NDArray[np.float64]


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """The trained, feasible trials that no other dominates, by number; of equal scores the first."""
    different: dict[Score, Trial] = {}
    for trial in trials:
        if trial.score is not None and trial.status == "done":
            different.setdefault(trial.score, trial)
    scores = list(different)
    first = fronts(scores)[:1]
    return [different[scores[index]] for front in first for index in front]


def fronts(scores: Sequence[Score]) -> list[list[int]]:
    """Sort positions into fronts: nothing left dominates a member of the first, and so on (Deb et al. 2002, NSGA-II, section III A)."""
    dominates = domination(scores)
    above, left = dominates.sum(0), np.ones(len(scores), dtype=bool)
    found: list[list[int]] = []
    while left.any():
        front = np.flatnonzero(left & (above == 0))
        left[front] = False
        above = above - dominates[front].sum(0)
        found.append(front.tolist())
    return found


def domination(scores: Sequence[Score]) -> NDArray[np.bool_]:
    """Whether the one dominates the other, of all pairs at once, shape (scores, scores); as `Score.dominates` says."""
    count, width = len(scores), max((len(score.values) for score in scores), default=0)
    lengths = np.array([len(score.values) for score in scores])
    numbers = np.zeros((3, count, width))
    for index, score in enumerate(scores):
        if score.values:
            numbers[0, index, : len(score.values)] = score.values
            numbers[1:, index, : len(score.values)] = np.array(score.bounds).T
    feasibility = np.array([score.feasibility for score in scores], dtype=np.float64)
    nowhere_worse, somewhere_better = np.ones((count, count), dtype=bool), np.zeros((count, count), dtype=bool)
    for values, lows, highs in numbers.transpose(2, 0, 1):
        nowhere_worse &= values[:, None] >= values
        somewhere_better |= (values[:, None] > values) & (lows[:, None] > highs)
    alike = (feasibility[:, None] == feasibility) & (lengths[:, None] == lengths)
    better: NDArray[np.bool_] = (feasibility[:, None] > feasibility) | (alike & nowhere_worse & somewhere_better)
    return better


def crowding(scores: Sequence[Score]) -> list[float]:
    """How far apart the neighbours of each member of a front are, over all objectives and relative to the front (NSGA-II, section III B).

    Infinite for the ends of an objective; 0 for what was never trained.
    """
    distances = [0.0] * len(scores)
    trained = [index for index, score in enumerate(scores) if score.values]
    for objective in range(len(scores[trained[0]].values) if trained else 0):
        order = sorted(trained, key=lambda index: scores[index].values[objective])
        values = [scores[index].values[objective] for index in order]
        for position in range(1, len(order) - 1):
            if values[-1] > values[0]:
                distances[order[position]] += (values[position + 1] - values[position - 1]) / (values[-1] - values[0])
        distances[order[0]] = distances[order[-1]] = math.inf
    return distances


def places(scores: Sequence[Score]) -> list[tuple[int, float]]:
    """The place of every score: (number of its front, minus its crowding distance there); smaller is better (NSGA-II, section III C)."""
    found = [(0, 0.0)] * len(scores)
    for rank, front in enumerate(fronts(scores)):
        for index, distance in zip(front, crowding([scores[index] for index in front]), strict=True):
            found[index] = (rank, -distance)
    return found


def merits(scores: Sequence[Score]) -> list[tuple[float, ...]]:
    """Return what orders scores totally, greater is better: with one objective the score, with several its place among these scores."""
    if all(len(score.values) < 2 for score in scores):
        return [(score.feasibility, *score.values) for score in scores]
    return [(-rank, -crowded) for rank, crowded in places(scores)]


def best_first(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that have a score, by their merits; of equals the earlier one comes first."""
    scored = [(trial, trial.score) for trial in trials if trial.score is not None]
    rows = zip(merits([score for _, score in scored]), scored, strict=True)
    return [trial for _, (trial, _) in sorted(rows, key=lambda row: (row[0], -row[1][0].number), reverse=True)]


def weights_at(index: int, count: int) -> Floats:
    """Return the weights of `count` objectives, positive and of sum 1, shape (count,); different for every `index`, from 0.

    The gaps between the sorted coordinates of a point that is uniform in a cube are uniform on the simplex (Devroye 1986, Non-uniform
    random variate generation, section V.2); the points are Halton's (1960), so every stretch of indices is spread out evenly.
    """
    cuts = sorted(_radical_inverse(index + 1, base) for base in _primes(count - 1))
    return np.diff([0.0, *cuts, 1.0])


def _primes(count: int) -> list[int]:
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


def _radical_inverse(number: int, base: int) -> float:
    """The digits of a number behind the point, the last one first."""
    share, scale = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        scale /= base
        share += digit * scale
    return share


def tchebycheff(values: Floats, low: Floats, high: Floats, weights: Floats) -> Floats:
    """Scalarise objectives, greater is better, shape (rows,): minus the augmented Tchebycheff distance from the best corner.

    `values` has shape (rows, objectives) and is scaled to the corners `low` and `high`, each of shape (objectives,); an objective whose
    corners are equal counts nothing. Knowles 2006, ParEGO, equation 2, with its rho of 0.05.
    """
    costs = (high - values) / np.where(high > low, high - low, 1.0) * weights
    scalars: Floats = -(costs.max(axis=-1) + 0.05 * costs.sum(axis=-1))
    return scalars


def scalarised(values: Floats, weights: Floats) -> Floats:
    """Scalarise the rows of a table, shape (rows, objectives), between the worst and the best in it; greater is better, shape (rows,)."""
    return tchebycheff(values, values.min(0), values.max(0), weights)
