"""search: architectures are proposed, trained and scored; the best of the finalists is the winner."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flows import console, search_report
from flows.provenance import code_of
from flows.run_folder import RunFolder, hold, publish
from flows.settings import Settings
from nas.components import describe
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench
from nas.finalists import finalists
from nas.journal import FileJournal
from nas.search import SearchError, search
from nas.training.loop import pick_device
from nas.trial import Trial
from nas.workers import Workers, pin_threads


def run(root: Path, settings: Settings, record: dict[str, Any]) -> None:
    """Search, and publish what was found.

    Continues the run of the same settings, data and code where it stopped. Raises SearchError when no architecture could be
    scored, RunError when another process runs the same search or something was edited meanwhile.
    """
    pin_threads()
    chosen, task = settings.search, settings.prepare.task
    dataset = Dataset.open(root / "results" / "prepare", splits=("fit", "select", "confirm"))
    task.bind(dataset.description)
    with hold(root, "search", _inputs(settings, dataset, record)) as folder:
        chosen.evaluator.bind(Bench(chosen.space, task, dataset, folder.path, chosen.seed))
        trials = _search(root, settings, folder)
        if not any(trial.status == "done" for trial in trials):
            raise SearchError(search_report.nothing_found(trials, chosen.objective))
        ranked = finalists(trials, chosen.evaluator, chosen.objective, count=chosen.finalists, split="confirm")
        best = search_report.winner(chosen, task, ranked) | {"search": folder.fingerprint}
        with publish(root, "search", record) as target:
            search_report.write(target, trials, best, chosen)
        chosen.evaluator.forget({finalist.trial.number for finalist in ranked})


def _inputs(settings: Settings, dataset: Dataset, record: Mapping[str, Any]) -> dict[str, Any]:
    """What determines the trials: everything but how many there are, and how many compete in the end."""
    chosen, task = settings.search, settings.prepare.task
    components = (task, chosen.space, chosen.strategy, chosen.evaluator)
    return {
        "stage": "search",
        "settings": chosen.model_dump(mode="json", exclude={"trials", "finalists"}),
        "task": describe(task),
        "data": dataset.description.digest,
        "code": code_of(record, *components),
        "device": pick_device("auto").type,
    }


def _search(root: Path, settings: Settings, folder: RunFolder) -> list[Trial]:
    chosen = settings.search
    strategy = chosen.strategy.bind(chosen.space.choices(settings.prepare.task))
    console.say(f"search {folder.fingerprint}: {strategy.choices.size:,} architectures, {chosen.trials} trials, {chosen.workers} at once")
    trials, board = [], search_report.Board(chosen.objective)
    with ExitStack() as stack:
        evaluator = chosen.evaluator
        if evaluator.commit_every == 1:
            # Even a single worker is a process of its own: a candidate that ends its process must not end the search.
            evaluator = stack.enter_context(Workers.around(evaluator, chosen.workers))
        report = stack.enter_context(console.progress(root, "search", chosen.trials))
        journal = stack.enter_context(FileJournal(folder.path, fingerprint=folder.fingerprint))
        for trial in search(strategy, evaluator, chosen.objective, journal, trials=chosen.trials, seed=chosen.seed):
            trials.append(trial)
            line = board.add(trial)
            report(board.evaluated, line, board.rows())
    return trials
