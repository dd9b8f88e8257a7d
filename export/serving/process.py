"""A process of a server as its parent has it: started, given connections, asked for its counts, ended."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, final

import orjson

from export.serving.counts import Counts
from export.serving.orders import LONGEST, Order, Report, Start, line

SIGNALS = (signal.SIGINT, signal.SIGTERM)
UNTAKEN = 64
"""Connections that may wait for a process to take them; the next ones wait for any process."""
_CODE = "import sys; sys.path[:] = {path!r}; from export.serving.member import main; main()"


@final
class Process:
    """One that has been started as `start` says, whose own descriptors need not be filled in.

    ready: whether it serves. served: a number that grows with every connection of the server, that of its last one.
    """

    def __init__(self, start: Start) -> None:
        """Raises OSError when the system starts no more processes."""
        self._orders, orders = socket.socketpair()
        self._reports, reports = socket.socketpair()
        self._orders.setblocking(False)
        with orders, reports:
            told = replace(start, parent=os.getpid(), orders=orders.fileno(), reports=reports.fileno())
            # It finds our modules where this process does, and nothing that happens to lie in the working folder.
            words = [sys.executable, "-P", "-c", _CODE.format(path=sys.path), told.text()]
            with _signals_held():
                handed = (told.orders, told.reports, told.bundle)
                self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=handed)
        self.ready = False
        self.served = 0
        self.last: Counts = []
        self._open = 0
        self._untaken: deque[socket.socket] = deque()
        self._counting: deque[asyncio.Future[None]] = deque()
        self._writer: asyncio.StreamWriter

    @property
    def connections(self) -> int:
        """How many it has, with those that it is about to take."""
        return self._open + len(self._untaken)

    @property
    def counting(self) -> bool:
        """Whether it has yet to say what it counted."""
        return bool(self._counting)

    def takes(self, most: int) -> bool:
        """Whether it may be given a connection more, when it may have `most`."""
        return self.ready and len(self._untaken) < UNTAKEN and self.connections < most

    def give(self, connection: socket.socket) -> bool:
        """Hand it a connection, which stays open here until it is taken there; False when it cannot be reached."""
        try:
            socket.send_fds(self._orders, [Order.CONNECTION.value], [connection.fileno()])
        except OSError:
            self.ready = False  # it is dying, which ends its reports, too
            return False
        self._untaken.append(connection)
        return True

    def order(self, order: Order) -> None:
        """Tell it something; one that is dying need not know."""
        with suppress(OSError):
            self._orders.send(order.value)

    def end(self) -> None:
        """Have it end when it has answered all; one that is not ready has nothing to answer."""
        if self.ready:
            self.order(Order.END)
            self.ready = False  # it takes no more
        else:
            self.kill()

    async def count(self) -> None:
        """Have `last` renewed; it may die meanwhile."""
        counting = asyncio.get_running_loop().create_future()
        self._counting.append(counting)
        self.order(Order.COUNT)
        await counting

    def answer(self, text: str) -> None:
        """Give it the numbers of the server that it asked for."""
        self._writer.write(line(Report.NUMBERS, text))

    async def reports(self) -> AsyncIterator[list[Any]]:
        """What it says until it ends, but for what this record of it wants to know."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._reports, limit=LONGEST)
        with suppress(ConnectionError):
            while said := await reader.readline():
                report = orjson.loads(said)
                self._note(report)
                yield report
        self._writer.close()

    def _note(self, report: list[Any]) -> None:
        match report:
            case [Report.READY]:
                self.ready = True
            case [Report.TAKEN]:
                self._untaken.popleft().close()
                self._open += 1
            case [Report.CLOSED]:
                self._open -= 1
            case [Report.COUNTS, counts]:
                self.last = counts
                counting = self._counting.popleft()
                if not counting.done():
                    counting.set_result(None)

    async def ended(self) -> tuple[int, list[socket.socket]]:
        """Wait for its end, after that of its reports: its exit status, less than 0 for a signal, and the connections it has not taken."""
        self.ready = False
        code = await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        for counting in self._counting:
            counting.cancel()
        self._orders.close()
        return code, list(self._untaken)

    def kill(self) -> None:
        """End it now."""
        self._process.kill()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let a process that is started hear no Ctrl-C, which reaches all of a terminal, and no SIGTERM: its parent says when it ends."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
