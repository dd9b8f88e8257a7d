"""Evaluations side by side, each in a process with one pinned thread of its own, wherever an engine has them run."""

import pickle
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Self, final

import torch
from pydantic import PrivateAttr

from nas.engines.base import Engine, Session
from nas.engines.local import Local
from nas.evaluators.base import BLAMELESS, Blameless, Evaluator, guarded, reason
from nas.evaluators.wrapper import Wrapper
from nas.processes import Work
from nas.training.loop import pick_device
from nas.trial import Report, Trial


@final
class Workers(Wrapper):
    """Runs another evaluator in processes. Trial n runs in slot n modulo their number, which is free when a search begins trial n.

    A process that dies costs its trial one retry, then the trial fails. Where the evaluator's patience ends, the process is
    ended with it and the trial fails at once. Use as a context; the processes end with it, or when this process dies.
    """

    _engine: Engine = PrivateAttr()
    _works: "list[_Evaluations]" = PrivateAttr()
    _folder: Path | None = PrivateAttr()
    _stack: ExitStack = PrivateAttr(default_factory=ExitStack)
    _session: Session | None = PrivateAttr(None)

    @classmethod
    def around(
        cls, evaluator: Evaluator, count: int, devices: Sequence[str] = (), *, engine: Engine | None = None, folder: Path | None = None
    ) -> Self:
        """Return `count` slots for an evaluator, each on its own of the `devices`; none leave all to the evaluator's device.

        engine: where they run; by default in processes of this machine. folder: what the evaluator writes to, if anything.

        Raises ValueError when the evaluator remembers things, which cannot be split, when there is not one device for every
        slot, when this machine lacks one, or when the evaluator uses none.
        """
        if evaluator.commit_every != 1:
            raise ValueError(f"workers is {count}, but the evaluator keeps weights of its own between trials: set workers to 1")
        pool = cls()
        pool._evaluator, pool._engine, pool._folder = evaluator, engine or Local(), folder
        pool._works = _spread(evaluator, count, devices, pool._engine.device)
        return pool

    def __enter__(self) -> Self:
        self._session = self._stack.enter_context(self._engine.open(self._works, self._folder))
        return self

    def __exit__(self, *exception: object) -> None:
        """End every process, whatever it is doing."""
        self._stack.close()

    @property
    def slots(self) -> int:
        """How many evaluations run at once."""
        return len(self._works)

    @property
    def description(self) -> str:
        """What runs where, in a few words for people; empty where that is plain."""
        return "" if self._session is None else self._session.description

    def warm_up(self) -> None:
        """Do nothing: every process warms up by itself."""

    def evaluate(self, trial: Trial) -> Report:
        """Evaluate in the process of the trial's slot and wait for it. Raises what no candidate is to blame for, such as a full disk."""
        return self.submit(trial).result()

    def submit(self, trial: Trial) -> "Future[Report]":
        """Start an evaluation in the process of the trial's slot, after those that are already there.

        Raises RuntimeError outside the context.
        """
        if self._session is None:
            raise RuntimeError("the workers have not been started: evaluate inside their context")
        return self._session.submit(trial.number % self.slots, trial, self.patience(trial))


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


def _spread(evaluator: Evaluator, count: int, devices: Sequence[str], elsewhere: str | None) -> list[_Evaluations]:
    """The evaluator for every slot, each with its own device; `elsewhere` is that of all slots where an engine gives it to them."""
    if elsewhere is not None:
        return [_Evaluations(evaluator.on_device(elsewhere), None)] * count
    if not devices:
        return [_Evaluations(evaluator, None) for _ in range(count)]
    if len(devices) != count:
        raise ValueError(f"devices names {len(devices)}, but workers is {count}: name one for every worker, or none")
    placed = [_Evaluations(evaluator.on_device(device), device) for device in devices]
    for device in devices:
        pick_device(device)
    return placed
