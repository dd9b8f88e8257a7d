"""Does searching pay? The retrained winner against random architectures that were tried, retrained the same way.

Runs the project's own pipeline on an npz archive in a temporary clone, through `dvc repro`, then retrains the first random
architectures of the search with the winner's recipe, epochs, seeds and data. The last line printed is JSON.

    python benchmarks/winner_against_random.py --archive ../shared/data/fashion_mnist/fashion_mnist.npz --limit 10000
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from flows import settings
from flows.stages.train import Job, test_once, train_one
from flows.watched import watch
from nas.components import describe, restore
from nas.data.dataset import Dataset
from nas.process_start import pin_threads
from nas.processes import pool_of
from nas.training.loop import pick_device
from nas.training.retrain import Plan

ROOT = Path(__file__).resolve().parents[1]
AUGMENTATION = "{shift: 2, flip: true}"
WIDTHS = "[[8, 16], [16, 32], [32, 64]]"


def main() -> None:
    """Measure and print."""
    options = _options()
    if not options.archive.exists():
        sys.exit(f"{options.archive} does not exist: give an npz archive with --archive")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        project = Path(name) / "project"
        _build(project, options)
        print((project / "results" / "train" / "summary.json").read_text(), flush=True)
        winner = json.loads((project / "results" / "train" / "details.json").read_text())
        scores = _randoms(project, options)
    metric = winner["metric"]
    means = [statistics.mean(row) for row in scores]
    mine = [seed[metric] for seed in winner["seeds"].values()]
    print(
        json.dumps(
            {
                "metric": metric,
                "winner": {"mean": statistics.mean(mine), "std": _spread(mine), "seeds": len(mine)},
                "random": {"mean": statistics.mean(means), "std": _spread(means), "best": max(means), "architectures": len(means)},
                "difference": statistics.mean(mine) - statistics.mean(means),
                "winner_beats_mean_of_random": statistics.mean(mine) > statistics.mean(means),
                "minutes": round((time.monotonic() - start) / 60, 1),
            }
        )
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--limit", type=int, default=10_000, help="training images in all")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--steps", type=int, default=200, help="of one trial")
    parser.add_argument("--epochs", type=int, default=6, help="of the retraining")
    parser.add_argument("--randoms", type=int, default=10, help="random architectures to retrain")
    parser.add_argument("--seeds", default="[0, 1]")
    return parser.parse_args()


def _build(project: Path, options: argparse.Namespace) -> None:
    """Clone the committed project, set its parameters, and run it."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    shutil.copy(ROOT / settings.FILE, project / settings.FILE)
    source = f"{{name: npz, path: {options.archive.resolve()}}}"
    overrides = [f"prepare.source={source}", f"prepare.splits.limit={options.limit}", f"search.trials={options.trials}"]
    overrides += [f"search.evaluator.steps={options.steps}", f"search.evaluator.recipe.augmentation={AUGMENTATION}"]
    overrides += [f"search.space.widths={WIDTHS}"]
    overrides += [f"train.epochs={options.epochs}", f"train.seeds={options.seeds}", f"train.recipe.augmentation={AUGMENTATION}"]
    watch(project, settings.read(project, overrides).prepare.source.paths())
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": folder + os.pathsep + os.environ["PATH"], "PYTHONPATH": str(project)}
    subprocess.run([f"{folder}/dvc", "repro"], cwd=project, env=environment, check=True)


def _randoms(project: Path, options: argparse.Namespace) -> list[list[float]]:
    """Test scores, a row per random architecture and a column per seed."""
    pin_threads()
    chosen = settings.read(project)
    best = json.loads((project / "results" / "search" / "best.json").read_text())
    dataset = Dataset.open(project / "results" / "prepare")
    task = chosen.prepare.task.bind(dataset.description)
    space, device, train = restore("spaces", best["space"]), pick_device(chosen.train.device), chosen.train
    jobs = []
    for number, architecture in enumerate(_tried(project, chosen)[: options.randoms]):
        folder = project / ".nasflow" / f"random-{number}"
        folder.mkdir()
        plan = Plan(train.recipe, train.epochs, 0, device, best["metric"], best["sign"])
        plans = [replace(plan, seed=seed) for seed in train.seeds]
        jobs.append([Job(space, task, architecture, dataset, plan, folder, train.use_confirm) for plan in plans])
    with pool_of(train.workers) as pool:
        futures = [[pool.submit(_score, job) for job in row] for row in jobs]
        rows = []
        for number, row in enumerate(futures):
            rows.append([future.result() for future in row])
            print(f"random {number}: {rows[-1]}", flush=True)
    return rows


def _tried(project: Path, chosen: settings.Settings) -> list[dict[str, str]]:
    """The architectures of the search that were drawn at random, before the strategy had enough results to go by, in order."""
    described = describe(chosen.search[0].strategy)
    random_trials = described.get("population", described.get("initial", chosen.search[0].trials))
    with (project / "results" / "search" / "trials.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "done" and int(row["number"]) < random_trials]
    best = json.loads((project / "results" / "search" / "best.json").read_text())
    return [{name: row[name] for name in best["architecture"]} for row in rows]


def _score(job: Job) -> float:
    train_one(job)
    return test_once(job).metrics[job.plan.metric]


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
