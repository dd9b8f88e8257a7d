"""What a node of any cluster does: it holds the work, which came once, and has processes of its own answer trials."""

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, final

from nas import atomic
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
class Seats:
    """The places of a node, each for one trial at a time; processes are started by the first trials."""

    def __init__(self, order: Order, given: Sequence[Mapping[str, str]]) -> None:
        """A place for each of the `environments`."""
        self.problem = _problem(order)
        self.places = [Seat(order.work, environment) for environment in given]
        self._threads: ThreadPoolExecutor = slot_threads(max(1, len(self.places)))
        # The last one first: a search with fewer trials than places then starts no more processes than trials.
        self._free: queue.LifoQueue[Seat] = queue.LifoQueue()
        for seat in reversed(self.places):
            self._free.put(seat)
        self._lock, self._running = threading.Lock(), dict[str, Seat]()

    def look(self) -> Answered:
        """Say what is wrong with the node, and how many trials it runs at once."""
        return Answered(self.problem, len(self.places))

    def answer(self, key: str, trial: Trial, patience: float | None) -> Answer:
        """Evaluate a trial in a free process and wait for it; `key` names it to `interrupt`."""
        # By a thread that lives as long as the node does: the kernel ends a process with the thread that started it.
        return self._threads.submit(self._evaluate, key, trial, patience).result()

    def interrupt(self, key: str) -> None:
        """End the process of a trial that nobody waits for any more; without waiting for it."""
        with self._lock:
            seat = self._running.get(key)
        if seat is not None:
            threading.Thread(target=seat.interrupt, daemon=True).start()

    def close(self) -> None:
        """End every process, whatever it is doing."""
        for seat in self.places:
            seat.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

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


@final
class Seat:
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


def environments(gpus: float, threads: int, offered: float) -> list[Mapping[str, str]]:
    """What the process of each place of a node sees besides its environment.

    A place for every thread; with shares of GPUs, of which this process sees as many as are offered, as many on each as fit, and
    that is the only one that the process sees.
    """
    if not gpus:
        return [MappingProxyType({})] * threads
    known = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    names = [known[number] if number < len(known) else str(number) for number in range(int(offered))]
    return [{VISIBLE: name} for name in names for _ in range(on_a_gpu(gpus))]


def on_a_gpu(share: float) -> int:
    """How many trials one GPU holds when each takes this share of it."""
    return int(1 / share + 1e-9)


@contextmanager
def token_in(folder: Path | None, name: str) -> Iterator[Path | None]:
    """A file that every node must be able to read; what evaluators write has to come back the same way."""
    if folder is None:
        yield None
        return
    path = folder.resolve() / f".cluster.{name[-8:]}"  # named as what a kill leaves half written, so that the next start removes it
    atomic.make_folder(path.parent)
    atomic.write_text(path, name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def seats_of(found: Sequence[tuple[str, Answered]], none: str) -> int:
    """How many trials the nodes run at once, given with their addresses.

    Raises MachineError for the first node that cannot, and with the sentence `none` when there is no room for any.
    """
    for address, node in found:
        if node.problem is not None:
            raise MachineError(f"the node {address} {node.problem}")
    seats = sum(node.seats for _, node in found)
    if not seats:
        raise MachineError(none)
    return seats


def cannot_take_up(why: str) -> MachineError:
    """Nodes that failed over the work before any trial."""
    return MachineError(f"the nodes cannot take up the work ({why}): install there what the search runs with")


def cannot_evaluate(place: str, why: str) -> MachineError:
    """A node that failed over a trial for which its candidate is not to blame."""
    return MachineError(f"a node of {place} cannot evaluate ({why}): install there what the search runs with")


def gone(what: str, place: str, error: str, cure: str) -> MachineError:
    """The process that knows the nodes is not there any more; `cure` says how it starts again."""
    on = "and run the same command, which goes on from the last trial that was finished"
    return MachineError(f"the {what} at {place} is gone ({error}): {cure}, {on}")


def lost(nodes: str = f"{BEGINNINGS} nodes were lost while they evaluated it") -> Report:
    """What becomes of a trial that lost too many nodes."""
    return Report(error=f"{nodes}: it takes more memory than they have, or ends them", kind="died")


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
