"""What a search leaves for people and for the next stage: tables, a plot, the winner; and its leaderboard while it runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from flows import console, front_report, plots, results, tables
from flows.searches import Search
from nas import atomic, failures
from nas.components import describe
from nas.evaluators.base import Evaluator
from nas.finalists import Finalist
from nas.front_measures import hypervolume_curve, worst_point
from nas.objective import Objective
from nas.tasks.base import Task
from nas.trial import Score, Trial

_LEADERS = 10
_STATUSES = ("done", "infeasible", "rejected", "failed")


@final
class Board:
    """The best trials so far; a trial costs the same to add however many there were."""

    def __init__(self, objective: Objective, evaluator: Evaluator) -> None:
        self.evaluated = 0
        self._objective, self._evaluator = objective, evaluator
        self._best: list[tuple[Score, int, Trial]] = []

    def add(self, trial: Trial) -> str:
        """Take a finished trial and return the line to show."""
        self.evaluated += not trial.rejected
        comparable = self._evaluator.comparable(trial)
        if trial.status == "done" and trial.score is not None and comparable:
            self._best = sorted([*self._best, (trial.score, -trial.number, trial)], reverse=True, key=lambda row: row[:2])[:_LEADERS]
        line = "nothing that meets the objective yet" if comparable else f"trial {trial.number} trained shared weights"
        if self._best:
            score, _, leader = self._best[0]
            line = f"best {self._objective.metrics[0].removeprefix('-')} {shown(self._objective, score):.4g} (trial {leader.number})"
        failed = trial.report is not None and trial.report.error
        return f"{line}; trial {trial.number} {trial.status}: {failed}" if failed else line

    def rows(self) -> list[console.Row]:
        """The leaderboard: what is searched for, what a network costs, and its choices."""
        named = [metric.removeprefix("-") for metric in self._objective.metrics]
        names = dict.fromkeys([*named, "parameters", "flops", "latency_ms"])
        return [
            {
                "trial": trial.number,
                **{name: _short(_reported(trial)[name]) for name in names if name in _reported(trial)},
                "architecture": "; ".join(results.parts(trial.architecture)),
            }
            for _, _, trial in self._best
        ]


def _short(value: float) -> float:
    """A metric in the digits that a person compares."""
    return int(value) if value == int(value) and abs(value) >= 2 else float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def shown(objective: Objective, score: Score) -> float:
    """The first objective's metric as it was measured: scores turn those around that are to be small."""
    return -score.values[0] if objective.metrics[0].startswith("-") else score.values[0]


def winner(chosen: Search, task: Task, ranked: Sequence[Finalist], graph: front_report.Graph) -> dict[str, Any]:
    """Return what best.json holds, and say how the finalists compared."""
    name = judged_by(chosen, task)
    for finalist in ranked:
        scores = results.searched(name, _reported(finalist.trial).get(name), finalist.metrics.get(name))
        cost = f", {finalist.metrics['latency_ms']:.3g} ms" if "latency_ms" in finalist.metrics else ""
        console.say(f"finalist: trial {finalist.trial.number}, {scores}{cost}{' <- winner' if finalist is ranked[0] else ''}")
    return {
        **front_report.described(ranked[0], chosen, task, name, graph),
        "space": describe(chosen.space),
        "objective": chosen.objective.model_dump(mode="json"),
        "metric": name,
        "sign": -1 if f"-{name}" in chosen.objective.metrics else 1,
    }


def add_int8(
    offered: Sequence[dict[str, Any]], ranked: Sequence[Finalist], metric: str, told: Callable[[Trial], dict[str, Any] | None]
) -> None:
    """Add to the records of the finalists, which come first, what their int8 variants take and score, and say it."""
    for candidate, finalist in zip(offered, ranked, strict=False):
        found = told(finalist.trial)
        if found is None:
            continue
        candidate["int8"] = found
        if "error" in found:
            console.say(f"finalist: trial {finalist.trial.number} as int8: {found['error']}")
            continue
        cost = f"{found['latency_ms']:.3g} ms, {found['times']:.2f} times the time of floats"
        console.say(f"finalist: trial {finalist.trial.number} as int8: {metric} {found[metric]:.4f} on confirm, {cost}")


