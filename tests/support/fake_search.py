"""Small searches that tests share: evaluators and a strategy whose results are arithmetic, and a search as a process of its own."""

import json
import os
import random
import signal
import sys
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from nas.architecture import Choice, Choices
from nas.evaluators.base import Evaluator, guarded
from nas.journal import FileJournal, Journal, encode_trial
from nas.load import load
from nas.objective import Objective
from nas.search import search
from nas.strategies.base import Strategy
from nas.trial import History, Proposal, Report, Trial

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
    trouble: bool = False
    """Whether some architectures raise in each method, or have no finite accuracy."""
    reuse: bool = True
    sleep_seconds: float = 0.002
    _evaluated: list[int] = PrivateAttr(default_factory=list)

    @property
    def slots(self) -> int:
        return self.width

    @property
    def evaluated(self) -> list[int]:
        return self._evaluated

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"gradient", "curvature", "steps"})

    def evaluate(self, trial: Trial) -> Report:
        self._evaluated.append(trial.number)
        number = number_of(trial.architecture)
        self._fail(number, 0, "evaluate")
        accuracy = float("nan") if self.trouble and number % 20 == 1 else number % 1009 / 1009
        gradient = None if trial.proposal.mixture is None else gradient_at(trial.proposal.mixture)
        return Report({"accuracy": accuracy, "parameters": number % 1000}, seconds=random.random(), gradient=gradient)

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        number = number_of(proposal.architecture)
        self._fail(number, 2, "inspect")
        return {"parameters": number % 1000}

    def identity(self, proposal: Proposal) -> str | None:
        number = number_of(proposal.architecture)
        self._fail(number, 3, "identity")
        return str(number) if self.reuse and proposal.mixture is None else None

    def submit(self, trial: Trial) -> "Future[Report]":
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


class Mortal(Evaluator):
    """Ends, waits or answers as the choice `how` says, and leaves an x in a file of that name every time it begins."""

    folder: Path

    def evaluate(self, trial: Trial) -> Report:
        how = trial.architecture["how"]
        if how == "wait":
            (self.folder / "pid").write_text(str(os.getpid()))
        with (self.folder / how).open("a") as file:
            file.write("x")
        if how == "exit":
            os._exit(3)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while how == "wait" and not (self.folder / "go").exists():
            time.sleep(0.01)
        return Report({"accuracy": (lambda: 1.0) if how == "unsendable" else float(trial.number)})  # type: ignore[dict-item]


class Learner(Evaluator):
    """Its answers depend on all evaluations before, as those of a supernet do."""

    commit_every: ClassVar[int] = 7
    _weights: Any = PrivateAttr(default=None)

    def evaluate(self, trial: Trial) -> Report:
        import torch

        before = torch.zeros(3) if self._weights is None else self._weights
        self._weights = before * 0.9 + torch.tensor([number_of(trial.architecture) % (17 + shift) / 17.0 for shift in range(3)])
        return Report({"accuracy": float(self._weights.sum())})

    def state_dict(self) -> dict[str, Any]:
        return {} if self._weights is None else {"weights": self._weights.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._weights = state["weights"].clone()


class Pupil(Strategy):
    """Learns a preference for options that did well; changes what it knows when asked and when told."""

    _liked: dict[str, float] = PrivateAttr(default_factory=dict)
    _asked: int = PrivateAttr(default=0)

    def ask(self, history: History, rng: np.random.Generator) -> Proposal:
        self._asked += 1
        offers = [self.choices.sample(rng) for _ in range(1 + self._asked % 4)]
        return Proposal(max(offers, key=lambda offer: sum(self._liked.get(f"{key}={option}", 0.5) for key, option in offer.items())))

    def tell(self, trial: Trial) -> None:
        gain = trial.score.values[0] if trial.score and trial.score.values else -1.0
        for key, option in trial.architecture.items():
            self._liked[f"{key}={option}"] = 0.8 * self._liked.get(f"{key}={option}", 0.5) + 0.2 * gain

    def state_dict(self) -> dict[str, Any]:
        return {"liked": dict(self._liked), "asked": self._asked}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._liked, self._asked = dict(state["liked"]), state["asked"]


def strategy_of(name: str) -> Strategy:
    """A new strategy, bound to CHOICES; the population is small so that short searches reach every phase."""
    if name == "pupil":
        return Pupil().bind(CHOICES)
    small: dict[str, dict[str, Any]] = {
        "evolution": {"population": 6, "tournament": 3},
        "gp": {"startup": 38},  # each model costs a tenth of a second
        "predictor": {"neighbours": 20},  # fewer than there are, so that the draw matters
    }
    made: Strategy = load("strategies", name)(**small.get(name, {}))
    return made.bind(CHOICES)


def plain(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Trials as JSON values without the seconds, which nobody can repeat; texts, so that NaN equals NaN."""
    return [{name: repr(value) for name, value in encode_trial(trial).items() if name != "seconds"} for trial in trials]


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


def search_in(folder: Path, kind: str, trials: int, stop: int | None = None) -> list[Trial]:
    """One of two searches in a folder: `learning` (state, snapshots) or `parallel` (three slots, rejections, reuse, failures)."""
    if kind == "learning":
        strategy, evaluator, objective = strategy_of("pupil"), Learner(), Objective()
    else:
        strategy, evaluator = strategy_of("evolution"), Fake(width=3, trouble=True, sleep_seconds=0.01)
        objective = Objective(constraints={"parameters": "<= 800"})
    with FileJournal(folder, fingerprint=kind) as journal:
        return run_search(strategy, evaluator, journal, trials, objective=objective, stop=stop)


if __name__ == "__main__":
    search_in(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
