"""Evaluations side by side: every slot is a thread that owns one process with one pinned thread of its own."""

import ctypes
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, ParamSpec, Self, TypeVar, final

import numpy as np
from pydantic import PrivateAttr

from nas.architecture import Architecture
from nas.evaluators.base import Evaluator, guarded, reason
from nas.trial import Proposal, Report, Trial

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


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
        pool._threads = ThreadPoolExecutor(count, "slot", _leave_signals_to_the_main_thread)
        pool._slots = [_Slot(partial(_evaluate, evaluator)) for _ in range(count)]
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

    @property
    def provides(self) -> frozenset[str]:
        """What the evaluator provides."""
        return self._evaluator.provides

    @property
    def looks(self) -> int:
        """How many looks the evaluator wants."""
        return self._evaluator.looks

    def comparable(self, trial: Trial) -> bool:
        """Whether the evaluator can compare the trial."""
        return self._evaluator.comparable(trial)

    def repair(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """As the evaluator says."""
        return self._evaluator.repair(architecture, rng)

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
            report: Report = slot.run(trial)
        except DiedError as error:
            return Report(error=str(error))
        finally:
            self._free.put(slot)
        return report

    def submit(self, trial: Trial) -> "Future[Report]":
        """Start an evaluation in a free process."""
        return self._threads.submit(guarded, self, trial)


class DiedError(RuntimeError):
    """A process that died twice over the same work."""


class _Slot:
    """One process, started when first needed and again when it died.

    It is started by a thread of the pool, which lives as long as the pool does: the kernel ends a process with the
    thread that started it.
    """

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._ended = False
        self._process: tuple[SpawnProcess, Connection] | None = None

    def run(self, question: Any) -> Any:
        """Answer in the process, once more when it died. Raises DiedError when it died again."""
        for _ in range(2):
            process, connection = self._running()
            try:
                connection.send(question)
                if connection in wait([connection, process.sentinel]):  # children of a dead process may hold its end open
                    return connection.recv()
            except (EOFError, OSError):
                pass
            with self._lock:
                self._stop()
        raise DiedError("the worker process died twice: it was killed, ran out of memory, or the candidate ended it")

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
                process = context.Process(target=_serve, args=(self._answer, theirs, os.getpid()), daemon=True)
                with _interrupts_masked():
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


def _serve(answer: Callable[[Any], Any], connection: Connection, parent: int) -> None:
    """What a worker process does: answer what comes in, until nothing more does."""
    begin_worker(parent)
    while True:
        try:
            question = connection.recv()
        except EOFError:
            return
        connection.send(answer(question))


def _evaluate(evaluator: Evaluator, trial: Trial) -> Report:
    report = guarded(evaluator, trial)
    try:
        pickle.dumps(report)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        return Report(seconds=report.seconds, error=f"the report cannot be sent: {reason(error)}")
    return report


_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def _call(call: _Call) -> tuple[Any, Exception | None]:
    function, given, named = call
    try:
        return function(*given, **named), None
    except Exception as error:  # noqa: BLE001 - it is raised again where the call was made
        error.add_note(traceback.format_exc())
        return None, error


@final
class Pool:
    """Calls functions in processes with one pinned thread each, which end with this process. Use as a context.

    Leaving it waits for what was submitted; leaving it by an exception, Ctrl-C included, ends every process at once.
    """

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, "pool", _leave_signals_to_the_main_thread)
        self._slots = [_Slot(_call) for _ in range(count)]
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)

    def submit(self, function: Callable[_Arguments, _Answer], *given: _Arguments.args, **named: _Arguments.kwargs) -> "Future[_Answer]":
        """Start a call in a free process; once more when that dies, so the call must bear being repeated."""
        return self._threads.submit(self._in_process, function, given, named)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None:
            self._threads.shutdown()
        for slot in self._slots:
            slot.end()
        self._threads.shutdown(cancel_futures=True)

    def _in_process(self, *call: Any) -> Any:
        slot = self._free.get()
        try:
            answer, error = slot.run(call)
        finally:
            self._free.put(slot)
        if error is not None:
            raise error
        return answer


def pool_of(count: int) -> Pool:
    """Return a pool of `count` processes."""
    return Pool(count)


def _leave_signals_to_the_main_thread() -> None:
    """Ask the system to hand Ctrl-C and an end request to the main thread: one taken by another thread would not wake it."""
    resource_tracker.ensure_running()  # it is started with the first process, and forgets the mask on the way
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


@contextmanager
def _interrupts_masked() -> Iterator[None]:
    """Keep Ctrl-C, which reaches every process of a terminal, from one that starts: it would end with a traceback, not knowing better."""
    resource_tracker.ensure_running()  # it is started with the first process, and forgets the mask on the way
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def begin_worker(parent: int) -> None:
    """Make this process a worker: it ends with its parent, leaves Ctrl-C to it, and computes with one thread."""
    die_with_parent(parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the thread that started this process keeps it to its own
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
