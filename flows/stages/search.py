"""search: architectures are proposed, trained and scored; the best of the finalists is the winner."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flows import console, plots, results
from flows.components import describe
from flows.run_folder import RunFolder, code_of, hold, publish
from flows.settings import Search, Settings
from nas import atomic
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, Evaluator
from nas.journal import FileJournal
from nas.search import SearchError, search
from nas.tasks.base import Task
from nas.trial import Score, Trial
from nas.workers import Workers, pin_threads


def run(root: Path, settings: Settings, record: dict[str, Any]) -> None:
    """Search, and publish what was found.

    Continues the run of the same settings and data where it stopped. Raises SearchError when no architecture could be
    scored, RunError when another process runs the same search.
    """
    pin_threads()
    dataset = Dataset.open(root / "results" / "prepare")
    with hold(root, "search", _inputs(settings.search, dataset, record)) as folder:
        trials, evaluator = _search(root, settings, dataset, folder)
        if not any(trial.status == "done" for trial in trials):
            raise SearchError(_nothing(trials))
        best = _choose(trials, evaluator, settings.search, settings.prepare.task)
        best["search"] = folder.fingerprint
        with publish(root, "search", record) as target:
            _write(target, trials, best, settings)


def _inputs(chosen: Search, dataset: Dataset, record: Mapping[str, Any]) -> dict[str, Any]:
    """What determines the trials: everything but how many there are, and how many compete in the end."""
    inputs = chosen.model_dump(mode="json", exclude={"trials", "finalists"})
    return {"stage": "search", "settings": inputs, "data": dataset.description.digest, "code": code_of(record)}


def _search(root: Path, settings: Settings, dataset: Dataset, folder: RunFolder) -> tuple[list[Trial], Evaluator]:
    chosen = settings.search
    task = settings.prepare.task.bind(dataset.description)
    evaluator = chosen.evaluator
    evaluator.bind(Bench(chosen.space, task, dataset, folder.path, chosen.seed))
    strategy = chosen.strategy.bind(chosen.space.choices(task))
    console.say(f"search {folder.fingerprint}: {strategy.choices.size:,} architectures, {chosen.trials} trials, {chosen.workers} at once")
    trials: list[Trial] = []
    with ExitStack() as stack:
        pool = stack.enter_context(Workers.around(evaluator, chosen.workers)) if chosen.workers > 1 else evaluator
        report = stack.enter_context(console.progress(root, "search", chosen.trials))
        journal = stack.enter_context(FileJournal(folder.path, fingerprint=folder.fingerprint))
        for trial in search(strategy, pool, chosen.objective, journal, trials=chosen.trials, seed=chosen.seed):
            trials.append(trial)
            report(sum(not trial.rejected for trial in trials), _line(trial, trials), _leaders(trials))
    return trials, evaluator


def _quality(chosen: Search, task: Task) -> str:
    """The metric that retraining is judged by: the first objective that is the task's own, not a cost."""
    named = [metric.removeprefix("-") for metric in chosen.objective.metrics]
    return next((name for name in named if name in task.metric_names), task.metric_names[0])


def _choose(trials: Sequence[Trial], evaluator: Evaluator, chosen: Search, task: Task) -> dict[str, Any]:
    """Compare the best by `select` on `confirm`; of equals the one that was best on `select`."""
    ranked = _distinct(sorted((trial for trial in trials if trial.status == "done"), key=_rank, reverse=True), evaluator)
    finalists: list[tuple[Score, int, Trial, dict[str, float]]] = []
    for trial in ranked[: chosen.finalists]:
        metrics = {**(trial.report.metrics if trial.report else {}), **evaluator.reassess(trial, "confirm")}
        finalists.append((chosen.objective.score(metrics), -len(finalists), trial, metrics))
    _, _, winner, confirmed = max(finalists, key=lambda finalist: finalist[:2])
    name = _quality(chosen, task)
    for _, _, trial, metrics in finalists:
        selected = trial.report.metrics[name] if trial.report else float("nan")
        mark = " <- winner" if trial is winner else ""
        console.say(f"finalist: trial {trial.number}, {name} {selected:.4f} on select, {metrics[name]:.4f} on confirm{mark}")
    return {
        "trial": winner.number,
        "architecture": dict(winner.architecture),
        "canonical": evaluator.canonical(winner.architecture),
        "space": describe(chosen.space),
        "metric": name,
        "sign": -1 if f"-{name}" in chosen.objective.metrics else 1,
        "score": winner.report.metrics[name] if winner.report else None,
        "confirm": confirmed[name],
        "metrics": {"select": dict(winner.report.metrics) if winner.report else {}, "confirm": confirmed},
    }


