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
