"""What a search leaves to choose from: its finalists and its Pareto front, as records, a table and a picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows import plots, tables
from flows.candidates import FILE
from flows.searches import Search
from nas import atomic
from nas.architecture import Architecture
from nas.finalists import Finalist
from nas.objective import Objective, ends
from nas.pareto import pareto_front
from nas.tasks.base import Task
from nas.trial import Trial

FRONT, PLOT, DRAWN = "pareto.csv", "pareto.png", "front.csv"
LARGEST_FRONT = 20
"""So many members of a front are offered beside the finalists."""
Graph = Callable[[Architecture], str | None]
"""The hash of the graph that was measured for an architecture; None where none was."""


def others(trials: Sequence[Trial], ranked: Sequence[Finalist]) -> list[Trial]:
    """The members of the Pareto front that are no finalists, at most LARGEST_FRONT, the best by the search first."""
    known = {finalist.trial.number for finalist in ranked}
    front = [trial for trial in pareto_front(trials) if trial.number not in known and trial.score is not None]
    return sorted(front, key=lambda trial: (trial.score, -trial.number), reverse=True)[:LARGEST_FRONT]


def described(finalist: Finalist, chosen: Search, task: Task, metric: str, graph: Graph) -> dict[str, Any]:
    """What is recorded of an architecture that may be trained; `metric` is the one that a retraining is judged by."""
    trial, selected = finalist.trial, finalist.trial.report.metrics if finalist.trial.report is not None else {}
    return {
        "trial": trial.number,
        "architecture": dict(trial.architecture),
        "canonical": chosen.space.canonical(trial.architecture, task),
        "decisions": chosen.space.decisions(trial.architecture, task),
        # None where the search trains nothing and knows no such metric, as one by proxies.
        "score": selected.get(metric),
        "confirm": finalist.metrics.get(metric),
        "metrics": {"select": dict(selected), "confirm": dict(finalist.metrics)},
        "feasible": finalist.score.feasibility == 0,
        "graph": graph(trial.architecture),
    }


def write(target: Path, trials: Sequence[Trial], offered: Sequence[Mapping[str, Any]], objective: Objective) -> None:
    """Write candidates.json, pareto.csv and pareto.png: every scored trial by the two metrics that a person compares first.

    And front.csv, the same under names that are the same for every objective, since dvc.yaml has to name what it draws.
    """
    atomic.write_json(target / FILE, [dict(candidate) for candidate in offered])
    names = axes(trials, objective)
    front = {trial.number for trial in pareto_front(_by_both(trials, objective, names))}
    rows = [[trial.number, *values, int(trial.number in front)] for trial, values in _points(trials, names)]
    tables.write(target / FRONT, ["trial", names[1], names[0], "low", "high", "front"], rows)
    kinds = [[row[0], *row[1:5], "front" if row[5] else "dominated", names[1], names[0]] for row in rows]
    tables.write(target / DRAWN, ["trial", "cost", "score", "low", "high", "kind", "cost_is", "score_is"], kinds)
    plots.front(target / PLOT, [(row[1], row[2], row[3], row[4], bool(row[5])) for row in rows], names)


def _by_both(trials: Sequence[Trial], objective: Objective, names: tuple[str, str]) -> list[Trial]:
    """The trials with scores by both metrics that are shown, where the objective names but one: what costs less is better then."""
    if len(objective.metrics) > 1 or names[0] == names[1]:
        return list(trials)
    both = objective.model_copy(update={"metrics": (objective.metrics[0], f"-{names[1]}")})
    return [replace(trial, score=both.score(trial.report.metrics)) for trial, _ in _points(trials, names) if trial.report is not None]


def axes(trials: Sequence[Trial], objective: Objective) -> tuple[str, str]:
    """The metrics to show against each other: the first objective, and the second or what a network costs."""
    named = [metric.removeprefix("-") for metric in objective.metrics]
    reported = [trial.report.metrics for trial in trials if trial.report is not None and trial.score is not None]
    costs = [name for name in (*named[1:], "latency_ms", "parameters", named[0]) if any(name in metrics for metrics in reported)]
    return named[0], costs[0] if costs else named[0]


def _points(trials: Sequence[Trial], names: tuple[str, str]) -> Iterator[tuple[Trial, tuple[float, float, float, float]]]:
    """The cost, the first objective, and the interval of the cost, of every trial that was scored and has them."""
    for trial in trials:
        metrics = trial.report.metrics if trial.report is not None else {}
        if trial.score is not None and trial.score.values and all(name in metrics for name in names):
            yield trial, (metrics[names[1]], metrics[names[0]], *ends(names[1], metrics))
