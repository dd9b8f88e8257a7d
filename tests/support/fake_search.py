"""Small searches that tests share: evaluators and a strategy whose results are arithmetic, and a search as a process of its own."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PrivateAttr

from nas.evaluators.base import Evaluator
from nas.journal import FileJournal
from nas.load import load
from nas.objective import Objective
from nas.strategies.base import Strategy
from nas.testing.searches import CHOICES, Fake, gradient_at, number_of, plain, run_search
from nas.trial import History, Proposal, Report, Trial

__all__ = [
    "CHOICES",
    "Fake",
    "Learner",
    "Mortal",
    "Pupil",
    "gradient_at",
    "number_of",
    "plain",
    "run_search",
    "search_in",
    "small_strategy",
    "strategy_of",
]


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


def small_strategy(name: str) -> Strategy:
    """A new strategy, not bound; the population is small so that short searches reach every phase."""
    small: dict[str, dict[str, Any]] = {
        "evolution": {"population": 6, "tournament": 3},
        "gp": {"startup": 38},  # each model costs a tenth of a second
        "predictor": {"neighbours": 20},  # fewer than there are, so that the draw matters
    }
    made: Strategy = load("strategies", name)(**small.get(name, {}))
    return made


def strategy_of(name: str) -> Strategy:
    """A new small strategy, bound to CHOICES."""
    return (Pupil() if name == "pupil" else small_strategy(name)).bind(CHOICES)


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
