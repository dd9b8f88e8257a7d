"""What does measuring a candidate as a file cost, beside its training: export, parity, timing; and when it is known already?

    python benchmarks/measuring_cost.py --candidates 8 --exporters torchscript,dynamo

Random architectures of the space in params.yaml, on the digits, for the target there; the first one of each exporter is not counted,
since it pays for imports. Seconds are medians; CPU seconds say what an idle machine would take, wall seconds what this one took. The
last line is a JSON list with a row per exporter.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export.machine import Target
from export.structures import Costing
from flows import settings
from flows.searches import Search
from flows.settings import Settings
from nas.data.dataset import Dataset
from nas.data.prepare import Splits, prepare
from nas.data.sources.digits import Digits
from nas.evaluators.base import Bench
from nas.measured import Measured, Plan
from nas.process_start import pin_threads
from nas.trial import Proposal, Trial

ROOT = Path(__file__).parents[1]


class Spent(NamedTuple):
    """Seconds of the clock and of the processor."""

    wall: float
    core: float


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--exporters", default="torchscript,dynamo")
    parser.add_argument("--metrics", default="latency_ms", help="what is measured of each file, with commas between")
    options = parser.parse_args()
    if options.candidates < 1:
        sys.exit("measuring_cost: --candidates must be at least 1")
    pin_threads()
    chosen = settings.read(ROOT)
    with tempfile.TemporaryDirectory(prefix="nasflow-cost-") as place:
        bench = bench_of(chosen, Path(place))
        training = trained(chosen.search[-1], bench)
        print(f"training of one candidate: {training.wall:.2f} s, {training.core:.2f} s of CPU", flush=True)
        rows = [row(chosen, bench, exporter, options, training) for exporter in options.exporters.split(",")]
    print(json.dumps(rows))


def bench_of(chosen: Settings, place: Path) -> Bench:
    """The digits, prepared, and the space that is searched by default."""
    prepare(Digits(), Splits(), place / "prepared", task="image_classification", root=place)
    dataset, search = Dataset.open(place / "prepared"), chosen.search[-1]
    return Bench(search.space, chosen.prepare.task.bind(dataset.description), dataset, place / "run", search.seed)


def trained(search: Search, bench: Bench) -> Spent:
    """What the training of one random candidate takes."""
    architecture = bench.space.choices(bench.task).sample(np.random.default_rng(0))
    evaluator = search.evaluator.bind(bench)
    evaluator.warm_up()
    return spent(lambda: evaluator.evaluate(Trial(0, Proposal(architecture))))


def row(chosen: Settings, bench: Bench, exporter: str, options: argparse.Namespace, training: Spent) -> dict[str, Any]:
    """Measure with one exporter: every candidate twice, the second time from what was kept."""
    costing = Costing(Target(**chosen.target.model_dump()), exporter, chosen.export.tolerance, bench.folder / exporter)
    wanted = frozenset(options.metrics.split(","))
    measured = Measured.around(chosen.search[-1].evaluator, bench, wanted, Plan(costing, exporter, {}))
    choices, rng = bench.space.choices(bench.task), np.random.default_rng(1)
    first, cached = [], []
    for number in range(options.candidates + 1):
        proposal = Proposal(choices.sample(rng))
        new, again = (spent(lambda: measured.inspect(proposal)) for _ in range(2))  # noqa: B023 - called at once
        print(f"{exporter} {number}: {new.wall:.3f} s, {new.core:.3f} s of CPU; again {again.wall:.4f} s", flush=True)
        first.append(new)
        cached.append(again)
    return {
        "exporter": exporter,
        "candidates": options.candidates,
        "seconds_first": round(statistics.median(one.wall for one in first[1:]), 4),
        "cpu_seconds_first": round(statistics.median(one.core for one in first[1:]), 4),
        "seconds_cached": round(statistics.median(one.wall for one in cached[1:]), 5),
        "seconds_training": round(training.wall, 3),
        "cpu_seconds_training": round(training.core, 3),
        "metrics": sorted(wanted),
    }


def spent(work: Any) -> Spent:
    """What the work takes."""
    wall, core = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - core)


if __name__ == "__main__":
    main()
