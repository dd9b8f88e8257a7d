"""search: architectures are proposed, evaluated and scored; the best of the finalists is the winner."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flows import console, front_report, measuring, search_report, search_start, search_telemetry, watched
from flows.provenance import code_of
from flows.run_folder import RunError, RunFolder, hold, origin, publish
from flows.run_journal import RunJournal
from flows.searches import Search
from flows.settings import Settings
from nas import ancestry, atomic
from nas.components import component_name, describe
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, Evaluator
from nas.failures import Failures
from nas.finalists import Finalist, assessed, finalists
from nas.fork_server import LATE_IMPORTS, start_server
from nas.journal import FileJournal
from nas.measured import Measured
from nas.process_start import pin_threads
from nas.search import SearchError, search
from nas.strategies.base import Strategy
from nas.tasks.base import Task
from nas.training.loop import pick_device
from nas.trial import Trial
from nas.workers import Workers


def run(root: Path, settings: Settings, record: dict[str, Any]) -> None:
    """Search, and publish what was found.

    Continues the run of the same settings, data and code where it stopped. Raises SearchError when no architecture could be
    scored or too many failed, RunError when another process runs the same search or something was edited meanwhile.
    """
    _get_ready(settings, record)
    chosen, task = settings.search[-1], settings.prepare.task
    dataset = Dataset.open(root / "results" / "prepare", splits=("fit", "select", "confirm"))
    task.bind(dataset.description)
    with ExitStack() as stack:
        before: Search | None = None
        folders: list[RunFolder] = []
        for count, entry in enumerate(settings.search, 1):
            folder = stack.enter_context(hold(root, "search", inputs_of(root, settings, count, dataset, record), _about(settings, entry)))
            folders.append(folder)
            bench = Bench(entry.space, task, dataset, folder.path, entry.seed)
            entry.evaluator.bind(bench)
            if entry.preflight:
                measuring.check_space(root, settings, bench, record)
            if before is not None and _shares(before, entry):
                entry.evaluator.load_state_dict(before.evaluator.state_dict())
            strategy = search_start.prepare(root, entry, bench)
            measured = measuring.around(root, settings, entry, bench, record)
            trials = _search(root, settings, entry, strategy, folder, measured)
            before = entry
        candidates = [trial for trial in strategy.candidates(trials) if chosen.evaluator.comparable(trial)]
        if not any(trial.status == "done" for trial in candidates):
            raise SearchError(search_report.nothing_found(trials, chosen.objective))
        ranked = finalists(candidates, measured or chosen.evaluator, chosen.objective, count=chosen.finalists, split="confirm")
        told = measuring.int8_of(root, settings, chosen, bench, record)
        best = search_report.winner(chosen, task, ranked, _graph(measured)) | _made_by(folder, chosen)
        best, *offered = _descended(trials, [best, *_offered(chosen, task, candidates, ranked, measured, told)])
        with publish(root, "search", record | origin(*folders) | search_telemetry.spent(trials)) as target:
            search_report.write(target, trials, best, chosen)
            front_report.write(target, candidates, offered, chosen.objective)
            atomic.write_json(target / "telemetry.json", search_telemetry.of(trials, strategy, chosen, task))
        chosen.evaluator.forget({finalist.trial.number for finalist in ranked})


def _made_by(folder: RunFolder, chosen: Search) -> dict[str, Any]:
    """What best.json says of the search, so that a shipped file can: its name, what that name is the digest of, and its strategy."""
    return {"search": folder.fingerprint, "strategy": describe(chosen.strategy), "inputs": {"search": dict(folder.inputs)}}


def _descended(trials: Sequence[Trial], candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The candidates with the trials that each descends from, itself first, and what each of these was made from."""
    known = ancestry.sources(trials)
    families = [ancestry.ancestors(known, one["trial"]) for one in candidates]
    told = [{str(number): list(named) for number, named in family.items()} for family in families]
    return [{**one, "ancestors": ancestors} for one, ancestors in zip(candidates, told, strict=True)]


def _offered(
    chosen: Search, task: Task, trials: Sequence[Trial], ranked: Sequence[Finalist], measured: Measured | None, int8: measuring.Told
) -> list[dict[str, Any]]:
    """What may be trained: the finalists in their order, with what their int8 variants do, then the rest of the front."""
    judge, name = measured or chosen.evaluator, search_report.judged_by(chosen, task)
    rest = [assessed(trial, judge, chosen.objective, "confirm") for trial in front_report.others(trials, ranked)]
    offered = [front_report.described(finalist, chosen, task, name, _graph(measured)) for finalist in (*ranked, *rest)]
    search_report.add_int8(offered, ranked, name, int8)
    return offered