def judged_by(chosen: Search, task: Task) -> str:
    """The metric that a retraining is judged by: it changes no cost, so the first objective that is the task's own."""
    named = [metric.removeprefix("-") for metric in chosen.objective.metrics]
    return next((name for name in named if name in task.metric_names), task.metric_names[0])


def write(target: Path, trials: Sequence[Trial], best: Mapping[str, Any], chosen: Search) -> None:
    """Write trials.csv, history.csv, progress.png, best.json, metrics.json and summary.json."""
    _write_trials(target / "trials.csv", trials)
    curve = _best_so_far([trial for trial in trials if chosen.evaluator.comparable(trial)], chosen.objective)
    volumes = _volumes(trials)
    tables.write(target / "history.csv", ["trial", "score", "best", "hypervolume"], [(*row, volumes.get(row[0], "")) for row in curve])
    plots.search_progress(target / "progress.png", curve, chosen.objective.metrics[0].removeprefix("-"))
    counts = {status: sum(trial.status == status for trial in trials) for status in _STATUSES}
    kinds = failures.counts(trials)
    reused = sum(trial.report is not None and trial.report.reused is not None for trial in trials)
    atomic.write_json(target / "best.json", dict(best))
    headline = {"select": best["score"], "confirm": best["confirm"], "trials": len(trials), **counts, "failures": kinds}
    atomic.write_json(target / "metrics.json", headline)
    rows = [
        ("strategy", ", ".join(str(value) if key == "name" else f"{key} {value}" for key, value in describe(chosen.strategy).items())),
        ("trials", f"{len(trials)}: {', '.join(f'{count} {status}' for status, count in counts.items() if count)}; {reused} reused"),
        *([("failures", f"{counts['failed']} failed: {failures.words(kinds)}")] if kinds else []),
        ("winner", f"trial {best['trial']}, {results.searched(best['metric'], best['score'], best['confirm'])}"),
        ("architecture", results.words(best)),
    ]
    atomic.write_json(target / "summary.json", console.summary("Search", rows))


def _volumes(trials: Sequence[Trial]) -> dict[int, float]:
    """The hypervolume after each trial, above the worst of every objective; nothing with one objective."""
    reference = worst_point(trials)
    if reference is None or len(reference) < 2:
        return {}
    return dict(zip([trial.number for trial in trials], hypervolume_curve(trials, reference), strict=True))


def nothing_found(trials: Sequence[Trial], objective: Objective) -> str:
    """The sentence for a search without a winner."""
    reasons = [trial.report.error or "; ".join(objective.broken(trial.report.metrics)) for trial in trials if trial.report is not None]
    common = max(sorted(set(reasons)), key=reasons.count) if reasons else "the strategy proposed nothing"
    return f"none of {len(trials)} trials met the objective; the commonest reason: {common}. Change what it names and search again"


def _reported(trial: Trial) -> Mapping[str, float]:
    return trial.report.metrics if trial.report is not None else {}


def _write_trials(path: Path, trials: Sequence[Trial]) -> None:
    metrics = sorted({name for trial in trials for name in _reported(trial)})
    choices = list(trials[0].architecture) if trials else []
    rows = []
    for trial in trials:
        score = trial.score.values[0] if trial.score and trial.score.values else ""
        reused = trial.report.reused if trial.report and trial.report.reused is not None else ""
        kind, error = (trial.report.kind or "", trial.report.error or "") if trial.report else ("", "")
        measured = [_reported(trial).get(name, "") for name in metrics]
        steps = "" if trial.proposal.steps is None else trial.proposal.steps
        parent = "" if trial.proposal.parent is None else trial.proposal.parent
        origin = " ".join(map(str, trial.proposal.origin))
        answers = [trial.architecture[name] for name in choices]
        rows.append([trial.number, trial.status, steps, parent, origin, score, *measured, reused, kind, error, *answers])
    known = ["number", "status", "steps", "parent", "origin", "score"]
    tables.write(path, [*known, *metrics, "reused", "kind", "error", *choices], rows)


def _best_so_far(trials: Sequence[Trial], objective: Objective) -> list[tuple[int, float, float]]:
    curve: list[tuple[int, float, float]] = []
    best: Score | None = None
    for trial in trials:
        if trial.status == "done" and trial.score is not None:
            best = trial.score if best is None else max(trial.score, best)
            curve.append((trial.number, shown(objective, trial.score), shown(objective, best)))
    return curve
