"""What Dask and Ray cost by themselves: start, size in memory, and a task that does nothing; the ground for choosing between them.

    pip install distributed psutil && python benchmarks/raw_engines.py dask
    pip install ray psutil && python benchmarks/raw_engines.py ray

Nothing of nasflow takes part, so that each runs in an environment of its own. Two worker processes; two tasks, or `--under-way`, are
under way at any time, and the oldest one is waited for, as a search does. Ray runs them as calls of two actors, its quickest way.
The last line is JSON: medians over the repeats, in milliseconds per task; memory is that of all processes, in MiB, each page shared by
several of them counted once (proportional set size).
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

WORKERS = 2
Start = Callable[[int], Any]
Wait = Callable[[Any], Any]


def nothing(number: int) -> int:
    """Do nothing."""
    return number


@contextmanager
def dask() -> Iterator[tuple[Start, Wait]]:
    """Two processes of a Dask cluster."""
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        yield (lambda number: client.submit(nothing, number, key=f"nothing-{number}")), (lambda task: task.result())


@contextmanager
def ray() -> Iterator[tuple[Start, Wait]]:
    """Two actors of Ray."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)

    class Actor:
        def answer(self, number: int) -> int:
            return nothing(number)

    actors = [ray.remote(Actor).remote() for _ in range(WORKERS)]
    try:
        yield (lambda number: actors[number % WORKERS].answer.remote(number)), ray.get
    finally:
        ray.shutdown()


def seconds_of(start: Start, wait: Wait, numbers: range, under_way: int) -> float:
    """Run tasks with these numbers, so many under way at any time."""
    begun, waiting = time.perf_counter(), deque[Any]()
    for number in numbers:
        if len(waiting) == under_way:
            wait(waiting.popleft())
        waiting.append(start(number))
    while waiting:
        wait(waiting.popleft())
    return time.perf_counter() - begun


def memory() -> float:
    """MiB of this process and all that it started."""
    this = psutil.Process()
    total = 0
    for process in [this, *this.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=["dask", "ray"])
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--under-way", type=int, default=WORKERS, help="tasks at any time; more than workers wait at the scheduler")
    options = parser.parse_args()
    begun, before = time.perf_counter(), memory()
    with {"dask": dask, "ray": ray}[options.engine]() as (start, wait):
        seconds_of(start, wait, range(WORKERS), WORKERS)
        opened = time.perf_counter() - begun
        firsts = range(WORKERS, WORKERS + options.repeats * options.tasks, options.tasks)
        taken = [seconds_of(start, wait, range(first, first + options.tasks), options.under_way) for first in firsts]
        used = memory() - before
    result = {
        "engine": options.engine,
        "version": importlib.metadata.version("distributed" if options.engine == "dask" else "ray"),
        "open_seconds": round(opened, 2),
        "ms_per_task": round(1000 * statistics.median(taken) / options.tasks, 3),
        "highest_ms_per_task": round(1000 * max(taken) / options.tasks, 3),
        "memory_mib": round(used),
    }
    print(
        json.dumps(
            result
            | {"under_way": options.under_way, "tasks": options.tasks, "repeats": options.repeats, "cores": len(os.sched_getaffinity(0))}
        )
    )


if __name__ == "__main__":
    main()
