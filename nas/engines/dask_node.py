"""What a node of a Dask cluster does: it holds the work, which came once, and has processes of its own answer trials."""

import multiprocessing
import os
import queue
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast, final

from distributed import Event, Worker, WorkerPlugin, get_client, get_worker

from nas.engines.base import Answer, ask
from nas.engines.same_code import differences
from nas.evaluators.base import MachineError
from nas.processes import Slot, slot_threads
from nas.trial import Report, Trial

BEGINNINGS = 2
"""How often a trial may begin: once, and once more when its node was lost."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Order:
    """What a node is to do.

    work: pickled, as a slot takes it. code: what `same_code.this_code` returned where the search runs. folder, token: a file of
    the folder that evaluators share, and what it holds; None where they share none. gpus: the share of a GPU for a trial.
    """

    work: bytes
    code: Mapping[str, str]
    folder: Path | None
    token: str
    gpus: float


class Answered(NamedTuple):
    """A node's word on itself: what is wrong with it, if anything, and how many trials it runs at once."""

    problem: str | None
    seats: int


@final
class Node(WorkerPlugin):
    """Answers trials in as many processes as the node has threads, or has shares of GPUs."""

    def __init__(self, name: str, order: Order) -> None:
        self.name = name
        self._order = order

    def setup(self, worker: Worker) -> None:
        """Look at the node; processes are started by the first trials."""
        # A nanny marks its worker as a daemon, which may have no children. These end with their parent all the same.
        multiprocessing.current_process().daemon = False
        self._problem = _problem(self._order)
        self._seats = _seats(self._order, worker.state.nthreads, worker.state.total_resources.get("GPU", 0.0))
        self._threads: ThreadPoolExecutor = slot_threads(max(1, len(self._seats)))
        self._free: queue.SimpleQueue[_Seat] = queue.SimpleQueue()
        for seat in self._seats:
            self._free.put(seat)
        self._lock, self._running = threading.Lock(), dict[str, _Seat]()

    def teardown(self, worker: Worker) -> None:
        """End every process, whatever it is doing."""
        for seat in self._seats:
            seat.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """End the evaluation of a trial that nobody waits for any more: its search was stopped, or killed."""
        if start == "executing" and finish == "released":
            with self._lock:
                seat = self._running.get(key)
            if seat is not None:
                threading.Thread(target=seat.interrupt, daemon=True).start()

    def look(self) -> Answered:
        """Say what is wrong with the node, and how many trials it runs at once."""
        return Answered(self._problem, len(self._seats))

    def answer(self, key: str, trial: Trial, patience: float | None) -> Answer:
        """Evaluate a trial in a free process and wait for it. One that began too often with nodes that were lost fails untried."""
        if self._problem is not None:
            return MachineError(self._problem)
        began = _begin(key)
        if began is None:
            told = f"{BEGINNINGS} nodes were lost while they evaluated it: it takes more memory than they have, or ends them"
            return Report(error=told, kind="died")
        try:
            # By a thread that lives as long as the node does: the kernel ends a process with the thread that started it.
            return self._threads.submit(self._evaluate, key, trial, patience).result()
        finally:
            for event in began:
                event.clear()

    def _evaluate(self, key: str, trial: Trial, patience: float | None) -> Answer:
        seat = self._free.get()
        with self._lock:
            self._running[key] = seat
        try:
            return ask(seat.slot, trial, patience)
        finally:
            with self._lock:
                del self._running[key]
            seat.renew()
            self._free.put(seat)


def evaluate(name: str, key: str, trial: Trial, patience: float | None) -> Answer:
    """What a task of Dask does."""
    return _node(get_worker(), name).answer(key, trial, patience)


def look(name: str, dask_worker: Worker) -> Answered:
    """Ask a node about itself; Dask hands it in."""
    return _node(dask_worker, name).look()


def _node(worker: Worker, name: str) -> Node:
    return cast(Node, worker.plugins[name])


@final
class _Seat:
    """A place for one trial, with its process; an interrupted one gets another process."""

    def __init__(self, work: bytes, environment: Mapping[str, str]) -> None:
        self._work, self._environment = work, environment
        self._lock, self._closed, self._spent = threading.Lock(), False, False
        self.slot = Slot(work, environment)

    def interrupt(self) -> None:
        """End the process."""
        with self._lock:
            self._spent = True
        self.slot.end()

    def renew(self) -> None:
        """Be ready for another trial."""
        with self._lock:
            if self._spent and not self._closed:
                self._spent, self.slot = False, Slot(self._work, self._environment)

    def close(self) -> None:
        """End the process, and have no other."""
        with self._lock:
            self._closed = True
        self.slot.end()


def _begin(key: str) -> list[Event] | None:
    """Note at the scheduler, which outlives a node, that a trial begins; None when it has begun too often without an end."""
    events: list[Event] = []
    client = get_client()
    for number in range(BEGINNINGS):
        events.append(Event(f"{key}-{number}", client=client))
        if not events[-1].is_set():
            events[-1].set()
            return events
    return None


def _problem(order: Order) -> str | None:
    """Why trials would give other results here, or none; None when nothing is wrong."""
    if changed := differences(order.code):
        return f"runs {', '.join(changed)}: install there what the search runs with"
    if order.folder is not None:
        try:
            same = order.folder.read_text() == order.token
        except (OSError, UnicodeDecodeError):
            same = False
        if not same:
            return f"does not see {order.folder.parent}, which holds weights and data: share the project's folder, at the same path"
    return None


def _seats(order: Order, threads: int, offered: float) -> list[_Seat]:
    """A seat for every thread; with shares of GPUs as many on each GPU as fit, which then is the only one that the process sees."""
    if not order.gpus:
        return [_Seat(order.work, MappingProxyType({})) for _ in range(threads)]
    known = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    names = [known[number] if number < len(known) else str(number) for number in range(int(offered))]
    return [_Seat(order.work, {VISIBLE: name}) for name in names for _ in range(int(1 / order.gpus + 1e-9))]
