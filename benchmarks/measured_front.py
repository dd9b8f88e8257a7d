"""Does measuring pay? The front found with [accuracy, -latency_ms] against the one found with [accuracy, -flops], in what counts.

    python benchmarks/measured_front.py --repeats 6 --trials 24 --steps 15

Both searches of a repeat have one seed, one strategy and equally many trials, on some of the digits, in the space of params.yaml; every
structure is measured once on this machine, so both are told the same latency of the same network. What counts is the hypervolume of
accuracy on `select` and measured latency of each search's own front, above the worst of both and as a share of the box up to accuracy 1
and no time; that of the FLOPs is measured when its search has ended. The verdict is that of the exact interval of the median of the
paired differences: larger, smaller, or a tie; with fewer than the 6 repeats that 95 % take there is none. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from nasbench201 import parse_strategy

from export.interval import median_interval
from export.machine import Target
from export.structures import Costing
from flows import settings
from nas.components import restore
from nas.data.dataset import Dataset
from nas.data.prepare import Splits, prepare
from nas.data.sources.digits import Digits
from nas.evaluators.base import Bench
from nas.evaluators.scratch import Scratch
from nas.front_measures import hypervolume
from nas.journal import MemoryJournal
from nas.measured import Measured, Plan
from nas.objective import Objective
from nas.pareto import pareto_front
from nas.process_start import pin_threads
from nas.search import search
from nas.trial import Trial

ROOT = Path(__file__).parents[1]
OBJECTIVES = {"latency": Objective(metrics=("accuracy", "-latency_ms")), "flops": Objective(metrics=("accuracy", "-flops"))}
Points = Sequence[tuple[float, float]]
"""Accuracy and milliseconds."""
CONFIDENCE = 0.95


@final
class Desk:
    """Where candidates are trained and measured; what was measured is kept for all repeats."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.options, self.place, self.chosen = options, place, settings.read(ROOT)
        prepare(Digits(), Splits(limit=options.limit), place / "prepared", task="image_classification", root=place)
        self.dataset = Dataset.open(place / "prepared")
        self.task = self.chosen.prepare.task.bind(self.dataset.description)

    def front(self, name: str, seed: int) -> tuple[Points, Points]:
        """Search; returns the measured points of its own front, and of all its trials."""
        options, space = self.options, self.chosen.search[-1].space
        bench = Bench(space, self.task, self.dataset, self.place / f"{name}-{seed}", seed)
        scratch = Scratch.model_validate({"steps": options.steps, "device": "cpu", "limits": {"seconds": None, "memory": None}})
        costing = Costing(Target(**self.chosen.target.model_dump()), "torchscript", 1e-4, self.place / "kept", options.seconds)
        measured = Measured.around(scratch.bind(bench), bench, frozenset({"latency_ms"}), Plan(costing, "benchmark", {}))
        strategy = restore("strategies", parse_strategy(options.strategy)).bind(
            space.choices(self.task), canonical=lambda architecture: space.canonical(architecture, self.task)
        )
        evaluator = measured if name == "latency" else scratch
        trials = list(search(strategy, evaluator, OBJECTIVES[name], MemoryJournal(), trials=options.trials, seed=seed))
        done = [trial for trial in trials if trial.status == "done"]
        return [_point(measured, trial) for trial in pareto_front(trials)], [_point(measured, trial) for trial in done]


def _point(measured: Measured, trial: Trial) -> tuple[float, float]:
    assert trial.report is not None
    return trial.report.metrics["accuracy"], measured.inspect(trial.proposal)["latency_ms"]


def volumes(desk: Desk, seed: int) -> dict[str, float]:
    """The shares of the box that both fronts of one repeat dominate."""
    found = {name: desk.front(name, seed) for name in OBJECTIVES}
    every = [point for _, points in found.values() for point in points]
    worst, slowest = min(accuracy for accuracy, _ in every), max(latency for _, latency in every)
    box = (1 - worst) * slowest
    return {
        name: hypervolume([(accuracy, -latency) for accuracy, latency in front], (worst, -slowest)) / box
        for name, (front, _) in found.items()
    }


def main() -> None:
    """Read the options, search, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--steps", type=int, default=15, help="of one candidate")
    parser.add_argument("--limit", type=int, default=500, help="digits in all")
    parser.add_argument("--seconds", type=float, default=0.1, help="to time one file")
    parser.add_argument("--strategy", default="nsga2:population=8")
    options = parser.parse_args()
    if options.repeats < 1:
        sys.exit("measured_front: --repeats must be at least 1")
    pin_threads()
    begin, rows = time.perf_counter(), list[dict[str, float]]()
    with tempfile.TemporaryDirectory(prefix="nasflow-front-") as place:
        desk = Desk(options, Path(place))
        for seed in range(options.repeats):
            rows.append(volumes(desk, seed))
            print(f"seed {seed}: latency {rows[-1]['latency']:.4f}, flops {rows[-1]['flops']:.4f}", flush=True)
    print(json.dumps(report(rows, options) | {"seconds": round(time.perf_counter() - begin, 1)}))


def report(rows: Sequence[dict[str, float]], options: argparse.Namespace) -> dict[str, Any]:
    """The medians, the interval of the paired differences, and the verdict."""
    differences = [row["latency"] - row["flops"] for row in rows]
    found = median_interval(differences, CONFIDENCE)
    verdict = "larger" if found.low > 0 else "smaller" if found.high < 0 else "tie"
    if found.confidence < CONFIDENCE:
        verdict = "too few repeats to say"
    return {
        "verdict": verdict,
        "difference": [round(value, 4) for value in (found.low, found.middle, found.high)],
        "confidence": round(found.confidence, 3),
        "latency": [round(row["latency"], 4) for row in rows],
        "flops": [round(row["flops"], 4) for row in rows],
        "repeats": len(rows),
        "trials": options.trials,
        "strategy": options.strategy,
    }


if __name__ == "__main__":
    main()
