"""train: the winner is trained in full from several seeds; then, once, the test data are opened."""

import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from export.quiet import giving_way
from flows import console, plots, results, run_state, tables
from flows.candidates import winner_of
from flows.elsewhere import require_same
from flows.provenance import code_of
from flows.run_folder import RunFolder, hold, origin, publish
from flows.settings import Settings, Train
from nas import atomic
from nas.components import describe, restore
from nas.data.dataset import SPLITS, Dataset
from nas.fork_server import LATE_IMPORTS, start_server
from nas.process_start import pin_threads
from nas.processes import pool_of
from nas.spaces.base import SearchSpace
from nas.tasks.base import Task
from nas.training.comparison import Measured, compare
from nas.training.loop import Examples, load_examples, outputs_of, pick_device
from nas.training.retrain import Plan, Progress, retrain

IDENTITY = ("architecture", "canonical", "space", "trial", "search", "graph", "objective", "metric", "sign", "strategy", "ancestors")
"""What export has to know of the architecture, and of why it was chosen."""


@dataclass(frozen=True, slots=True)
class Job:
    """One full training, as it is sent to a process."""

    space: SearchSpace
    task: Task
    architecture: dict[str, str]
    dataset: Dataset
    plan: Plan
    folder: Path
    use_confirm: bool


def run(root: Path, settings: Settings, record: dict[str, Any]) -> None:
    """Train the winner from every seed, evaluate on test, publish the best by `confirm`.

    Continues from the last checkpoints of the same settings, data and winner. Raises LimitError when training diverges, ValueError when
    the latencies of other devices in the settings are about another candidate.
    """
    pin_threads()
    start_server(*LATE_IMPORTS)
    dataset = Dataset.open(root / "results" / "prepare", splits=SPLITS)
    best = winner_of(root, settings.train.trial)
    require_same(settings.export.measured, best)  # before the training, which would end in a refusal
    inputs = inputs_of(settings, dataset, best, record)
    with hold(root, "train", inputs, {"metric": best["metric"]}) as folder:
        jobs = jobs_of(settings.train, settings.prepare.task.bind(dataset.description), best, dataset, folder.path)
        outcomes = _train_all(root, jobs, settings.train)
        chosen = _choose(outcomes, jobs)
        run_state.note(folder.path, {"best": outcomes[chosen].best.get(best["metric"])})
        tested = [test_once(job) for job in jobs]
        with publish(root, "train", record | origin(folder)) as target:
            _write(target, jobs, outcomes, tested, chosen, best)
            atomic.write_json(target / "architecture.json", _identity(jobs[chosen], best, folder))


def inputs_of(settings: Settings, dataset: Dataset, best: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what determines the weights; `best` is the winner as best.json holds it."""
    chosen, task, space = settings.train, settings.prepare.task, restore("spaces", best["space"])
    return {
        "stage": "train",
        "settings": chosen.model_dump(mode="json", exclude={"workers", "trial"}),
        "data": dataset.description.digest,
        "task": describe(task),
        "sign": best["sign"],
        "device": pick_device(chosen.device).type,
        "architecture": best["architecture"],
        "space": best["space"],
        "metric": best["metric"],
        "code": code_of(record, task, space),
    }


def jobs_of(chosen: Train, task: Task, winner: Mapping[str, Any], dataset: Dataset, folder: Path) -> list[Job]:
    """Return one training per seed of `winner`, which holds space, architecture, metric and sign; `task` is bound to the data."""
    space, device = restore("spaces", winner["space"]), pick_device(chosen.device)
    plans = [Plan(chosen.recipe, chosen.epochs, seed, device, winner["metric"], winner["sign"]) for seed in chosen.seeds]
    return [Job(space, task, winner["architecture"], dataset, plan, folder, chosen.use_confirm) for plan in plans]


def train_one(job: Job) -> Progress:
    """Train one seed; runs in a process of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.plan.seed)
        network = job.space.build(job.architecture, job.task)
    splits = ["fit", "select", *(["confirm"] if job.use_confirm else [])]
    examples = load_examples([(job.dataset.inputs(split), job.dataset.targets(split)) for split in splits], job.plan.device)
    held_out = None if job.use_confirm else _split(job, "confirm")
    with giving_way() as give_way:  # whoever times a model has the machine alone
        return retrain(network, job.task, replace(job.plan, between=give_way), job.folder, examples, held_out)


def _train_all(root: Path, jobs: Sequence[Job], chosen: Train) -> list[Progress]:
    total = len(jobs) * chosen.epochs
    with console.progress(root, "train", total) as report, pool_of(min(chosen.workers, len(jobs))) as pool:
        running = [pool.submit(train_one, job) for job in jobs]
        while wait(running, timeout=0.5).not_done:
            report(sum(_epoch(job) for job in jobs), f"seeds {', '.join(str(job.plan.seed) for job in jobs)}")
        outcomes = [future.result() for future in running]
        report(total, f"{len(jobs)} seed{'s' if len(jobs) > 1 else ''} trained")
    return outcomes


