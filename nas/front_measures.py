"""What a Pareto front is worth, how that grew, and where the front bends most.

Points hold one number per objective, greater is better, as the values of scores do.
"""

from collections.abc import Sequence

import numpy as np

from nas.pareto import Floats
from nas.trial import Trial

Point = tuple[float, ...]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Return the volume of what the points dominate above the reference point, exactly; what is not better than it counts nothing.

    By slicing objectives (While, Hingston, Barone and Huband 2006, A faster algorithm for calculating hypervolume, section III): with
    n points and m objectives about n^(m - 1) steps, so for few objectives.
    """
    above = [tuple(value - corner for value, corner in zip(point, reference, strict=True)) for point in points]
    return _volume([point for point in above if min(point) > 0])


def _volume(points: Sequence[Point]) -> float:
    """The volume between the origin and positive points."""
    if not points:
        return 0.0
    if len(points[0]) == 1:
        return max(points)[0]
    ordered = sorted(points, key=lambda point: point[-1], reverse=True)
    volume = section = 0.0
    for number, point in enumerate(ordered, 1):
        section = max(section, point[0]) if len(point) == 2 else _volume([other[:-1] for other in ordered[:number]])
        lower = ordered[number][-1] if number < len(ordered) else 0.0
        volume += section * (point[-1] - lower)
    return volume


def worst_point(trials: Sequence[Trial]) -> Point | None:
    """Return the worst of every objective among the trained, feasible trials, the usual reference; None where there is none.

    The ends of a front may lie on it, and then add nothing. To compare searches take one reference for all, from all their trials.
    """
    points = [point for point in map(_point, trials) if point is not None]
    return tuple(min(column) for column in zip(*points, strict=True)) if points else None


def hypervolume_curve(trials: Sequence[Trial], reference: Point) -> list[float]:
    """Return the hypervolume of all trained, feasible trials up to each one, in their order; it never falls."""
    front: list[Point] = []
    curve: list[float] = []
    for trial in trials:
        point, volume = _point(trial), curve[-1] if curve else 0.0
        if point is not None and not any(_covers(other, point) for other in front):
            front = [point, *(other for other in front if not _covers(point, other))]
            volume = max(volume, hypervolume(front, reference))  # sums of the same volume may round differently
        curve.append(volume)
    return curve


def _point(trial: Trial) -> Point | None:
    return trial.score.values if trial.status == "done" and trial.score is not None else None


def _covers(one: Point, other: Point) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True))


def beyond(front: Sequence[Point], points: Sequence[Point]) -> list[float]:
    """Return how far points lie beyond the plane through the ends of a front, seen from the worst corner; the knee is the farthest.

    The ends are the best members of each objective, and objectives are scaled to the front, 0 for the worst and 1 for the best. Where
    the ends give no plane that rises from the worst corner, it is the one through the corners (1, 0, …), (0, 1, …), …
    Das 1999, On characterizing the knee of the Pareto curve based on normal-boundary intersection.
    """
    values = np.array(front, dtype=np.float64)
    low, span = values.min(0), values.max(0) - values.min(0)
    span[span == 0] = 1
    normal = _normal((values - low) / span)
    offered = (np.array(points, dtype=np.float64) - low) / span
    distances: list[float] = ((offered @ normal - 1) / np.linalg.norm(normal)).tolist()
    return distances


def _normal(shares: Floats) -> Floats:
    """The normal of the plane normal @ x = 1 through the ends of a front that is scaled, shape (objectives,)."""
    count = shares.shape[1]
    rows = [max(range(len(shares)), key=lambda row: (shares[row, objective], shares[row].sum())) for objective in range(count)]
    ends = shares[rows]
    if np.linalg.matrix_rank(ends) == count:
        normal = np.linalg.solve(ends, np.ones(count)).astype(np.float64, copy=False)
        if (normal > 0).all():
            return normal
    return np.ones(count)


def knee(front: Sequence[Trial]) -> Trial:
    """Return the member of a front that is farthest `beyond` the plane through its ends; of equals the greatest score.

    Raises ValueError when the front is empty.
    """
    points = [point for point in map(_point, front) if point is not None]
    if not points or len(points) != len(front):
        raise ValueError("there is no knee: give the members of a front, trained and feasible, and one at least")
    best = max(zip(beyond(points, points), points, range(len(points)), strict=True), key=lambda row: (row[0], row[1], -row[2]))
    return front[best[2]]
