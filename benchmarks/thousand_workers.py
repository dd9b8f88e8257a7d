"""What a search with very many workers costs: the real loop, strategies and journal under a clock that only counts.

    python benchmarks/thousand_workers.py --workers 1000 --trials 3000

No trial is run. Each one takes as many seconds of a virtual clock as a log-normal distribution gives it (`--mean`, `--spread`), and
the answer is always the same; what the loop, the strategy and the journal cost is measured on the real clock, after the first
trials have filled all workers. The last line is JSON, for every strategy:

`cpu_ms_per_trial`: processor time of one turn of the loop, and `asks_per_second`, its inverse: more no search can have. `ms_per_trial`
is the real time with a commit that the disk has confirmed, which is mostly the disk's.
`journal_bytes_per_trial`, and `journal_bytes_per_second` at the rate at which the places finish trials of that mean.
`busy`: the share of the virtual time of all places that was spent in trials; what is missing waits, because trial n is asked when
trial n - workers is told, and results are told in order. Fewer `--places` than workers always have something to do.
`shortest_mean_seconds`: trials that are shorter on average come faster than the loop turns, by its real time.
"""

import argparse
import heapq
import json
import math
import os
import statistics
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from loop_overhead import CHOICES, Constant
from pydantic import PrivateAttr

from nas.journal import FileJournal
from nas.load import load
from nas.objective import Objective
from nas.search import search
from nas.trial import Report, Trial


class Virtual(Constant):
    """Answers at once; its clock tells when the answers would have come, with `width` trials begun and `places` to evaluate them."""

    width: int
    places: int
    mean: float
    spread: float

    _now: float = PrivateAttr(0.0)
    _free: list[float] = PrivateAttr(default_factory=list)
    _spans: list[tuple[float, float]] = PrivateAttr(default_factory=list)

    @property
    def slots(self) -> int:
        """As many as `width`."""
        return self.width

    @property
    def now(self) -> float:
        """Virtual seconds since the search began."""
        return self._now

    def busy(self, since: float) -> float:
        """The share of the places' virtual time, from a moment until now, that was spent in trials."""
        spent = sum(max(0.0, min(end, self._now) - max(start, since)) for start, end in self._spans)
        return spent / ((self._now - since) * self.places)

    def submit(self, trial: Trial) -> "Future[Report]":
        """Start a trial as soon as a place is free; who asks for its result waits until it ends."""
        normal = np.random.default_rng([trial.number, 1]).standard_normal()
        seconds = self.mean * math.exp(self.spread * normal - self.spread**2 / 2)
        free = heapq.heappop(self._free) if len(self._free) == self.places else 0.0
        start = max(self._now, free)
        heapq.heappush(self._free, start + seconds)
        self._spans.append((start, start + seconds))
        return _Ending(self, start + seconds, seconds)

    def pass_until(self, end: float, seconds: float) -> Report:
        """Let the clock reach the end of a trial."""
        self._now = max(self._now, end)
        return Report({"accuracy": 0.5}, seconds)


class _Ending(Future[Report]):
    def __init__(self, clock: Virtual, end: float, seconds: float) -> None:
        super().__init__()
        self._clock, self._end, self._seconds = clock, end, seconds

    def result(self, timeout: float | None = None) -> Report:
        return self._clock.pass_until(self._end, self._seconds)


def measure(strategy: str, evaluator: Virtual, trials: int) -> dict[str, Any]:
    """Run one search; what it costs once every worker has a trial."""
    turns: list[float] = []
    with tempfile.TemporaryDirectory(dir=".", prefix=".thousand-workers-") as name:
        path = Path(name) / "journal.jsonl"
        with FileJournal(Path(name), fingerprint="x") as journal:
            running = search(load("strategies", strategy)().bind(CHOICES), evaluator, Objective(), journal, trials=trials)
            next(running)
            begun, since, processor, start = path.stat().st_size, evaluator.now, time.process_time(), time.perf_counter()
            for _ in range(trials - evaluator.width):
                next(running)
                now = time.perf_counter()
                turns.append(now - start)
                start = now
            processor = time.process_time() - processor
            size, busy = path.stat().st_size - begun, evaluator.busy(since)
    turn, per_trial = statistics.mean(turns), size / len(turns)
    return {
        "cpu_ms_per_trial": round(1000 * processor / len(turns), 3),
        "ms_per_trial": round(1000 * turn, 3),
        "ms_per_trial_median": round(1000 * statistics.median(turns), 3),
        "asks_per_second": round(len(turns) / processor, 1),
        "journal_bytes_per_trial": round(per_trial),
        "trials_per_second_of_all_workers": round(busy * evaluator.places / evaluator.mean, 3),
        "journal_bytes_per_second": round(per_trial * busy * evaluator.places / evaluator.mean),
        "busy": round(busy, 3),
        "shortest_mean_seconds": round(turn * evaluator.places, 2),
    }


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--places", type=int, help="trials that the cluster really runs at once; as many as workers unless given")
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--mean", type=float, default=60.0, help="seconds of a trial")
    parser.add_argument("--spread", type=float, default=0.3, help="standard deviation of the logarithm of those seconds")
    parser.add_argument("--strategies", nargs="+", default=["random", "evolution"])
    options = parser.parse_args()
    if options.trials < 2 * options.workers:
        parser.error(f"--trials is {options.trials}: give at least {2 * options.workers}, twice the workers")
    result: dict[str, Any] = {}
    for strategy in options.strategies:
        evaluator = Virtual(width=options.workers, places=options.places or options.workers, mean=options.mean, spread=options.spread)
        result[strategy] = measure(strategy, evaluator, options.trials)
        print(f"{strategy}: {result[strategy]}", flush=True)
    facts = {
        "workers": options.workers,
        "places": options.places or options.workers,
        "trials": options.trials,
        "mean_seconds": options.mean,
        "spread": options.spread,
    }
    print(json.dumps({**result, **facts, "cores": len(os.sched_getaffinity(0))}))


if __name__ == "__main__":
    main()
