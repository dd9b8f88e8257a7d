"""Searches whose results are arithmetic: a space of 1,250 architectures, an evaluator that needs no network, and how to compare trials."""

import json
import random
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from pydantic import PrivateAttr

from nas.architecture import Choice, Choices
from nas.evaluators.base import Evaluator, guarded
from nas.journal import Journal
from nas.objective import Objective
from nas.search import search
from nas.strategies.base import Strategy
from nas.trial import Proposal, Report, Trial
from nas.trial_record import encode_trial

CHOICES = Choices(
    [Choice(name, ("none", "skip", "conv3", "conv5", "pool")) for name in ("a", "b", "c", "d")] + [Choice("idle", ("x", "y"))]
)


def number_of(architecture: Mapping[str, str]) -> int:
    """A number that looks random and depends on what the architecture computes: the choice `idle` changes nothing."""
    return zlib.crc32(json.dumps({name: architecture[name] for name in sorted(architecture) if name != "idle"}).encode())


def gradient_at(mixture: Mapping[str, Any]) -> dict[str, Any]:
    """The gradient of a sum of squared distances of a mixture's weights to numbers that look random; 0 for options of weight 0."""
    gradient = {}
    for name, weights in mixture.items():
        goals = [zlib.crc32(f"{name} {index}".encode()) % 97 / 97 for index in range(len(weights))]
        gradient[name] = 2 * (weights - weights.new_tensor(goals)) * (weights != 0)
    return gradient


class Fake(Evaluator):
    """Metrics from arithmetic. With `width` slots, threads finish in an order that nobody can foresee."""

    width: int = 1
    """Evaluations at once."""
    trouble: bool = False
    """Whether some architectures raise in each method, or have no finite accuracy."""
    reuse: bool = True
    """Whether architectures that differ only in `idle` share a result."""
    sleep_seconds: float = 0.002
    """The longest that a thread sleeps."""

    _evaluated: list[int] = PrivateAttr(default_factory=list)

    @property
    def slots(self) -> int:
        """As many as `width`."""
        return self.width

    @property
    def evaluated(self) -> list[int]:
        """The numbers of the trials that were evaluated."""
        return self._evaluated

    @property
    def provides(self) -> frozenset[str]:
        """All that a strategy may require."""
        return frozenset({"gradient", "curvature", "steps"})

    def evaluate(self, trial: Trial) -> Report:
        """Report an accuracy, and a gradient for a mixture; the seconds are random. Raises RuntimeError in trouble."""
        self._evaluated.append(trial.number)
        number = number_of(trial.architecture)
        self._fail(number, 0, "evaluate")
        accuracy = float("nan") if self.trouble and number % 20 == 1 else number % 1009 / 1009
        gradient = None if trial.proposal.mixture is None else gradient_at(trial.proposal.mixture)
        return Report({"accuracy": accuracy, "parameters": number % 1000}, seconds=random.random(), gradient=gradient)

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        """Report the parameters. Raises RuntimeError in trouble."""
        number = number_of(proposal.architecture)
        self._fail(number, 2, "inspect")
        return {"parameters": number % 1000}

    def identity(self, proposal: Proposal) -> str | None:
        """The number; None for a mixture. Raises RuntimeError in trouble."""
        number = number_of(proposal.architecture)
        self._fail(number, 3, "identity")
        return str(number) if self.reuse and proposal.mixture is None else None

    def submit(self, trial: Trial) -> "Future[Report]":
        """Start an evaluation in a thread of its own, where there is more than one slot."""
        if self.width == 1:
            return super().submit(trial)
        future: Future[Report] = Future()

        def work() -> None:
            time.sleep(random.random() * self.sleep_seconds)
            future.set_result(guarded(self, trial))

        threading.Thread(target=work, daemon=True).start()
        return future

    def _fail(self, number: int, rest: int, where: str) -> None:
        if self.trouble and number % 20 == rest:
            raise RuntimeError(f"trouble in {where}")


def plain(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Trials as JSON values without the seconds, which nobody can repeat; texts, so that NaN equals NaN."""
    return [{name: repr(value) for name, value in encode_trial(trial).items() if name != "seconds"} for trial in trials]


def first_difference(one: Sequence[Trial], other: Sequence[Trial]) -> str | None:
    """Say which trial is the first that differs, and in what; None when all are the same but for their seconds."""
    for number, (mine, theirs) in enumerate(zip(plain(one), plain(other), strict=False)):
        for name in dict.fromkeys((*mine, *theirs)):
            if mine.get(name) != theirs.get(name):
                return f"trial {number} has {name} {mine.get(name)} and {theirs.get(name)}"
    return None if len(one) == len(other) else f"there are {len(one)} trials and {len(other)}"


def run_search(
    strategy: Strategy, evaluator: Evaluator, journal: Journal, trials: int, *, objective: Objective | None = None, stop: int | None = None
) -> list[Trial]:
    """Search, for `stop` trials at most, and close the search there as a kill would."""
    found: list[Trial] = []
    running = search(strategy, evaluator, objective or Objective(), journal, trials=trials, seed=3)
    while stop is None or len(found) < stop:
        trial = next(running, None)
        if trial is None:
            break
        found.append(trial)
    running.close()  # type: ignore[attr-defined]
    return found
