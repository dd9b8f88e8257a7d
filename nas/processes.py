"""Processes that work for this one: each answers one question at a time, with one pinned thread, and ends with this process."""

import ctypes
import multiprocessing
import os
import pickle
import queue
import resource
import signal
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from types import MappingProxyType
from typing import Any, ParamSpec, Self, TypeVar, final

from nas.process_ends import START_SECONDS, how_it_ended

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_END_SECONDS = 10.0
"""For a process to be gone. One that hangs in the kernel, in a driver say, stays whatever is done, and is left behind."""
_AS_IT_IS: Mapping[str, str] = MappingProxyType({})
_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


class DiedError(RuntimeError):
    """A process that died twice over the same question; the message says how."""


class LateError(RuntimeError):
    """A process that did not answer in time and was ended for it."""


class Work(ABC):
    """What a process does; it is sent there when the process starts, so it must bear being pickled."""

    @abstractmethod
    def begin(self) -> None:
        """Get ready, once per process; this takes none of the time for an answer."""

    @abstractmethod
    def answer(self, question: Any) -> Any:
        """Answer a question. What it raises ends the process."""


@final
class Slot:
    """One process, started when first needed and again when it died.

    A slot that the main thread makes has its process forked from a server that has imported all that this process has by then. For
    another thread, and for work that came from elsewhere, which may be newer than what was imported, it is a new Python, started by the
    thread that first asks, which has to live as long as the slot does: the kernel ends a process with the thread that started it.
    """

    def __init__(self, work: Work | bytes, environment: Mapping[str, str] = _AS_IT_IS) -> None:
        """Take the work as it is now, or as `pickle.dumps` gave it elsewhere. Raises what pickling it raises.

        environment: variables that its process sees besides, or instead of, those of this one.
        """
        # Not when a process starts: by then another thread may be changing what the work holds, or candidates may be limited.
        self._work = work if isinstance(work, bytes) else pickle.dumps(work)
        self._addresses, self._environment = resource.getrlimit(resource.RLIMIT_AS), dict(environment)
        self._asking, self._lock = threading.Lock(), threading.Lock()
        self._ended = False
        self._context = multiprocessing.get_context("spawn") if isinstance(work, bytes) else _context()
        self._process: tuple[BaseProcess, Connection] | None = None

    def run(self, question: Any, patience: float | None = None) -> Any:
        """Answer in the process, once more when it died. `patience` is in seconds, from when the process begins with the answer.

        Raises DiedError when it died again, LateError when patience is at its end, and RuntimeError once the slot has ended.
        """
        with self._asking:
            for _ in range(2):
                try:
                    return self._ask(question, patience)
                except (EOFError, OSError):
                    code = self._stop(_END_SECONDS)
            raise DiedError(f"the worker process died twice, the last time {how_it_ended(code)}")

    def _ask(self, question: Any, patience: float | None) -> Any:
        process, connection = self._running()
        connection.send(question)
        if not _arrives(connection, process, None if patience is None else START_SECONDS):
            self._stop()
            raise EOFError
        connection.recv()
        if not _arrives(connection, process, patience):
            self._stop()
            raise LateError(f"no answer after {patience:g} s")
        return connection.recv()

    def end(self) -> None:
        """Stop the process and start no other."""
        with self._lock:
            self._ended = True
        self._stop()

    def _running(self) -> tuple[BaseProcess, Connection]:
        with self._lock:
            if self._ended:
                raise RuntimeError("the workers have been stopped: evaluate inside their context")
            if self._process is None:
                mine, theirs = self._context.Pipe()
                given = self._work, theirs, self._addresses, self._environment
                process = self._context.Process(target=_serve, args=given, daemon=True)
                with _interrupts_masked():
                    process.start()
                theirs.close()
                self._process = process, mine
            return self._process

    def _stop(self, dying: float = 0.0) -> int | None:
        """End the process, after waiting `dying` seconds for it to end by itself; returns its exit code, None when there is none."""
        with self._lock:
            if self._process is None:
                return None
            process, _ = self._process  # a thread may be reading from the connection; it is closed when nobody holds it
            self._process = None
            process.join(dying)
            process.kill()
            process.join(_END_SECONDS)
            return process.exitcode


def _context() -> ForkServerContext | SpawnContext:
    """How this thread is to start processes."""
    if threading.current_thread() is not threading.main_thread():
        return multiprocessing.get_context("spawn")
    start_server()
    return multiprocessing.get_context("forkserver")


def start_server(*modules: str) -> None:
    """Start what processes are forked from, unless it runs: it imports what this process has of ours, and `modules`. For the main thread.

    Whoever will need processes, but not at once, may call it early: it imports while this process does something else.
    """
    ours = sorted(name for name in sys.modules if name.split(".")[0] in ("nas", "export"))
    multiprocessing.get_context("forkserver").set_forkserver_preload(["nas.forked", *ours, *modules])
    with _interrupts_masked():
        forkserver.ensure_running()


def _arrives(connection: Connection, process: BaseProcess, seconds: float | None) -> bool:
    """Whether there is something to receive before the time is over. Raises EOFError when the process dies first."""
    ready = wait([connection, process.sentinel], seconds)  # children of a dead process may hold its end open
    if ready and connection not in ready:
        raise EOFError
    return bool(ready)


def _serve(pickled: bytes, connection: Connection, addresses: tuple[int, int], environment: Mapping[str, str]) -> None:
    """What a process does: answer what comes in, until nothing more does. Before each answer it says that it begins."""
    resource.setrlimit(resource.RLIMIT_AS, addresses)  # a limit that held for a candidate when this process started would stay
    os.environ.update(environment)  # before anything asks which GPUs there are
    begin_worker(os.getppid())  # where that has died already, nothing more comes in
    work: Work = pickle.loads(pickled)  # noqa: S301 - sent by the process that started this one, over a pipe of its own
    work.begin()
    while True:
        try:
            question = connection.recv()
        except EOFError:
            return
        connection.send(None)
        connection.send(work.answer(question))


_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@final
class _Calls(Work):
    def begin(self) -> None:
        pass

    def answer(self, question: _Call) -> tuple[Any, Exception | None]:
        function, given, named = question
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
        self._threads = slot_threads(count)
        self._slots = [Slot(_Calls()) for _ in range(count)]
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
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


def slot_threads(count: int) -> ThreadPoolExecutor:
    """Return threads that may ask slots: they leave signals to the main thread."""
    return ThreadPoolExecutor(count, "slot", _leave_signals_to_the_main_thread)


def _leave_signals_to_the_main_thread() -> None:
    """Ask the system to hand Ctrl-C and an end request to the main thread: one taken by another thread would not wake it."""
    resource_tracker.ensure_running()  # it is started with the first process, and forgets the mask on the way
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


@contextmanager
def signals_left_to_this_thread() -> Iterator[None]:
    """Have the threads that libraries start meanwhile leave Ctrl-C and end requests to this one, which is the main thread.

    Processes started meanwhile leave them as well, and end with this process by other means.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    _leave_signals_to_the_main_thread()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


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
    # As `use_deterministic_algorithms(True, warn_only=True)`, which loads a compiler as well, and takes a second for it.
    torch.set_deterministic_debug_mode("warn")
    # Filling every new tensor takes a quarter of a training step on small networks, and only shows reads of memory never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
