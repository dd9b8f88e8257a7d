"""Choosing the winner: the best by the search's own score are compared on data that the search has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from nas.evaluators.base import Evaluator
from nas.objective import Objective
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

    Of equal scores on `split` the one that was better in the search comes first, then the earlier one.
    """
    done = [trial for trial in trials if trial.status == "done" and trial.score is not None]
    ranked = sorted(done, key=lambda trial: (trial.score, -trial.number), reverse=True)
    different: dict[str, Trial] = {}
    for trial in ranked:
        different.setdefault(evaluator.canonical(trial.architecture), trial)
    chosen = []
    for trial in list(different.values())[:count]:
        searched = trial.report.metrics if trial.report is not None else {}
        metrics = {**searched, **evaluator.reassess(trial, split)}
        chosen.append(Finalist(trial, metrics, objective.score(metrics)))
    return sorted(chosen, key=lambda finalist: finalist.score, reverse=True)
