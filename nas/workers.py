"""Evaluations side by side: every slot is a thread that owns one process with one pinned thread of its own."""

import pickle
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, final

import torch
from pydantic import PrivateAttr

from nas.evaluators.base import BLAMELESS, Blameless, Evaluator, guarded, reason
from nas.evaluators.wrapper import Wrapper
from nas.processes import DiedError, LateError, Slot, Work, slot_threads
from nas.training.loop import pick_device
from nas.trial import Report, Trial


@final
class Workers(Wrapper):
    """Runs another evaluator in processes. Trial n runs in slot n modulo their number, which is free when a search begins trial n.

    A process that dies costs its trial one retry, then the trial fails. Where the evaluator's patience ends, the process is
    ended with it and the trial fails at once. Use as a context; the processes end with it, or when this process dies.
    """

    _threads: list[ThreadPoolExecutor] = PrivateAttr()
    _slots: list[Slot] = PrivateAttr()

    @classmethod
    def around(cls, evaluator: Evaluator, count: int, devices: Sequence[str] = ()) -> Self:
        """Return `count` slots for an evaluator, each on its own of the `devices`; none leave all to the evaluator's device.

        Raises ValueError when the evaluator remembers things, which cannot be split, when there is not one device for every
        slot, when this machine lacks one, or when the evaluator uses none.
        """
        if evaluator.commit_every != 1:
            raise ValueError(f"workers is {count}, but the evaluator keeps weights of its own between trials: set workers to 1")
        pool = cls()
        pool._evaluator = evaluator
        pool._threads = [slot_threads(1) for _ in range(count)]
        pool._slots = [Slot(work) for work in _spread(evaluator, count, devices)]
        return pool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """End every process, whatever it is doing: an evaluation that still runs here is one that nobody waits for."""
        for slot in self._slots:
            slot.end()
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)

    @property
    def slots(self) -> int:
        """How many evaluations run at once."""
        return len(self._slots)

    def warm_up(self) -> None:
        """Do nothing: every process warms up by itself."""

    def evaluate(self, trial: Trial) -> Report:
        """Evaluate in the process of the trial's slot and wait for it. Raises what no candidate is to blame for, such as a full disk."""
        start = time.perf_counter()
        try:
            answer: Report | Blameless = self._slots[trial.number % self.slots].run(trial, self.patience(trial))
        except LateError as error:
            told = f"{error} of evaluation, so its process was ended: it hangs, or takes far longer than the limit of time"
            return Report(seconds=time.perf_counter() - start, error=told, kind="time")
        except DiedError as error:
            return Report(seconds=time.perf_counter() - start, error=str(error), kind="died")
        if isinstance(answer, BLAMELESS):
            raise answer
        return answer

    def submit(self, trial: Trial) -> "Future[Report]":
        """Start an evaluation in the process of the trial's slot, after those that are already there."""
        return self._threads[trial.number % self.slots].submit(guarded, self, trial)


@final
class _Evaluations(Work):
    """What the process of a slot does."""

    def __init__(self, evaluator: Evaluator, device: str | None) -> None:
        self._evaluator, self._device = evaluator, device

    def begin(self) -> None:
        if self._device is not None and (device := pick_device(self._device)).type == "cuda":
            torch.cuda.set_device(device)
        try:
            self._evaluator.warm_up()
        except Exception:  # noqa: BLE001 - the first evaluation meets it again, and reports it
            return

    def answer(self, question: Trial) -> Report | Blameless:
        try:
            report = guarded(self._evaluator, question)
        except BLAMELESS as error:
            return error
        try:
            pickle.dumps(report)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            return Report(seconds=report.seconds, error=f"the report cannot be sent: {reason(error)}", kind="error")
        return report


def _spread(evaluator: Evaluator, count: int, devices: Sequence[str]) -> list[_Evaluations]:
    """The evaluator for every slot, each with its own device."""
    if not devices:
        return [_Evaluations(evaluator, None) for _ in range(count)]
    if len(devices) != count:
        raise ValueError(f"devices names {len(devices)}, but workers is {count}: name one for every worker, or none")
    if "device" not in type(evaluator).model_fields:
        raise ValueError(f"devices is {list(devices)}, but the evaluator has no setting 'device': leave devices empty")
    for device in devices:
        pick_device(device)
    return [_Evaluations(evaluator.model_copy(update={"device": device}), device) for device in devices]