def _distinct(ranked: Iterable[Trial], evaluator: Evaluator) -> list[Trial]:
    first: dict[str | None, Trial] = {}
    for trial in ranked:
        first.setdefault(evaluator.identity(trial.proposal), trial)
    return list(first.values())


def _write(target: Path, trials: Sequence[Trial], best: dict[str, Any], settings: Settings) -> None:
    metrics = sorted({name for trial in trials if trial.report for name in trial.report.metrics})
    choices = sorted({name for trial in trials for name in trial.architecture}) if trials else []
    with (target / "trials.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "status", "score", *metrics, "reused", "error", *choices])
        for trial in trials:
            writer.writerow(_trial_row(trial, metrics, choices))
    curve = _best_so_far(trials)
    with (target / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "score", "best"])
        writer.writerows(curve)
    plots.search_progress(target / "progress.png", curve, best["metric"])
    counts = {status: sum(trial.status == status for trial in trials) for status in ("done", "infeasible", "rejected", "failed")}
    reused = sum(trial.report is not None and trial.report.reused is not None for trial in trials)
    atomic.write_json(target / "best.json", best)
    atomic.write_json(target / "metrics.json", {"select": best["score"], "confirm": best["confirm"], "trials": len(trials), **counts})
    rows = [
        ("strategy", str(describe(settings.search.strategy))),
        ("trials", f"{len(trials)}: {', '.join(f'{count} {status}' for status, count in counts.items() if count)}; {reused} reused"),
        ("winner", f"trial {best['trial']}, {best['metric']} {best['score']:.4f} on select, {best['confirm']:.4f} on confirm"),
        ("architecture", results.words(best)),
    ]
    atomic.write_json(target / "summary.json", console.summary("Search", rows))


def _trial_row(trial: Trial, metrics: Sequence[str], choices: Sequence[str]) -> list[Any]:
    report = trial.report
    values = [report.metrics.get(name, "") if report else "" for name in metrics]
    score = trial.score.values[0] if trial.score and trial.score.values else ""
    reused = report.reused if report and report.reused is not None else ""
    error = report.error if report and report.error else ""
    return [trial.number, trial.status, score, *values, reused, error, *(trial.architecture.get(name, "") for name in choices)]


def _best_so_far(trials: Sequence[Trial]) -> list[tuple[int, float, float]]:
    curve, best = [], None
    for trial in trials:
        if trial.status == "done" and trial.score is not None:
            best = max(trial.score, best) if best is not None else trial.score
            curve.append((trial.number, trial.score.values[0], best.values[0]))
    return curve


def _rank(trial: Trial) -> tuple[Any, int]:
    return trial.score, -trial.number


def _line(trial: Trial, trials: Sequence[Trial]) -> str:
    best = max((other for other in trials if other.score is not None and other.score.values), key=_rank, default=None)
    leader = f"best {best.score.values[0]:.4f} (trial {best.number})" if best is not None and best.score is not None else "none scored"
    if trial.report is not None and trial.report.error:
        return f"{leader}; trial {trial.number} {trial.status}: {trial.report.error}"
    return leader


def _leaders(trials: Sequence[Trial]) -> list[console.Row]:
    scored = sorted((trial for trial in trials if trial.score is not None and trial.score.values), key=_rank, reverse=True)
    rows: list[console.Row] = []
    for trial in scored[:10]:
        metrics = trial.report.metrics if trial.report else {}
        score = trial.score.values[0] if trial.score else None
        size = int(metrics.get("parameters", 0))
        rows.append({"trial": trial.number, "score": score, "parameters": size, "architecture": " ".join(trial.architecture.values())})
    return rows


def _nothing(trials: Sequence[Trial]) -> str:
    reasons = [trial.report.error for trial in trials if trial.report is not None and trial.report.error]
    common = max(set(reasons), key=reasons.count) if reasons else "no trial was made"
    return f"none of {len(trials)} trials met the objective; the commonest reason: {common}. Change what it names and search again"
