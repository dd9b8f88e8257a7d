"""Evaluations side by side: every slot is a thread that owns one process with one pinned thread of its own."""

import ctypes
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Self, final

from pydantic import PrivateAttr

from nas.evaluators.base import Evaluator, guarded, reason
from nas.trial import Proposal, Report, Trial

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@final
class Workers(Evaluator):
    """Runs another evaluator in processes. A process that dies costs its trial one retry, then the trial fails.

    Use as a context; the processes end with it, or when this process dies.
    """

    _evaluator: Evaluator = PrivateAttr()
    _threads: ThreadPoolExecutor = PrivateAttr()
    _slots: "list[_Slot]" = PrivateAttr()
    _free: "queue.SimpleQueue[_Slot]" = PrivateAttr(default_factory=queue.SimpleQueue)

    @classmethod
    def around(cls, evaluator: Evaluator, count: int) -> Self:
        """Return `count` slots for an evaluator. Raises ValueError when it remembers things, which cannot be split."""
        if evaluator.commit_every != 1:
            raise ValueError(f"workers is {count}, but the evaluator keeps weights of its own between trials: set workers to 1")
        pool = cls()
        pool._evaluator = evaluator
        pool._threads = ThreadPoolExecutor(count, thread_name_prefix="slot")
        pool._slots = [_Slot(evaluator) for _ in range(count)]
        for slot in pool._slots:
            pool._free.put(slot)
        return pool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """End every process, whatever it is doing: an evaluation that still runs here is one that nobody waits for."""
        for slot in self._slots:
            slot.end()
        self._threads.shutdown(cancel_futures=True)

    @property
    def slots(self) -> int:
        """How many evaluations run at once."""
        return len(self._slots)

    def inspect(self, proposal: Proposal) -> Any:
        """What the evaluator knows without training."""
        return self._evaluator.inspect(proposal)

    def identity(self, proposal: Proposal) -> str | None:
        """The evaluator's key."""
        return self._evaluator.identity(proposal)

    def evaluate(self, trial: Trial) -> Report:
        """Evaluate in a free process and wait for it."""
        slot = self._free.get()
        try:
            return slot.run(trial)
        finally:
            self._free.put(slot)

    def submit(self, trial: Trial) -> "Future[Report]":
        """Start an evaluation in a free process."""
        return self._threads.submit(guarded, self, trial)


class _Slot:
    """One process, started when first needed and again when it died.

    It is started by a thread of the pool, which lives as long as the pool does: the kernel ends a process with the
    thread that started it.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._lock = threading.Lock()
        self._ended = False
        self._process: tuple[SpawnProcess, Connection] | None = None

    def run(self, trial: Trial) -> Report:
        """Evaluate in the process, once more when it died."""
        for _ in range(2):
            process, connection = self._running()
            try:
                connection.send(trial)
                if connection in wait([connection, process.sentinel]):  # children of a dead process may hold its end open
                    report: Report = connection.recv()
                    return report
            except (EOFError, OSError):
                pass
            with self._lock:
                self._stop()
        return Report(error="the worker process died twice: it was killed, ran out of memory, or the candidate ended it")

    def end(self) -> None:
        """Stop the process and start no other."""
        with self._lock:
            self._ended = True
            self._stop()

    def _running(self) -> tuple[SpawnProcess, Connection]:
        with self._lock:
            if self._ended:
                raise RuntimeError("the workers have been stopped: evaluate inside their context")
            if self._process is None:
                context = multiprocessing.get_context("spawn")
                mine, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(self._evaluator, theirs, os.getpid()), daemon=True)
                process.start()
                theirs.close()
                self._process = process, mine
            return self._process

    def _stop(self) -> None:
        if self._process is not None:
            process, _ = self._process  # a thread may be reading from the connection; it is closed when nobody holds it
            process.kill()
            process.join()
            self._process = None


def _serve(evaluator: Evaluator, connection: Connection, parent: int) -> None:
    """What a worker process does: evaluate the trials that come in, until there are no more."""
    begin_worker(parent)
    while True:
        try:
            trial = connection.recv()
        except EOFError:
            return
        report = guarded(evaluator, trial)
        try:
            connection.send(report)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            connection.send(Report(seconds=report.seconds, error=f"the report cannot be sent: {reason(error)}"))


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
    # Filling every new tensor takes a quarter of a training step on small networks, and only shows reads of memory never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
