"""The candidates of a search in another order: that of latencies which were measured on other devices.

Nothing is searched or trained: what the search found on `confirm` stands, and the latency of its own machine gives way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from nas.finalists import merit
from nas.objective import Objective
from nas.pareto import fronts
from nas.trial import Score

LATENCY = "latency_ms"


@final
@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one run on one device, with the ends of an interval; without noise all three are equal."""

    low: float
    middle: float
    high: float


@final
@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate and its new place. before: its place in the search, from 1. metrics: as measured, with the latency of the slowest device.

    broken: the constraints that do not hold on every device, with the figures. front: whether nothing feasible dominates it.
    """

    trial: int
    before: int
    metrics: Mapping[str, float]
    score: Score
    broken: tuple[str, ...]
    front: bool


def rerank(candidates: Mapping[int, Mapping[str, float]], devices: Sequence[Mapping[int, Latency]], objective: Objective) -> list[Ranked]:
    """Return the candidates that every device has measured, the best first.

    candidates: metrics on `confirm` by trial, in the order of the search. devices: latencies by trial, for one device at least.

    Objectives take the latency of the slowest device; constraints must hold on each. The members of the new Pareto front come first, in
    the order that `objective.choose` says; then the others, and last what breaks a constraint. Of equals the one that was better before
    comes first. Raises ValueError when a metric is missing or not finite.
    """
    found = []
    for before, (trial, metrics) in enumerate(candidates.items(), 1):
        if all(trial in device for device in devices):
            found.append(_judged(trial, before, metrics, [device[trial] for device in devices], objective))
    scores = [candidate.score for candidate in found]
    first = set(fronts(scores)[0]) if scores else set()
    ranked = [_on_front(candidate, at in first and not candidate.broken) for at, candidate in enumerate(found)]
    front = [candidate.score for candidate in ranked if candidate.front] or scores
    key = merit(objective, front)
    return sorted(ranked, key=lambda one: (one.front, key(one.score), -one.before), reverse=True)


def slowest(latencies: Sequence[Latency]) -> Latency:
    """Return the latency of the slowest of several devices: the greatest of each, since the true one is above every lower end."""
    return Latency(max(one.low for one in latencies), max(one.middle for one in latencies), max(one.high for one in latencies))


def with_latency(metrics: Mapping[str, float], latency: Latency) -> dict[str, float]:
    """Return metrics with another latency."""
    ends = {f"{LATENCY}_low": latency.low, f"{LATENCY}_high": latency.high}
    return {**metrics, LATENCY: latency.middle, **ends}


def _judged(trial: int, before: int, metrics: Mapping[str, float], latencies: Sequence[Latency], objective: Objective) -> Ranked:
    worst = with_latency(metrics, slowest(latencies))
    each = [with_latency(metrics, latency) for latency in latencies]
    score = objective.score(worst)._replace(feasibility=min(objective.score(one).feasibility for one in each))
    broken = dict.fromkeys(sentence for one in each for sentence in objective.broken(one))
    return Ranked(trial, before, worst, score, tuple(broken), False)


def _on_front(candidate: Ranked, front: bool) -> Ranked:
    return Ranked(candidate.trial, candidate.before, candidate.metrics, candidate.score, candidate.broken, front)
