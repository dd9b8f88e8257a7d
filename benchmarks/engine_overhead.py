"""What an engine costs per trial, and how much of several workers it leaves: processes of this machine, and clusters.

    python benchmarks/engine_overhead.py --repeats 5 --trials 300

First searches whose trials do nothing, with 2 workers on every engine by turns: milliseconds per trial, of the whole loop, without
a journal on disk. Then searches whose trials only wait, with 1, 2 and 4 workers: the efficiency is the time that those trials would
take if nothing else did, by the time that they took. Waiting needs no core, so it tells what the engine costs and not what the
machine has; `worker_scaling.py` tells what trainings gain. Processes are started before a clock starts; how long that took is in
`open_seconds`. A cluster has a node for every worker. The last line is JSON: medians over the repeats.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from loop_overhead import CHOICES, Constant, Waiting

from nas.engines.base import Engine
from nas.engines.dask import Dask
from nas.engines.local import Local
from nas.engines.ray import Ray
from nas.evaluators.base import Evaluator
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.strategies.random import Random
from nas.trial import Proposal, Trial
from nas.workers import Workers

WORKERS = (1, 2, 4)


def engine_of(name: str, workers: int) -> Engine:
    """Return an engine by its name; a cluster has one node for every worker."""
    clusters = {"dask": Dask, "ray": Ray}
    return clusters[name](nodes=workers) if name in clusters else Local()


def started(stack: ExitStack, name: str, evaluator: Evaluator, count: int) -> tuple[Workers, float]:
    """Start workers and let each answer once; also returns the seconds that it took."""
    start = time.perf_counter()
    workers = stack.enter_context(Workers.around(evaluator, count, engine=engine_of(name, count)))
    first = Proposal(CHOICES.sample(np.random.default_rng(0)))
    for future in [workers.submit(Trial(number, first)) for number in range(2 * count)]:
        if error := future.result().error:
            raise RuntimeError(f"the first trial failed: {error}")
    return workers, time.perf_counter() - start


def seconds_of(workers: Workers, trials: int, seed: int) -> float:
    """Run one search."""
    start = time.perf_counter()
    found = sum(1 for _ in search(Random().bind(CHOICES), workers, Objective(), MemoryJournal(), trials=trials, seed=seed))
    if found != trials:
        raise RuntimeError(f"{found} trials were made, not {trials}")
    return time.perf_counter() - start


def overhead(names: Sequence[str], trials: int, repeats: int) -> dict[str, Any]:
    """Trials that do nothing, 2 at once, the engines by turns."""
    taken: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        ready = {name: started(stack, name, Constant(), 2) for name in names}
        for repeat in range(repeats):
            for name in names if repeat % 2 == 0 else reversed(names):
                taken[name].append(1000 * seconds_of(ready[name][0], trials, repeat) / trials)
                print(f"repeat {repeat} {name:5} {taken[name][-1]:.3f} ms per trial", flush=True)
    return {
        "ms_per_trial": {name: round(statistics.median(values), 3) for name, values in taken.items()},
        "ms_per_trial_highest": {name: round(max(values), 3) for name, values in taken.items()},
        "open_seconds": {name: round(seconds, 2) for name, (_, seconds) in ready.items()},
    }


def efficiency(name: str, wait: float, each: int, repeats: int) -> dict[str, float]:
    """The efficiency with every number of workers, `each` trials for every one of them."""
    found = {}
    for count in WORKERS:
        with ExitStack() as stack:
            workers, _ = started(stack, name, Waiting(seconds=wait), count)
            values = [each * wait / seconds_of(workers, each * count, repeat) for repeat in range(repeats)]
        found[str(count)] = round(statistics.median(values), 3)
        print(f"{name:5} {count} workers: efficiency {found[str(count)]:.3f}", flush=True)
    return found


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wait", type=float, default=0.25, help="seconds that a trial waits where efficiency is measured")
    parser.add_argument("--each", type=int, default=20, help="such trials for every worker")
    parser.add_argument("--engines", nargs="+", choices=["local", "dask", "ray"], default=["local", "dask"])
    options = parser.parse_args()
    result = overhead(options.engines, options.trials, options.repeats)
    result["efficiency"] = {name: efficiency(name, options.wait, options.each, options.repeats) for name in options.engines}
    facts = {"trials": options.trials, "repeats": options.repeats, "wait_seconds": options.wait, "cores": len(os.sched_getaffinity(0))}
    print(json.dumps(result | facts))


if __name__ == "__main__":
    main()
