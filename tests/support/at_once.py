"""Stages without processes of their own: starting them takes most of the time of a small project, and has tests elsewhere."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Self

import pytest

from flows import verify_trial
from flows.stages import search, train
from nas.evaluators.base import Evaluator


class Slot:
    """Answers in this process."""

    def __init__(self, work: Any) -> None:
        self._work = work

    def run(self, question: Any, patience: float | None = None) -> Any:
        return self._work.answer(question)

    def end(self) -> None:
        """Nothing runs."""


class Pool:
    """Calls at once, in this process."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing runs."""

    def submit(self, function: Callable[..., Any], *given: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(function(*given))
        return future


class Workers(Pool):
    """Evaluates at once."""

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__(1)
        self._evaluator = evaluator

    @classmethod
    def around(cls, evaluator: Evaluator, count: int, devices: Sequence[str] = ()) -> Self:
        return cls(evaluator)

    def submit(self, trial: Any) -> "Future[Any]":  # type: ignore[override]
        return self._evaluator.submit(trial)


def work_here(patch: pytest.MonkeyPatch) -> None:
    """Search, measure, train and verify in this process."""
    patch.setattr(search, "_workers", lambda stack, settings, chosen, judge, folder: judge)
    patch.setattr("nas.measured.Slot", Slot)
    patch.setattr(train, "pool_of", Pool)
    for stage in (search, train):
        patch.setattr(stage, "start_server", lambda *modules: None)
    patch.setattr(verify_trial, "Workers", Workers)