def _get_ready(settings: Settings, record: Mapping[str, Any]) -> None:
    """Raise where a device is not there or a file would change unseen; then start what processes are forked from."""
    pin_threads()
    for device in dict.fromkeys(device for entry in settings.search for device in entry.devices):
        pick_device(device)
    unseen = watched.unwatched(record, [path for stage, _, path in settings.files() if stage == "search"])
    if unseen:
        raise RunError(f"dvc.yaml does not name {', '.join(unseen)}, so a changed file would go unseen: `nasflow check` puts it there")
    start_server(*(LATE_IMPORTS if "network" in settings.search[-1].evaluator.provides else ()))


def _graph(measured: Measured | None) -> front_report.Graph:
    return measured.graph if measured is not None else lambda architecture: None


def _shares(before: Search, entry: Search) -> bool:
    """Whether a search goes on with the weights of the one before."""
    return type(before.evaluator) is type(entry.evaluator) and entry.evaluator.commit_every > 1


def _about(settings: Settings, entry: Search) -> dict[str, Any]:
    """What `nasflow runs` and `watch` want to know of a search without reading its settings."""
    device, metrics = settings.engine.device or device_of(entry), entry.objective.metrics
    return {"trials": entry.trials, "metric": metrics[0], "metrics": metrics, "looks": entry.evaluator.looks, "device": device}


def device_of(entry: Search) -> str:
    """The kind of device that trials are computed on: `cuda` as soon as one of them may be."""
    named = entry.devices or [str(entry.evaluator.model_dump().get("device", "cpu"))]
    return "cuda" if any(pick_device(name).type == "cuda" for name in named) else "cpu"


def inputs_of(root: Path, settings: Settings, count: int, dataset: Dataset, record: Mapping[str, Any]) -> dict[str, Any]:
    """What determines the trials of the last of the first `count` searches.

    How many trials there are does not, unless weights are shared or another search follows; nor how many compete in the end, or
    may fail.
    """
    searches, task = settings.search[:count], settings.prepare.task
    last = searches[-1]
    never = {"finalists", "max_failures"}
    free = never | ({"trials"} if last.evaluator.commit_every == 1 else set())
    dumped = [entry.model_dump(mode="json", exclude=never) for entry in searches[:-1]]
    components = [task, *(part for entry in searches for part in (entry.space, entry.strategy, entry.evaluator))]
    return {
        "stage": "search",
        "settings": [*dumped, last.model_dump(mode="json", exclude=free)],
        "earlier": [search_start.digests(root, entry) for entry in searches],
        "files": search_start.files(root, [path for entry in searches for path in entry.evaluator.paths()]),
        "task": describe(task),
        "data": dataset.description.digest,
        "code": code_of(record, *components),
        "device": settings.engine.device or pick_device("auto").type,
        **measuring.inputs_of(settings, searches, task),
    }


def _search(
    root: Path, settings: Settings, chosen: Search, strategy: Strategy, folder: RunFolder, measured: Measured | None
) -> list[Trial]:
    size = f"{strategy.choices.size:,}" if strategy.choices.size < 10**12 else f"{strategy.choices.size:.1e}"
    console.say(f"search {folder.fingerprint}: {size} architectures, {chosen.trials} trials, {chosen.workers} at once")
    if len(chosen.objective.metrics) > 1:
        console.say(f"{len(chosen.objective.metrics)} objectives: {component_name(strategy)} {strategy.several_objectives}")
    trials, board, failures = [], search_report.Board(chosen.objective, chosen.evaluator), Failures(chosen.max_failures)
    clock = search_telemetry.Clock()
    with ExitStack() as stack:
        evaluator = _workers(stack, settings, chosen, measured or chosen.evaluator, folder.path)
        if measured is not None:
            stack.enter_context(measured.measuring())
        report = stack.enter_context(console.progress(root, "search", chosen.trials + evaluator.looks))
        journal = RunJournal(stack.enter_context(FileJournal(folder.path, fingerprint=folder.fingerprint, say=console.say)))
        for trial in clock.timed(_trials(strategy, evaluator, chosen, journal)):
            trials.append(trial)
            line = board.add(trial)
            report(board.evaluated, line, board.rows())
            failures.add(trial)
    clock.report(folder.path / "timing.json", chosen.workers)
    return trials


def _workers(stack: ExitStack, settings: Settings, chosen: Search, judge: Evaluator, folder: Path) -> Evaluator:
    """Even a single worker is a process of its own: a candidate that ends its process must not end the search."""
    if judge.commit_every > 1:
        return judge
    workers = stack.enter_context(Workers.around(judge, chosen.workers, chosen.devices, engine=settings.engine, folder=folder))
    if workers.description:
        console.say(workers.description)
    return workers


def _trials(strategy: Strategy, evaluator: Evaluator, chosen: Search, journal: RunJournal) -> Iterator[Trial]:
    return search(strategy, evaluator, chosen.objective, journal, trials=chosen.trials, seed=chosen.seed)
