"""One of several processes of a server: it serves the connections that its parent has accepted, and reports how many it has."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import final

import orjson
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from export.serving.application import Application
from export.serving.contents import Contents
from export.serving.errors import ServingError
from export.serving.limits import Limits
from export.serving.model import Model, opened
from export.serving.orders import LONGEST, Order, Report, Start, line
from export.serving.server import configuration

REFUSED = 2
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_START_SECONDS = 0.005


def main() -> None:
    """Be the process that the first word of the command line describes."""
    start = Start.parsed(sys.argv[1])
    _die_with(start.parent)
    reports = socket.socket(fileno=start.reports)
    try:
        bundle = Contents.read_from(start.bundle)
        model = opened(bundle, name=start.name, threads=start.threads, largest_batch=start.limits.batch)
        del bundle
    except ServingError as error:
        reports.sendall(line(Report.REFUSED, str(error)))
        sys.exit(REFUSED)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Member(model, start.limits, socket.socket(fileno=start.orders)).serve(reports))


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies, whatever kills it; elsewhere than on Linux the orders end then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@final
class _Member:
    """The part of the server that is in this process, and what it knows of the whole. orders: from the parent."""

    def __init__(self, model: Model, limits: Limits, orders: socket.socket) -> None:
        self._orders = orders
        self._application = Application(model, limits, self)
        self._server = uvicorn.Server(configuration(self._application, limits))
        self._complete = False
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._parent: asyncio.StreamWriter

    def ready(self) -> bool:
        """Whether all processes are ready, as far as the parent has said."""
        return self._complete

    async def numbers(self) -> bytes:
        """The numbers of all processes, from the parent."""
        self._asked.append(self._loop.create_future())
        self._parent.write(line(Report.ASKED))
        return await self._asked[-1]

    async def serve(self, reports: socket.socket) -> None:
        """Serve until the parent ends this, or is gone, and what is under way has been answered."""
        self._loop = asyncio.get_running_loop()
        heard, self._parent = await asyncio.open_unix_connection(sock=reports, limit=LONGEST)
        serving = asyncio.create_task(self._server.serve(sockets=[]))
        while not (self._server.started or serving.done()):
            await asyncio.sleep(_START_SECONDS)
        self._orders.setblocking(False)
        self._loop.add_reader(self._orders, self._obey)
        hearing = asyncio.create_task(self._hear(heard))
        self._parent.write(line(Report.READY))
        await serving
        hearing.cancel()

    async def _hear(self, heard: asyncio.StreamReader) -> None:
        while said := await heard.readline():
            _, text = orjson.loads(said)
            future = self._asked.popleft()
            if not future.done():  # whoever asked may be gone
                future.set_result(text.encode())

    def _obey(self) -> None:
        """Do what the parent has ordered next."""
        try:
            content, descriptors, _, _ = socket.recv_fds(self._orders, 1, 1)
        except ConnectionError:
            content, descriptors = b"", []
        order = Order(content) if content else Order.END  # nothing: the parent is gone
        if order is Order.CONNECTION:
            self._take(descriptors)
        elif order is Order.COUNT:
            self._parent.write(line(Report.COUNTS, self._application.counts()))
        elif order is Order.END:
            self._loop.remove_reader(self._orders)
            self._server.should_exit = True
        else:
            self._complete = order is Order.COMPLETE

    def _take(self, descriptors: list[int]) -> None:
        # Before a byte of it is read: what is not reported as taken is another's when this process dies.
        self._parent.write(line(Report.TAKEN))
        if not descriptors:  # this process may not open any more
            self._closed()
            return
        opening = self._loop.create_task(self._open(socket.socket(fileno=descriptors[0])))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        """Hand a connection to uvicorn."""
        try:
            connection.setblocking(False)
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:
            connection.close()
            self._closed()

    def _protocol(self) -> "_Connection":
        return _Connection(self._server, self._closed)

    def _closed(self) -> None:
        self._parent.write(line(Report.CLOSED))


@final
class _Connection(HttpToolsProtocol):
    """uvicorn's, which says when it is closed. Not wrapped, because every call of the event loop would then cost another."""

    def __init__(self, server: uvicorn.Server, closed: Callable[[], None]) -> None:
        super().__init__(server.config, server.server_state, server.lifespan.state)
        self._closed = closed

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._closed()
