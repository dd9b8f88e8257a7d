"""What every evaluator is: it turns a proposal into metrics."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from nas.trial import Proposal, Report, Trial


class Evaluator(BaseModel, ABC):
    """Evaluates proposals. Its fields are its settings; only `evaluate` must be written."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    commit_every: ClassVar[int] = 1
    """Trials between two commits: 1 when nothing is remembered, hundreds when each evaluation changes a large state."""

    @property
    def slots(self) -> int:
        """How many evaluations run at once."""
        return 1

    def metric_names(self, task: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the metrics in a report, given those of the task."""
        return task

    @abstractmethod
    def evaluate(self, trial: Trial) -> Report:
        """Evaluate the proposal of a trial. May raise: the search records the reason and goes on."""

    def inspect(self, proposal: Proposal) -> Mapping[str, float]:
        """Return the metrics that are known without training; constraints on them are decided before it."""
        return {}

    def identity(self, proposal: Proposal) -> str | None:
        """Return a key that two proposals share exactly when one's result may stand for the other's; None: never reuse."""
        return None

    def submit(self, trial: Trial) -> "Future[Report]":
        """Start an evaluation; this default finishes it before returning. The future never raises an Exception."""
        future: Future[Report] = Future()
        future.set_result(guarded(self, trial))
        return future

    def state_dict(self) -> dict[str, Any]:
        """What evaluations remember, as tensors, numbers, text, lists and dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""


def guarded(evaluator: Evaluator, trial: Trial) -> Report:
    """Evaluate, and turn whatever a candidate raises into a report with the reason."""
    start = time.perf_counter()
    try:
        return evaluator.evaluate(trial)
    except Exception as error:  # noqa: BLE001 - a candidate may raise anything at all, and the search must go on
        return Report(seconds=time.perf_counter() - start, error=reason(error))


def reason(error: BaseException) -> str:
    """One line that says what was raised."""
    text = str(error).strip().split("\n", 1)[0] or "no message"
    return f"{type(error).__name__}: {text}"
