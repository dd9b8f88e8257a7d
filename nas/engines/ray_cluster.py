"""A search's side of a Ray cluster: a process of its own speaks with Ray, and this one with it."""

import itertools
import os
import pickle
import secrets
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, final

from nas.engines.base import Answer, Session, report_of
from nas.engines.ray_messages import Asked, Begin, Failed, Opened, head_is_gone
from nas.engines.same_code import this_code
from nas.engines.seats import Order, seats_of, token_in
from nas.evaluators.base import BLAMELESS, MachineError, reason
from nas.fork_server import context
from nas.process_start import interrupts_masked, leave_signals_to_the_main_thread
from nas.processes import Work
from nas.trial import Report, Trial

if TYPE_CHECKING:
    from nas.engines.ray import Ray

_START_SECONDS = 120.0
"""For the process to start, and a cluster of this machine; where a disk is cold, importing alone can take half a minute."""
_END_SECONDS = 20.0
"""For the process to end, with a cluster of this machine."""
_GIVE_UP_SECONDS = 2.0
"""The same while it is still waiting for nodes, or for Ray to answer."""
_AGAIN_SECONDS = 0.1
"""Until a head that does not answer is tried again."""
_FOR_ALL = {"RAY_USAGE_STATS_ENABLED": "0"}
_FOR_OWN = {**_FOR_ALL, "RAY_AUTH_MODE": "token", "RAY_prestart_worker_first_driver": "0"}
"""For a cluster on this machine. Nobody else may use one that nobody else was told of: without a token of its own Ray would keep one
in the user's home. And no processes wait there for calls that are none of an actor."""
_SHORT = "/tmp"
"""Where a cluster on this machine has its folder, as Ray would by itself: the paths of its sockets may have 107 bytes."""


@contextmanager
def opened(chosen: "Ray", works: Sequence[Work], folder: Path | None) -> Iterator[Session]:
    """Connect, send the work, and look at the nodes. Raises MachineError, with the cure, where any of it fails."""
    name = f"nasflow-{uuid.uuid4().hex[:12]}"
    if chosen.address is not None:
        _wait_for_head(chosen.address, chosen.wait_seconds)
    with ExitStack() as stack:
        token = stack.enter_context(token_in(folder, name))
        order = Order(pickle.dumps(works[0]), this_code(), token, name, chosen.gpus)
        own = None
        if chosen.address is None:
            own = stack.enter_context(tempfile.TemporaryDirectory(prefix="nasflow-", dir=_SHORT, ignore_cleanup_errors=True))
        nodes = min(chosen.nodes, len(works))
        session = _Cluster(chosen, Begin(chosen.address, own, nodes, len(works), chosen.wait_seconds, order))
        stack.callback(session.end)
        session.begin()
        yield session


def _wait_for_head(address: str, seconds: float) -> None:
    """Ray itself would wait for another minute, and end the process that asks."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), seconds).close()
        except (OSError, OverflowError) as error:
            if time.monotonic() < end:
                time.sleep(_AGAIN_SECONDS)
                continue
            raise _nobody(address, seconds, reason(error)) from error
        return


def _nobody(address: str, seconds: float, why: str) -> MachineError:
    head, nodes = f"`ray start --head --port={address.rpartition(':')[2]}`", f"`ray start --address={address}`"
    return MachineError(
        f"engine.address is {address}, but after {seconds:g} s no head of Ray answers there ({why}): start {head} there and {nodes} on "
        "every node, this machine included"
    )


@final
class _Cluster(Session):
    def __init__(self, chosen: "Ray", begin: Begin) -> None:
        self._place, self._patience = chosen.address or f"{begin.nodes} nodes on this machine", chosen.wait_seconds + _START_SECONDS
        self._lock, self._numbers, self._pending = threading.Lock(), itertools.count(), dict[int, Future[Report]]()
        self.seats, self._failed = 0, MachineError("the search has ended")
        started = context(anew=True)
        self._connection, theirs = started.Pipe()
        self._process = started.Process(target=_drive, args=(begin, theirs), daemon=True)
        with interrupts_masked():
            self._process.start()
        theirs.close()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._over = False

    @property
    def description(self) -> str:
        """Where the head is, and how many trials its nodes run at once."""
        return f"ray, {self._place}: {self.seats} trials at once"

    def begin(self) -> None:
        """Wait for the nodes. Raises MachineError when they cannot be reached, or cannot do it."""
        try:
            first = self._connection.recv() if self._connection.poll(self._patience) else None
        except (EOFError, OSError):
            first = None
        if isinstance(first, Failed):
            raise first.error
        if not isinstance(first, Opened):
            raise _nobody(self._place, self._patience, "something does, but not as Ray does")
        self.seats = seats_of(first.found, f"no node of {self._place} has room for a trial")
        self._listener.start()

    def submit(self, slot: int, trial: Trial, patience: float | None) -> "Future[Report]":
        """Have any node evaluate a trial."""
        report = Future[Report]()
        with self._lock:
            if self._over:
                report.set_exception(self._failed)
                return report
            key = next(self._numbers)
            self._pending[key] = report
            with suppress(OSError):  # the listener hears of it, too
                self._connection.send(Asked(key, trial, patience))
        return report

    def end(self) -> None:
        """Have no node work for this any more; evaluations that still run are ended with their processes."""
        for report in self._close(self._failed):
            report.cancel()
        with suppress(OSError):
            self._connection.send(None)
        self._process.join(_END_SECONDS if self.seats else _GIVE_UP_SECONDS)
        self._process.kill()
        self._process.join()
        if self._listener.ident is not None:
            self._listener.join()

    def _listen(self) -> None:
        leave_signals_to_the_main_thread()
        while True:
            try:
                told = self._connection.recv()
            except (EOFError, OSError):
                told = Failed(head_is_gone(self._place, "Ray has ended the connection"))
            if isinstance(told, Failed):
                for report in self._close(told.error):
                    report.set_exception(told.error)
                return
            with self._lock:
                pending = self._pending.pop(told.key, None)
            if pending is not None:
                _settle(pending, told.answer)

    def _close(self, why: MachineError) -> list["Future[Report]"]:
        """Take no more trials; returns those that are under way."""
        with self._lock:
            if not self._over:
                self._over, self._failed = True, why
            pending, self._pending = self._pending, {}
        return list(pending.values())


def _settle(report: "Future[Report]", answer: Answer) -> None:
    try:
        report.set_result(report_of(answer))
    except BLAMELESS as error:
        report.set_exception(error)


def _drive(begin: Begin, connection: Connection) -> None:
    """What the process does."""
    # Ray prints to whatever terminal there is, also where Python cannot ask it not to.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(nowhere, output)
    os.environ.update(_FOR_ALL if begin.address is not None else _FOR_OWN | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    if begin.address is None:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # its nodes find what is found here
    try:
        from nas.engines.ray_driver import drive  # Ray reads the environment when it is imported
    except ImportError as error:
        connection.send(Failed(MachineError(f"engine is ray, but it cannot be loaded ({reason(error)}): pip install 'nasflow[ray]'")))
        return
    drive(begin, connection)
