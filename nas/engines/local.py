"""Processes of this machine: every slot is a thread that owns one process with one pinned thread of its own."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import final

from nas.engines.base import Engine, Session, ask, report_of
from nas.processes import Slot, Work, slot_threads
from nas.trial import Report, Trial


@final
class Local(Engine):
    """Processes of this machine."""

    @contextmanager
    def open(self, works: Sequence[Work], folder: Path | None) -> Iterator[Session]:
        """Start a process for each of the works as soon as it is needed; they end with the context, or when this process dies."""
        session = _Processes(works)
        try:
            yield session
        finally:
            session.end()


@final
class _Processes(Session):
    def __init__(self, works: Sequence[Work]) -> None:
        self._threads = [slot_threads(1) for _ in works]
        self._slots = [Slot(work) for work in works]

    def submit(self, slot: int, trial: Trial, patience: float | None) -> "Future[Report]":
        """Start an evaluation in the process of the slot, after those that are already there."""
        return self._threads[slot].submit(_evaluate, self._slots[slot], trial, patience)

    def end(self) -> None:
        """End every process, whatever it is doing: an evaluation that still runs here is one that nobody waits for."""
        for slot in self._slots:
            slot.end()
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)


def _evaluate(slot: Slot, trial: Trial, patience: float | None) -> Report:
    return report_of(ask(slot, trial, patience))