def _epoch(job: Job) -> int:
    path = job.folder / f"seed-{job.plan.seed}.epoch"
    return int(path.read_text()) if path.exists() else 0


def _split(job: Job, name: str) -> Examples:
    return load_examples([(job.dataset.inputs(name), job.dataset.targets(name))], job.plan.device)


def _choose(outcomes: Sequence[Progress], jobs: Sequence[Job]) -> int:
    """The seed whose weights were best on `confirm`; of equals the smaller loss, then the first."""
    if jobs[0].use_confirm:
        return 0
    plan = jobs[0].plan
    return max(
        range(len(jobs)), key=lambda index: (plan.sign * outcomes[index].best[plan.metric], -outcomes[index].best.get("loss", 0.0), -index)
    )


@dataclass(frozen=True, slots=True)
class Tested:
    """What the test data say about one seed's weights."""

    metrics: dict[str, float]
    details: Mapping[str, Any]
    predictions: list[tuple[str, str]]


def test_once(job: Job) -> Tested:
    """Return what the test data say of one seed's chosen weights; nothing may be decided by the answer."""
    network = job.space.build(job.architecture, job.task)
    network.load_state_dict(load_file(job.folder / f"seed-{job.plan.seed}.safetensors"))
    examples = _split(job, "test")
    outputs, targets = outputs_of(network.to(job.plan.device), examples, job.task), examples.targets.cpu()
    return Tested(job.task.metrics(outputs, targets), job.task.details(outputs, targets), job.task.predictions(outputs, targets))


def _write(
    target: Path, jobs: Sequence[Job], outcomes: Sequence[Progress], tested: Sequence[Tested], chosen: int, best: Mapping[str, Any]
) -> None:
    job, shipped = jobs[chosen], tested[chosen]
    weights = (job.folder / f"seed-{job.plan.seed}.safetensors").read_bytes()
    atomic.write(target / "model.safetensors", lambda file: file.write(weights))
    rows = [{"seed": one.plan.seed, **row} for one, outcome in zip(jobs, outcomes, strict=True) for row in outcome.curve]
    tables.write(target / "curve.csv", list(rows[0]), [list(row.values()) for row in rows])
    tables.write(target / "confusion.csv", ["actual", "predicted"], shipped.predictions)
    plots.training_curve(target / "training.png", rows, job.plan.metric)
    plots.confusion(target / "confusion.png", shipped.predictions, job.dataset.description.classes)
    details = _details(jobs, tested, chosen, best)
    atomic.write_json(target / "details.json", details)
    atomic.write_json(target / "metrics.json", _headline(details))
    atomic.write_json(target / "summary.json", console.summary("Trained winner", results.scores(details)))


def _identity(job: Job, best: Mapping[str, Any], folder: RunFolder) -> dict[str, Any]:
    """What architecture.json holds; `inputs` are what the names `search` and `train` are digests of."""
    made_by = {"train": folder.fingerprint, "inputs": {**best["inputs"], "train": dict(folder.inputs)}}
    return {**{name: best[name] for name in IDENTITY}, "task": describe(job.task), "seed": job.plan.seed, **made_by}


def _details(jobs: Sequence[Job], tested: Sequence[Tested], chosen: int, best: Mapping[str, Any]) -> dict[str, Any]:
    names = list(tested[0].metrics)
    columns = {name: [one.metrics[name] for one in tested] for name in names}
    spread = {name: statistics.stdev(values) if len(values) > 1 else 0.0 for name, values in columns.items()}
    counts = jobs[0].dataset.description.counts
    metric = best["metric"]
    mean = {name: statistics.mean(values) for name, values in columns.items()}
    compared = None
    if best["confirm"] is not None:
        measured = Measured((best["confirm"],), counts["confirm"]), Measured(columns[metric], counts["test"])
        found = compare(*measured, share=metric in jobs[0].task.share_names)
        compared = {"difference": found.difference, "noise": found.noise, "verdict": found.verdict}
    return {
        "metric": metric,
        "test": mean,
        "test_std": spread,
        "shipped": {"seed": jobs[chosen].plan.seed, **tested[chosen].metrics, **tested[chosen].details},
        "seeds": {f"seed_{job.plan.seed}": one.metrics for job, one in zip(jobs, tested, strict=True)},
        "search": {"select": best["score"], "confirm": best["confirm"]},
        "comparison": compared,
    }


def _headline(details: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers to compare between experiments."""
    name, compared = details["metric"], details["comparison"]
    return {
        "test": details["test"],
        **({"test_std": details["test_std"][name]} if len(details["seeds"]) > 1 else {}),
        "shipped": details["shipped"][name],
        **({"search_confirm": details["search"]["confirm"], "difference": compared["difference"]} if compared is not None else {}),
    }
