"""Choosing the winner: the best by the search's own score are compared on data that the search has not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from nas.evaluators.base import Evaluator
from nas.front_measures import beyond
from nas.objective import Objective
from nas.pareto import pareto_front
from nas.trial import Score, Trial


@final
@dataclass(frozen=True, slots=True)
class Finalist:
    """A trial, with its metrics on the split that decides; `score` is the objective's on that split."""

    trial: Trial
    metrics: Mapping[str, float]
    score: Score


def finalists(trials: Sequence[Trial], evaluator: Evaluator, objective: Objective, *, count: int, split: str) -> list[Finalist]:
    """Return the `count` best different functions among the trials, measured on `split`, the winner first.

    With several objectives they are members of the Pareto front, so there may be fewer. They are ranked as `objective.choose` says: by the
    score, so by the first objective, or by how far they are beyond the plane through the ends of the front of the search. Of equals on
    `split` the one that was better in the search comes first, then the earlier one.
    """
    done = [(trial, trial.score) for trial in trials if trial.status == "done" and trial.score is not None]
    if len(objective.metrics) > 1:
        front = {trial.number for trial in pareto_front(trial for trial, _ in done)}
        done = [(trial, score) for trial, score in done if trial.number in front]
    key = merit(objective, [score for _, score in done])
    ranked = sorted(done, key=lambda pair: (key(pair[1]), -pair[0].number), reverse=True)
    different: dict[str, Trial] = {}
    for trial, _ in ranked:
        different.setdefault(evaluator.canonical(trial.architecture), trial)
    chosen = [assessed(trial, evaluator, objective, split) for trial in list(different.values())[:count]]
    return sorted(chosen, key=lambda finalist: key(finalist.score), reverse=True)


def assessed(trial: Trial, evaluator: Evaluator, objective: Objective, split: str) -> Finalist:
    """Measure a finished trial on a split. Raises what `evaluator.reassess` raises, and ValueError when a metric is not finite."""
    metrics = _joined(trial.report.metrics if trial.report is not None else {}, evaluator.reassess(trial, split))
    return Finalist(trial, metrics, objective.score(metrics))


def _joined(searched: Mapping[str, float], reassessed: Mapping[str, float]) -> dict[str, float]:
    """The metrics of the search with those that were measured again in place of theirs, and of their intervals."""
    outdated = {f"{name}{end}" for name in reassessed for end in ("_low", "_high")}
    return {name: value for name, value in searched.items() if name not in outdated} | dict(reassessed)


def merit(objective: Objective, front: Sequence[Score]) -> Callable[[Score], tuple[Any, ...]]:
    """Return what scores are compared by, greater is better, as `objective.choose` says; a `knee` is one of the `front`."""
    if objective.choose == "knee":
        points = [score.values for score in front]
        return lambda score: (score.feasibility, *beyond(points, [score.values]), score)
    return lambda score: score
