"""A server of several processes: one parent, which accepts the connections and hands them out, and as many that serve them.

The kernel does not spread connections evenly over processes that accept at one socket, or at one each: of 16 that come at once, most
or all may go to the same process, and stay there. So the parent accepts, and gives each to the process that has the fewest. It never
reads a request. Every process has the model and an event loop of its own; the parent has not even loaded onnxruntime.
"""

import asyncio
import logging
import resource
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import uvloop

from export.serving import contents, listening
from export.serving.counts import Supervision, Totals
from export.serving.errors import ServingError
from export.serving.limits import Limits
from export.serving.listening import Place
from export.serving.orders import Order, Report, Start
from export.serving.process import SIGNALS, Process

FALSE_STARTS = 5
"""Deaths of one process in a row, each before it was ready, after which the server ends."""
STEADY_SECONDS = 30.0
"""A process that has lived as long begins with the shortest pause again when it dies."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
COUNT_SECONDS = 1.0
"""How old the counts of a process are at most when it is killed, and how long one that hangs may keep others from their numbers."""
AFTER_GRACE_SECONDS = 5.0
FULL_SECONDS = 1.0
"""How long no connection is accepted when this process may open no more."""
SPARE_DESCRIPTORS = 128
"""Of a process: what it has open besides connections."""


def serve_together(
    folder: Path, place: Place, *, threads: int = 1, limits: Limits, processes: int, announce: Callable[[str], None] = print
) -> None:
    """Serve the bundle in `folder` as `serve` does, by several processes, each with `threads` and `limits` of its own.

    One that dies is replaced. For the main thread. Raises ServingError as `serve` does, and when processes cannot be kept alive.
    """
    place.check()
    bundle = contents.read(folder)
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    with listening.bound(place) as made, tempfile.TemporaryFile() as copy:
        # A process that replaces another one must serve the same model, whatever lies in the folder by then.
        bundle.write_to(copy)
        start = Start(parent=0, orders=0, reports=0, bundle=copy.fileno(), name=place.name, threads=threads, limits=limits)
        words = listening.announcement(made, folder, bundle.sha256, place)
        del bundle

        def begin() -> None:
            listening.listen(made, place)
            announce(words)

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                number = runner.run(_Parent(made, start, processes, begin).serve())
        finally:
            for each, handler in before:
                signal.signal(each, handler)
    signal.raise_signal(number)


@final
class _Parent:
    """Keeps `count` processes alive, and gives them the connections of a socket, which takes them from when `begin` is called."""

    def __init__(self, made: socket.socket, start: Start, count: int, begin: Callable[[], None]) -> None:
        self._listening, self._start, self._count, self._begin = made, start, count, begin
        self._processes: list[Process] = []
        self._waiting: deque[socket.socket] = deque()  # accepted, and given to nobody
        self._begun = self._accepting = self._paused = False
        self._given = 0
        self._most = _most_connections()
        self._totals, self._metrics = Totals(), Supervision()
        self._signal: int | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Event
        self._loop: asyncio.AbstractEventLoop

    async def serve(self) -> int:
        """Serve until a signal, which is returned; every process has ended then."""
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self._listening.setblocking(False)
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._stop, number)
        keepers = [asyncio.create_task(self._keep()) for _ in range(self._count)]
        others = [asyncio.create_task(self._ending.wait()), asyncio.create_task(self._keep_counting())]
        try:
            done, _ = await asyncio.wait([*keepers, *others], return_when=asyncio.FIRST_COMPLETED)
            failed = next((error for task in done if (error := task.exception()) is not None), None)
        finally:
            await self._end(keepers)
            for task in (*keepers, *others):
                task.cancel()
            await asyncio.gather(*keepers, *others, return_exceptions=True)
        if failed is not None:
            raise failed
        assert self._signal is not None
        return self._signal

    def _stop(self, number: int) -> None:
        if self._signal is not None and number == signal.SIGINT:
            self._kill()  # whoever asks twice does not want to wait
        self._signal = self._signal or number
        self._ending.set()

    async def _end(self, keepers: list[asyncio.Task[None]]) -> None:
        """Answer what has come, then end all processes."""
        self._ending.set()
        if self._begun:
            self._accept()
        self._listening.close()
        for process in self._processes:
            process.end()
        _, late = await asyncio.wait(keepers, timeout=self._start.limits.grace_seconds + AFTER_GRACE_SECONDS)
        if late:
            self._kill()
            await asyncio.wait(late)
        for process in list(self._processes):  # those whose keepers have failed
            process.kill()
            await process.ended()
        for connection in self._waiting:
            connection.close()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()

    async def _keep(self) -> None:
        """Have one process live at any time until the server ends. Raises ServingError when that cannot be."""
        short = false_starts = 0
        while not self._ending.is_set():
            begin = time.monotonic()
            was_ready, how = await self._live(self._started())
            if self._ending.is_set():
                return
            short = 1 if time.monotonic() - begin > STEADY_SECONDS else short + 1
            false_starts = 0 if was_ready else false_starts + 1
            if false_starts == FALSE_STARTS:
                raise ServingError(
                    f"a server process ended {FALSE_STARTS} times in a row before it was ready, the last time {how}: see what it wrote, "
                    "give the machine more memory, or start fewer --processes"
                )
            pause = min(SHORTEST_PAUSE * 2 ** (short - 1), LONGEST_PAUSE)
            logging.getLogger(__name__).warning("nasflow: a server process ended %s: another is started in %g s", how, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)

    def _started(self) -> Process:
        try:
            process = Process(self._start)
        except OSError as error:
            raise ServingError(f"a server process cannot be started ({error.strerror}): start fewer --processes") from error
        self._processes.append(process)
        return process

    async def _live(self, process: Process) -> tuple[bool, str]:
        """Hear a process until it has ended: whether it was ready, and how it ended."""
        refused, was_ready = None, False
        async for report in process.reports():
            self._hear(process, report)
            was_ready = was_ready or process.ready
            if report[0] == Report.REFUSED:
                refused = ServingError(report[1])
        code, untaken = await process.ended()
        self._processes.remove(process)
        self._totals.end(process.last)
        self._waiting.extend(untaken)
        if not self._ending.is_set():
            self._metrics.died()
        self._tell()
        self._hand_out()
        self._listen()
        if refused is not None:
            raise refused
        return was_ready, f"by signal {-code}" if code < 0 else f"with exit status {code}"

    def _hear(self, process: Process, report: list[Any]) -> None:
        if report[0] == Report.ASKED:
            answering = self._loop.create_task(self._answer(process))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)
        elif report[0] == Report.READY:
            self._tell()
            if not self._begun and self._complete():
                self._begun = True
                self._begin()
        if report[0] in (Report.READY, Report.TAKEN, Report.CLOSED):
            self._hand_out()
            self._listen()

    def _complete(self) -> bool:
        return sum(process.ready for process in self._processes) == self._count

    def _tell(self) -> None:
        """Let every process know whether all are ready."""
        self._metrics.ready(sum(process.ready for process in self._processes))
        for process in self._processes:
            if process.ready:
                process.order(Order.COMPLETE if self._complete() else Order.INCOMPLETE)

    def _accept(self) -> None:
        """Accept what has come, as long as somebody can have it."""
        while self._freest() is not None:
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError:  # no descriptors are left: connections may be closed soon
                self._paused = True
                self._loop.call_later(FULL_SECONDS, self._resume)
                break
            self._waiting.append(connection)
            self._hand_out()
        self._listen()

    def _resume(self) -> None:
        self._paused = False
        self._listen()

    def _hand_out(self) -> None:
        """Give connections that wait to whoever can have them."""
        while self._waiting and (process := self._freest()) is not None:
            if process.give(self._waiting[0]):
                self._given += 1
                process.served = self._given
                self._waiting.popleft()

    def _listen(self) -> None:
        """Look at the socket exactly while somebody can have what comes there; the rest waits in it."""
        accepting = self._begun and not (self._ending.is_set() or self._paused or self._waiting) and self._freest() is not None
        if accepting and not self._accepting:
            self._loop.add_reader(self._listening, self._accept)
        elif self._accepting and not accepting:
            self._loop.remove_reader(self._listening)
        self._accepting = accepting

    def _freest(self) -> Process | None:
        """The process with the fewest connections, of equal ones that which has waited longest for another; None when none takes any."""
        able = [process for process in self._processes if process.takes(self._most)]
        return min(able, key=lambda process: (process.connections, process.served), default=None)

    async def _keep_counting(self) -> None:
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            await self._recount([process for process in self._processes if process.ready and not process.counting])

    async def _recount(self, processes: list[Process]) -> None:
        counting = [self._loop.create_task(process.count()) for process in processes]
        if counting:
            await asyncio.wait(counting, timeout=COUNT_SECONDS)

    async def _answer(self, process: Process) -> None:
        """Tell a process the numbers of the server."""
        await self._recount([each for each in self._processes if each.ready])
        process.answer(self._totals.text([*(each.last for each in self._processes), self._metrics.counts()]).decode())


def _most_connections() -> int:
    """How many connections a process may have open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(limit - SPARE_DESCRIPTORS, 1)
