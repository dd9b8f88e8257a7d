"""train: the winner is trained in full from several seeds; then, once, the test data are opened."""

import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from flows import console, plots, results
from flows.components import describe, restore
from flows.run_folder import code_of, hold, publish
from flows.settings import Settings, Train
from nas import atomic
from nas.data.dataset import Dataset
from nas.spaces.base import SearchSpace
from nas.tasks.base import Task
from nas.training.loop import Examples, load_examples, outputs_of, pick_device
from nas.training.retrain import Plan, Progress, retrain
from nas.workers import pin_threads, pool_of


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

    Continues from the last checkpoints of the same settings, data and winner. Raises LimitError when training diverges.
    """
    pin_threads()
    dataset = Dataset.open(root / "results" / "prepare")
    best = json.loads((root / "results" / "search" / "best.json").read_text())
    inputs = {"stage": "train", "settings": settings.train.model_dump(mode="json", exclude={"workers"}), "data": dataset.description.digest}
    inputs |= {"architecture": best["architecture"], "space": best["space"], "metric": best["metric"], "code": code_of(record)}
    with hold(root, "train", inputs) as folder:
        jobs = _jobs(settings, dataset, best, folder.path)
        outcomes = _train_all(root, jobs, settings.train)
        chosen = _choose(outcomes, jobs)
        tested = [_test(job) for job in jobs]
        with publish(root, "train", record) as target:
            _write(target, jobs, outcomes, tested, chosen, best)


def _jobs(settings: Settings, dataset: Dataset, best: Mapping[str, Any], folder: Path) -> list[Job]:
    chosen = settings.train
    task = settings.prepare.task.bind(dataset.description)
    space = restore("spaces", best["space"])
    device, metric, sign = pick_device(chosen.device), best["metric"], best["sign"]
    plans = [Plan(chosen.recipe, chosen.epochs, seed, device, metric, sign) for seed in chosen.seeds]
    return [Job(space, task, best["architecture"], dataset, plan, folder, chosen.use_confirm) for plan in plans]


def train_one(job: Job) -> Progress:
    """Train one seed; runs in a process of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.plan.seed)
        network = job.space.build(job.architecture, job.task)
    splits = ["fit", "select", *(["confirm"] if job.use_confirm else [])]
    examples = load_examples([(job.dataset.inputs(split), job.dataset.targets(split)) for split in splits], job.plan.device)
    held_out = None if job.use_confirm else _split(job, "confirm")
    return retrain(network, job.task, job.plan, job.folder, examples, held_out)


def _train_all(root: Path, jobs: Sequence[Job], chosen: Train) -> list[Progress]:
    total = len(jobs) * chosen.epochs
    with console.progress(root, "train", total) as report, pool_of(min(chosen.workers, len(jobs))) as pool:
        running = [pool.submit(train_one, job) for job in jobs]
        while wait(running, timeout=0.5).not_done:
            report(sum(_epoch(job) for job in jobs), f"seeds {', '.join(str(job.plan.seed) for job in jobs)}")
        outcomes = [future.result() for future in running]
        report(total, f"{len(jobs)} seeds trained")
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


def _test(job: Job) -> Tested:
    """Open the test data for one seed's chosen weights; nothing is decided by the answer."""
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
    identity = {name: best[name] for name in ("architecture", "canonical", "space", "trial", "search")}
    atomic.write_json(target / "architecture.json", {**identity, "task": describe(job.task), "seed": job.plan.seed})
    rows = [{"seed": one.plan.seed, **row} for one, outcome in zip(jobs, outcomes, strict=True) for row in outcome.curve]
    _write_rows(target / "curve.csv", list(rows[0]), [list(row.values()) for row in rows])
    _write_rows(target / "confusion.csv", ["actual", "predicted"], shipped.predictions)
    plots.training_curve(target / "training.png", rows, job.plan.metric)
    plots.confusion(target / "confusion.png", shipped.predictions, job.dataset.description.classes)
    details = _details(jobs, tested, chosen, best)
    atomic.write_json(target / "details.json", details)
    atomic.write_json(target / "metrics.json", _headline(details))
    atomic.write_json(target / "summary.json", console.summary("Trained winner", results.scores(details)))


def _details(jobs: Sequence[Job], tested: Sequence[Tested], chosen: int, best: Mapping[str, Any]) -> dict[str, Any]:
    names = list(tested[0].metrics)
    columns = {name: [one.metrics[name] for one in tested] for name in names}
    spread = {name: statistics.stdev(values) if len(values) > 1 else 0.0 for name, values in columns.items()}
    counts = jobs[0].dataset.description.counts
    metric = best["metric"]
    mean = {name: statistics.mean(values) for name, values in columns.items()}
    comparison = compare(best["confirm"], counts["confirm"], columns[metric], counts["test"])
    return {
        "metric": metric,
        "test": mean,
        "test_std": spread,
        "shipped": {"seed": jobs[chosen].plan.seed, **tested[chosen].metrics, **tested[chosen].details},
        "seeds": {f"seed_{job.plan.seed}": one.metrics for job, one in zip(jobs, tested, strict=True)},
        "search": {"select": best["score"], "confirm": best["confirm"]},
        "comparison": comparison,
    }


def _headline(details: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers to compare between experiments."""
    name = details["metric"]
    return {
        "test": details["test"],
        "test_std": details["test_std"][name],
        "shipped": details["shipped"][name],
        "search": details["search"]["confirm"],
        "difference": details["comparison"]["difference"],
    }


def compare(searched: float, searched_count: int, retrained: Sequence[float], retrained_count: int) -> dict[str, Any]:
    """Say whether the retrained score differs from the search's by more than noise.

    The noise of a share measured on n examples is binomial, p (1 - p) / n; the spread over seeds is added. Two standard
    errors decide. Metrics outside 0 to 1 have only the spread over seeds.
    """
    mean = statistics.mean(retrained)
    variance = statistics.variance(retrained) / len(retrained) if len(retrained) > 1 else 0.0
    if 0 <= searched <= 1 and 0 <= mean <= 1:
        variance += searched * (1 - searched) / searched_count + mean * (1 - mean) / retrained_count
    difference, noise = mean - searched, 2 * math.sqrt(variance)
    within = abs(difference) <= noise
    verdict = "within noise" if within else ("higher than the search said" if difference > 0 else "lower than the search said")
    return {"difference": difference, "noise": noise, "within_noise": within, "verdict": verdict}


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
