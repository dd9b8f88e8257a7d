"""What the search itself costs per trial: an evaluator that does nothing, in memory and with a journal on disk.

    python benchmarks/loop_overhead.py --trials 2000 --repeats 5

The last line is JSON: medians over the repeats, in milliseconds per trial. CPU is the time of this process; wall time
with a journal is mostly the disk, which confirms every trial. The two figures without a strategy in the name are those
of the dearer strategy.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from nas.architecture import Choice, Choices
from nas.evaluators.base import Evaluator
from nas.journal import FileJournal, Journal, MemoryJournal
from nas.load import load
from nas.objective import Objective
from nas.search import search
from nas.trial import Report, Trial

STRATEGIES = ("random", "evolution")
CHOICES = Choices([Choice(f"edge_{number}", ("none", "skip", "conv1", "conv3", "pool3")) for number in range(6)])


class Constant(Evaluator):
    """Answers at once, always the same."""

    def evaluate(self, trial: Trial) -> Report:
        """Return one accuracy."""
        return Report({"accuracy": 0.5})


class Waiting(Evaluator):
    """Waits, and answers always the same. Like all that goes to other nodes, it is of a module that they can import."""

    seconds: float

    def evaluate(self, trial: Trial) -> Report:
        """Return one accuracy."""
        time.sleep(self.seconds)
        return Report({"accuracy": 0.5}, self.seconds)


class Cost(NamedTuple):
    """Milliseconds per trial."""

    cpu: float
    wall: float


def measure(strategy: str, journal: Journal, trials: int, seed: int) -> Cost:
    """Run one search."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = sum(1 for _ in search(load("strategies", strategy)().bind(CHOICES), Constant(), Objective(), journal, trials=trials, seed=seed))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if found != trials:
        raise RuntimeError(f"{found} trials were made, not {trials}")
    return Cost(cpu / trials * 1000, wall / trials * 1000)


def compare(trials: int, repeats: int) -> dict[str, float]:
    """Measure every strategy with both journals, taking turns; returns medians by name."""
    costs: dict[str, list[Cost]] = {}
    for repeat in range(repeats):
        for strategy in STRATEGIES:
            costs.setdefault(f"memory_{strategy}", []).append(measure(strategy, MemoryJournal(), trials, repeat))
            with (
                tempfile.TemporaryDirectory(dir=".", prefix=".loop-overhead-") as folder,
                FileJournal(Path(folder), fingerprint="x") as journal,
            ):
                costs.setdefault(f"journal_{strategy}", []).append(measure(strategy, journal, trials, repeat))
    medians = {name: Cost(*(statistics.median(values) for values in zip(*all_of, strict=True))) for name, all_of in costs.items()}
    result: dict[str, float] = {}
    for kind in ("memory", "journal"):
        dearest = max((medians[f"{kind}_{strategy}"] for strategy in STRATEGIES), key=lambda cost: cost.cpu)
        result |= {f"{kind}_ms_per_trial": dearest.cpu, f"{kind}_wall_ms_per_trial": dearest.wall}
    for name, cost in medians.items():
        print(f"{name}: {cost.cpu:.4f} ms CPU, {cost.wall:.4f} ms wall per trial")
        result[f"{name}_ms_per_trial"] = cost.cpu
    return {name: round(value, 4) for name, value in result.items()}


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    measure("random", MemoryJournal(), 50, 0)
    print(json.dumps({"trials": options.trials, "repeats": options.repeats, **compare(options.trials, options.repeats)}))


if __name__ == "__main__":
    main()
