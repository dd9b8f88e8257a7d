"""What every engine is: it runs evaluations side by side, somewhere. Where they run changes no result."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from nas.evaluators.base import BLAMELESS, Blameless, failure
from nas.processes import DiedError, LateError, Slot, Work
from nas.trial import Report, Trial

Answer = Report | Blameless
"""What comes of a trial: a report, or an error that no candidate is to blame for."""


class Session(ABC):
    """An engine at work; it ends with the context that `Engine.open` returns."""

    @abstractmethod
    def submit(self, slot: int, trial: Trial, patience: float | None) -> "Future[Report]":
        """Start the evaluation of a trial, `slot` counted from 0; `patience` is in seconds, from when the evaluation begins.

        The future raises no Exception but those that no candidate is to blame for, such as a full disk or a lost scheduler.
        """

    @property
    def description(self) -> str:
        """What runs where, in a few words for people; empty where that is plain."""
        return ""


class Engine(BaseModel, ABC):
    """Where evaluations run. Its fields are its settings; none of them is part of what names a run."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @abstractmethod
    def open(self, works: Sequence[Work], folder: Path | None) -> AbstractContextManager[Session]:
        """Get ready to run trials, one at a time for each of the `works`, which are equal unless their devices differ.

        folder: what evaluators write to and read from, which all of them must see; None where they need none.
        Raises MachineError when nothing can run, with the cure.
        """

    @property
    def device(self) -> str | None:
        """The device that every trial gets, whatever this machine has; None where the evaluator or `devices` say."""
        return None

    def wrong_devices(self, devices: Sequence[str]) -> str | None:
        """Say why trials cannot be given these devices of this machine, and the cure; None where they can."""
        return None


def ask(slot: Slot, trial: Trial, patience: float | None) -> Answer:
    """Evaluate a trial in the process of a slot, and turn whatever goes wrong there into a report with the reason."""
    start = time.perf_counter()
    try:
        answer: Answer = slot.run(trial, patience)
    except LateError as error:
        told = f"{error} of evaluation, so its process was ended: it hangs, or takes far longer than the limit of time"
        return Report(seconds=time.perf_counter() - start, error=told, kind="time")
    except DiedError as error:
        return Report(seconds=time.perf_counter() - start, error=str(error), kind="died")
    except Exception as error:  # noqa: BLE001 - a trial that cannot be sent, or a slot that has ended; the search must go on
        return failure(error, time.perf_counter() - start)
    return answer


def report_of(answer: Answer) -> Report:
    """Return the report of an answer. Raises what no candidate is to blame for."""
    if isinstance(answer, BLAMELESS):
        raise answer
    return answer
