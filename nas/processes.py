"""Processes that work for this one: each answers one question at a time, with one pinned thread, and ends with this process."""

import os
import pickle
import queue
import resource
import signal
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import MappingProxyType
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar, final

from nas.fork_server import context
from nas.process_start import begin_worker, interrupts_masked, leave_signals_to_the_main_thread

_START_SECONDS = 300.0
"""To start a process and load what it needs; where a disk is cold or a machine busy, importing PyTorch alone can take a minute."""
_END_SECONDS = 10.0
"""For a process to be gone. One that hangs in the kernel, in a driver say, stays whatever is done, and is left behind."""
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS}
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
    another thread, and for work that was pickled elsewhere, it is a new Python, started by the thread that first asks, which has to live
    as long as the slot does: the kernel ends a process with the thread that started it.
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
        # What this process imported when it began may be older than work that comes from elsewhere.
        self._context = context(anew=isinstance(work, bytes))
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
        if not _arrives(connection, process, None if patience is None else _START_SECONDS):
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
                given = _Surroundings(self._addresses, self._environment)
                process = self._context.Process(target=_serve, args=(self._work, theirs, given), daemon=True)
                with interrupts_masked():
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


def _arrives(connection: Connection, process: BaseProcess, seconds: float | None) -> bool:
    """Whether there is something to receive before the time is over. Raises EOFError when the process dies first."""
    ready = wait([connection, process.sentinel], seconds)  # children of a dead process may hold its end open
    if ready and connection not in ready:
        raise EOFError
    return bool(ready)


def how_it_ended(code: int | None) -> str:
    """Say what the exit code of a process means; None is one that never got as far as to answer."""
    if code is None:
        return f"it could not be started within {_START_SECONDS:g} s: the machine is overloaded, or out of memory or processes"
    if code >= 0:
        return f"ended with exit status {code}: the candidate ended it, or it could not start"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "of no name"
    if -code == signal.SIGKILL:
        cause = "out of memory or killed from outside"
    else:
        cause = "a crash in compiled code" if -code in _CRASHES else "killed from outside"
    return f"ended by signal {-code} ({name}): {cause}"


class _Surroundings(NamedTuple):
    """What a process begins with: its limits of memory, and variables of its environment."""

    addresses: tuple[int, int]
    environment: Mapping[str, str]


def _serve(pickled: bytes, connection: Connection, given: _Surroundings) -> None:
    """What a process does: answer what comes in, until nothing more does. Before each answer it says that it begins."""
    resource.setrlimit(resource.RLIMIT_AS, given.addresses)  # a limit that held for a candidate when this process started would stay
    os.environ.update(given.environment)  # before anything asks which GPUs there are
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
    return ThreadPoolExecutor(count, "slot", leave_signals_to_the_main_thread)
