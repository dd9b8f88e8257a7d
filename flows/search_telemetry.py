"""What a search was like: how fast it improved, how widely it looked, what the cache saved, where its time went."""

import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, final

import numpy as np

from flows import console
from flows.searches import Search
from nas import atomic
from nas.strategies.base import Strategy
from nas.tasks.base import Task
from nas.trial import Trial

_PAIRED = 64
"""How many architectures, evenly spread over the search, are compared in pairs."""


def of(trials: Sequence[Trial], strategy: Strategy, chosen: Search, task: Task) -> dict[str, Any]:
    """Return what telemetry.json holds: JSON values that a search run again gives again.

    `best_so_far`: (trial, score) wherever a comparable score improved, as the objective counts it, greater for better. `different`:
    functions among the trials. `distance`: mean share of the choices in which two trials differ, from 0 to 1. `saved`: trials that
    took over another's result. `curves`: what the strategy recorded, such as logits, entropy and skip share of a gradient method.
    `choices`: the options of every choice. `random`: the trials that were drawn at random and can be compared, the baseline of a
    search. `shares`: the metrics that are shares of examples, whose noise follows from their number.
    """
    return {
        "trials": len(trials),
        "different": len({strategy.canonical(trial.architecture) for trial in trials}),
        "distance": _distance(trials),
        "saved": sum(trial.report is not None and trial.report.reused is not None for trial in trials),
        "best_so_far": _improvements([trial for trial in strategy.candidates(trials) if chosen.evaluator.comparable(trial)]),
        "curves": {name: [float(value) for value in values] for name, values in strategy.telemetry().items()},
        "choices": {choice.name: list(choice.options) for choice in strategy.choices},
        "random": _random(trials, strategy, chosen),
        "shares": list(task.share_names),
    }


def _random(trials: Sequence[Trial], strategy: Strategy, chosen: Search) -> list[int]:
    """Where trials only train shared weights, those that are looked at in the end were chosen, and none is random."""
    if chosen.evaluator.looks:
        return []
    comparable = [trial for trial in strategy.candidates(trials) if chosen.evaluator.comparable(trial)]
    return [trial.number for trial in comparable if trial.number < strategy.random_first]


def spent(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return what the lineage of a search says of its evaluations, in whichever process they were made: seconds, all and the longest."""
    seconds = [trial.report.seconds for trial in trials if trial.report is not None and trial.report.seconds > 0]
    figures = {"trials": len(seconds), "seconds": round(sum(seconds), 3), "longest": round(max(seconds, default=0.0), 3)}
    return {"evaluations": figures}


def _improvements(trials: Sequence[Trial]) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    best = None
    for trial in trials:
        if trial.status == "done" and trial.score is not None and (best is None or trial.score > best):
            best = trial.score
            found.append((trial.number, best.values[0]))
    return found


def _distance(trials: Sequence[Trial]) -> float:
    places = sorted({round(place) for place in np.linspace(0, len(trials) - 1, _PAIRED).tolist()}) if trials else []
    pairs = [(trials[one].architecture, trials[two].architecture) for one, two in combinations(places, 2)]
    shares = [sum(two[name] != option for name, option in one.items()) / len(one) for one, two in pairs if len(one)]
    return round(float(np.mean(shares)), 6) if shares else 0.0


@final
class Clock:
    """Measures which share of a search's time was not spent in evaluations."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._start: float | None = None

    def timed(self, trials: Iterator[Trial]) -> Iterator[Trial]:
        """Pass trials on. Those of an earlier process, and those whose result was known, cost nothing."""
        start = time.perf_counter()
        for trial in trials:
            seconds = trial.report.seconds if trial.report is not None else 0.0
            now = time.perf_counter()  # trials of an earlier process come at once, the first one of this process takes its seconds
            if self._start is None and now - start >= seconds > 0:
                self._start = start
            if self._start is not None:
                self._seconds += seconds
            yield trial
            start = now if self._start is None else start

    def report(self, path: Path, slots: int) -> None:
        """Write the figures, and say them; nothing where this process evaluated nothing."""
        if self._start is None:
            return
        wall = time.perf_counter() - self._start
        share = max(0.0, 1 - self._seconds / (wall * slots))
        atomic.write_json(path, {"seconds": wall, "slots": slots, "seconds_in_evaluations": self._seconds, "share_outside": share})
        console.say(f"{share:.0%} of the search's time was not spent in evaluations")
