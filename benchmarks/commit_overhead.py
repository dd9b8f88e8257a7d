"""What it costs that a killed search continues exactly: the search of params.yaml with everything durable, and without.

    python benchmarks/commit_overhead.py [--repeats 5] [--trials N] [--steps N]

Three ways take turns, each in new worker processes that are started before the clock: `durable` is the product; `forgetful` keeps
the journal in memory and writes candidates' weights; `nothing` also writes no weights or checkpoints. The last line is JSON: median
seconds, and the medians over the repeats of the ratios durable / nothing (`ratio`) and durable / forgetful (`ratio_journal`).
Measure on a quiet machine.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from flows import search_start, settings, tracking
from flows.searches import Search
from nas import atomic, checkpoint
from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.data.prepare import prepare
from nas.evaluators.base import Bench
from nas.evaluators.scratch import Scratch
from nas.journal import FileJournal, MemoryJournal
from nas.process_start import pin_threads
from nas.search import search
from nas.trial import Proposal, Report, Trial
from nas.workers import Workers

ROOT = Path(__file__).parents[1]
WAYS = ("durable", "forgetful", "nothing")


class Unwritten(Scratch):  # type: ignore[misc]
    """Trains from scratch and keeps nothing."""

    def evaluate(self, trial: Trial) -> Report:
        """Train a candidate as `scratch` does, with the writing taken out."""
        with mock.patch.object(checkpoint, "save", _keep_nothing), mock.patch.object(atomic, "write_json", _keep_nothing):
            return super().evaluate(trial)


def _keep_nothing(path: Path, value: Any) -> None:
    pass


def chosen(trials: int | None, steps: int | None) -> Search:
    """The last search of params.yaml, which must train from scratch; `trials` and `steps` make it shorter."""
    entry = settings.read(ROOT).search[-1]
    if not isinstance(entry.evaluator, Scratch):
        raise SystemExit("params.yaml does not train from scratch, and only that writes weights: choose the evaluator scratch")
    evaluator = entry.evaluator.model_copy(update={"steps": steps or entry.evaluator.steps})
    return entry.model_copy(update={"trials": trials or entry.trials, "evaluator": evaluator})


def seconds_of(way: str, entry: Search, task: Any, dataset: Dataset, folder: Path) -> float:
    """Search in one way, in a folder of its own; returns the seconds from the first proposal to the last commit."""
    evaluator = Unwritten(**dict(entry.evaluator)) if way == "nothing" else entry.evaluator
    bench = Bench(entry.space, task, dataset, folder, entry.seed)
    strategy = search_start.prepare(folder, entry.model_copy(update={"evaluator": evaluator.bind(bench)}), bench)
    with ExitStack() as stack:
        workers = stack.enter_context(Workers.around(evaluator, entry.workers))
        refused = Proposal(Architecture({}), mixture={})
        for future in [workers.submit(Trial(number, refused)) for number in range(entry.workers)]:
            future.result()
        journal = stack.enter_context(FileJournal(folder, fingerprint=way)) if way == "durable" else MemoryJournal()
        start = time.perf_counter()
        found = sum(1 for _ in search(strategy, workers, entry.objective, journal, trials=entry.trials, seed=entry.seed))
        taken = time.perf_counter() - start
    if found < entry.trials:
        raise RuntimeError(f"{found} trials were made, not {entry.trials}")
    return taken


def compare(repeats: int, trials: int | None, steps: int | None, folder: Path) -> dict[str, list[float]]:
    """Measure all ways by turns, another one first each time; returns the seconds of every repeat by way."""
    data, task = settings.read(ROOT).prepare, settings.read(ROOT).prepare.task
    prepare(data.source, data.splits, folder / "prepared", task="image_classification", root=ROOT)
    dataset = Dataset.open(folder / "prepared")
    task.bind(dataset.description)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(repeats):
        for turn in range(len(WAYS)):
            way = WAYS[(repeat + turn) % len(WAYS)]
            place = folder / f"{repeat}-{way}"
            place.mkdir()
            seconds[way].append(seconds_of(way, chosen(trials, steps), task, dataset, place))
            left = statistics.mean(value for values in seconds.values() for value in values) * (len(WAYS) * (repeats - repeat) - turn - 1)
            print(f"repeat {repeat + 1}/{repeats} {way:9} {seconds[way][-1]:7.2f} s, {left:.0f} s left", flush=True)
    return seconds


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, help="instead of those of params.yaml")
    parser.add_argument("--steps", type=int, help="of one candidate, instead of those of params.yaml")
    options = parser.parse_args()
    pin_threads()
    beside = ROOT / tracking.WORK  # on the project's disk, which a folder for temporary files may not be, and passed over by Git
    beside.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside, prefix="benchmark-") as folder:
        seconds = compare(options.repeats, options.trials, options.steps, Path(folder).resolve())
    ratios = {
        name: [round(durable / other, 4) for durable, other in zip(seconds["durable"], seconds[way], strict=True)]
        for name, way in (("ratio", "nothing"), ("ratio_journal", "forgetful"))
    }
    result = {
        **{name: statistics.median(values) for name, values in ratios.items()},
        **{f"{name}s": values for name, values in ratios.items()},
        "median_seconds": {way: round(statistics.median(values), 3) for way, values in seconds.items()},
        "repeats": options.repeats,
        "cores": len(os.sched_getaffinity(0)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
