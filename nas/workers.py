"""Evaluations side by side: every slot is a thread that owns one process with one pinned thread of its own."""

import ctypes
import multiprocessing
import os
import queue
import signal
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self, final

from pydantic import PrivateAttr

from nas.evaluators.base import Evaluator, guarded
from nas.trial import Proposal, Report, Trial

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@final
class Workers(Evaluator):
    """Runs another evaluator in processes. A process that dies costs its trial one retry, then the trial fails.

    Use as a context; the processes end with it, or when this process dies.
    """

    _evaluator: Evaluator = PrivateAttr()
    _threads: ThreadPoolExecutor = PrivateAttr()
    _slots: "queue.SimpleQueue[_Slot]" = PrivateAttr(default_factory=queue.SimpleQueue)
    _count: int = PrivateAttr()

    @classmethod
    def around(cls, evaluator: Evaluator, count: int) -> Self:
        """Return `count` slots for an evaluator. Raises ValueError when it remembers things, which cannot be split."""
        if evaluator.commit_every != 1:
            raise ValueError(f"workers is {count}, but the evaluator keeps weights of its own between trials: set workers to 1")
        pool = cls()
        pool._evaluator, pool._count = evaluator, count
        pool._threads = ThreadPoolExecutor(count, thread_name_prefix="slot")
        for _ in range(count):
            pool._slots.put(_Slot(evaluator))
        return pool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=exception[0] is None, cancel_futures=True)
        while not self._slots.empty():
            self._slots.get().stop()

    @property
    def slots(self) -> int:
        """How many evaluations run at once."""
        return self._count

    def inspect(self, proposal: Proposal) -> Any:
        """What the evaluator knows without training."""
        return self._evaluator.inspect(proposal)

    def identity(self, proposal: Proposal) -> str | None:
        """The evaluator's key."""
        return self._evaluator.identity(proposal)

    def evaluate(self, trial: Trial) -> Report:
        """Evaluate in a free process and wait for it."""
        slot = self._slots.get()
        try:
            return slot.run(trial)
        finally:
            self._slots.put(slot)

    def submit(self, trial: Trial) -> "Future[Report]":
        """Start an evaluation in a free process."""
        return self._threads.submit(guarded, self, trial)


class _Slot:
    """One process, started when first needed and again when it died."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._process: ProcessPoolExecutor | None = None

    def run(self, trial: Trial) -> Report:
        for _ in range(2):
            if self._process is None:
                context = multiprocessing.get_context("spawn")
                self._process = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self._evaluator, os.getpid()))
            try:
                return self._process.submit(_evaluate, trial).result()
            except BrokenProcessPool:
                self.stop()
        return Report(error="the worker process died twice: it was killed, ran out of memory, or the candidate ended it")

    def stop(self) -> None:
        if self._process is not None:
            self._process.shutdown(wait=False, cancel_futures=True)
            self._process = None


_mine: list[Evaluator] = []
"""The evaluator of this worker process; set once at its start, since a pool's functions take only what is sent per call."""


def _begin(evaluator: Evaluator, parent: int) -> None:
    begin_worker(parent)
    _mine.append(evaluator)


def _evaluate(trial: Trial) -> Report:
    return guarded(_mine[0], trial)


def pool_of(count: int) -> ProcessPoolExecutor:
    """Return a pool of `count` processes with one pinned thread each, which end with this process."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=begin_worker, initargs=(os.getpid(),))


def begin_worker(parent: int) -> None:
    """Make this process a worker: it ends with its parent, leaves Ctrl-C to it, and computes with one thread."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pin_threads()


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the one that started it dies, whatever kills it; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def pin_threads() -> None:
    """Compute with one thread: results then do not depend on the number of cores, and processes do not fight for them."""
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
