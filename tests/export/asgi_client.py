"""Asking an ASGI application without a socket: its lifespan, and requests by httpx, one after the other or together."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import httpx
from starlette.types import ASGIApp


class Client:
    """`with Client(application) as client: client.post(path, json=…)`; coroutines run in the application's own loop."""

    def __init__(self, application: ASGIApp) -> None:
        self.application = application
        self._runner = asyncio.Runner()
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://served")

    def __enter__(self) -> Self:
        self._lifespan = _Lifespan(self.application)
        self.run(self._lifespan.start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.run(self._lifespan.stop())
        self.run(self._http.aclose())
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, **sent: Any) -> httpx.Response:
        return self.request("POST", path, **sent)

    def request(self, method: str, path: str, **sent: Any) -> httpx.Response:
        answer: httpx.Response = self.run(self._http.request(method, path, **sent))
        return answer

    def post_together(self, path: str, requests: list[dict[str, Any]]) -> list[httpx.Response]:
        """All at the same time, answers in the order of the requests."""

        async def together() -> list[httpx.Response]:
            return await asyncio.gather(*[self._http.post(path, **sent) for sent in requests])

        answers: list[httpx.Response] = self.run(together())
        return answers


class _Lifespan:
    """The application's own start and end, as a server tells it of them."""

    def __init__(self, application: ASGIApp) -> None:
        self.application = application
        self.told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.said: asyncio.Queue[Any] = asyncio.Queue()

    async def start(self) -> None:
        self.task = asyncio.create_task(self.application({"type": "lifespan", "state": {}}, self.told.get, self.said.put))
        await self.told.put({"type": "lifespan.startup"})
        assert (await self.said.get())["type"] == "lifespan.startup.complete"

    async def stop(self) -> None:
        await self.told.put({"type": "lifespan.shutdown"})
        assert (await self.said.get())["type"] == "lifespan.shutdown.complete"
        await self.task
