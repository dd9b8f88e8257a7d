"""What more workers bring: trials per second of the same search with 2 workers and with 1, on the digits.

    python benchmarks/worker_scaling.py --repeats 5 --trials 32

Space, evaluator and recipe are those of params.yaml. The strategy is random search, whose trials are the same however many
run at once. The two searches of a repeat follow each other, in turns the one or the other first; processes are started and
data loaded before the clock starts. The last line is JSON: the median over the repeats of the ratio of trials per second,
and the median rates. `possible` is the ratio that the order of trials alone allows: trial n begins when trial n - 2 is told,
so a process may have to wait for a longer trial in the other one. It all means something only where as many cores are idle
as there are workers.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flows import settings
from nas.data.dataset import Dataset
from nas.data.prepare import prepare
from nas.data.sources.digits import Digits
from nas.evaluators.base import Bench
from nas.journal import FileJournal
from nas.process_start import pin_threads
from nas.search import search
from nas.strategies.random import Random
from nas.trial import Proposal, Trial
from nas.workers import Workers

ROOT = Path(__file__).resolve().parents[1]


class Run(NamedTuple):
    """A search: trials per second, and the seconds of each trial."""

    rate: float
    seconds: list[float]


def measure(project: settings.Settings, prepared: Path, count: int, trials: int) -> Run:
    """Run one search with `count` workers."""
    chosen, dataset = project.search[0], Dataset.open(prepared, splits=("fit", "select"))
    task = project.prepare.task.bind(dataset.description)
    strategy = Random().bind(chosen.space.choices(task))
    with tempfile.TemporaryDirectory(dir=prepared.parent) as name:
        evaluator = chosen.evaluator.bind(Bench(chosen.space, task, dataset, Path(name), chosen.seed))
        with Workers.around(evaluator, count) as workers:
            _warm_up(workers, strategy)
            with FileJournal(Path(name), fingerprint="benchmark") as journal:
                start = time.perf_counter()
                found = list(search(strategy, workers, chosen.objective, journal, trials=trials, seed=chosen.seed))
                taken = time.perf_counter() - start
    reports = [trial.report for trial in found if trial.report is not None]
    if errors := [report.error for report in reports if report.error is not None]:
        raise RuntimeError(f"{len(errors)} of {len(found)} trials failed: {errors[0]}")
    return Run(len(found) / taken, [report.seconds for report in reports])


def _warm_up(workers: Workers, strategy: Random) -> None:
    """Train one step in every process, after which it has loaded what it needs."""
    first = Proposal(strategy.choices.sample(np.random.default_rng(0)), steps=1)
    for future in [workers.submit(Trial(number, first)) for number in range(workers.slots)]:
        if error := future.result().error:
            raise RuntimeError(f"the first step failed: {error}")


def possible(seconds: list[float], workers: int) -> float:
    """How much faster trials of these lengths can be with so many workers, when each begins as soon as it may."""
    free, told = [0.0] * workers, [0.0]
    for number, length in enumerate(seconds):
        slot = number % workers
        free[slot] = max(free[slot], told[max(0, number + 1 - workers)]) + length
        told.append(max(told[-1], free[slot]))
    return sum(seconds) / told[-1]


def compare(trials: int, repeats: int, workers: int) -> dict[str, float]:
    """Measure both, taking turns."""
    project = settings.read(ROOT)
    runs: dict[int, list[Run]] = {1: [], workers: []}
    with tempfile.TemporaryDirectory() as name:
        prepared = Path(name) / "prepared"
        prepare(Digits(), project.prepare.splits, prepared, task="image_classification", root=ROOT)
        for repeat in range(repeats):
            for count in (1, workers) if repeat % 2 == 0 else (workers, 1):
                runs[count].append(measure(project, prepared, count, trials))
            one, more = runs[1][-1].rate, runs[workers][-1].rate
            print(f"repeat {repeat}: {one:.3f} trials per second with 1 worker, {more:.3f} with {workers}", flush=True)
    ratios = [more.rate / one.rate for more, one in zip(runs[workers], runs[1], strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "lowest_ratio": round(min(ratios), 3),
        "highest_ratio": round(max(ratios), 3),
        "possible": round(statistics.median(possible(run.seconds, workers) for run in runs[1]), 3),
        "trials_per_second_1": round(statistics.median(run.rate for run in runs[1]), 4),
        f"trials_per_second_{workers}": round(statistics.median(run.rate for run in runs[workers]), 4),
    }


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="how many to compare with one; more than one")
    options = parser.parse_args()
    if options.workers < 2:
        parser.error(f"--workers is {options.workers}: give at least 2")
    pin_threads()
    facts = {"repeats": options.repeats, "trials": options.trials, "workers": options.workers, "cores": len(os.sched_getaffinity(0))}
    print(json.dumps({**compare(options.trials, options.repeats, options.workers), **facts}))


if __name__ == "__main__":
    main()
