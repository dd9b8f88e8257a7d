"""The whole server as one ASGI application: FastAPI for what describes, a bare route for what infers.

Source: Open Inference Protocol (KServe v2), REST.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Protocol, final

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from export.serving import description
from export.serving.batching import Batcher
from export.serving.counts import Counts
from export.serving.inference import Inference
from export.serving.limits import Limits
from export.serving.metrics import OTHER, Metrics
from export.serving.model import VERSION, Model


class Whole(Protocol):
    """What a server says of itself."""

    def ready(self) -> bool:
        """Whether it is as strong as it should be."""
        ...

    async def numbers(self) -> bytes:
        """All that it has counted, in Prometheus's text format."""
        ...


@final
class _Alone:
    """A server of one process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def ready(self) -> bool:
        return True

    async def numbers(self) -> bytes:
        return self._metrics.text()


@final
class Application:
    """Serve `model` within `limits`; needs ASGI's lifespan, which starts and stops the thread that runs the model.

    whole: the server that this is a part of, where it is not all of it.
    """

    def __init__(self, model: Model, limits: Limits, whole: Whole | None = None) -> None:
        self._metrics = Metrics(model)
        batcher = Batcher(model, limits, self._metrics)
        self._inference = Inference(model, batcher, limits, self._metrics)
        self._paths = {f"{root}/infer" for root in _roots(model)}
        self._pages = _pages(model, limits, batcher, whole or _Alone(self._metrics))

    def counts(self) -> Counts:
        """What has been counted here."""
        return self._metrics.counts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request, or the lifespan."""
        if scope["type"] == "http" and scope["path"] in self._paths:
            await self._inference(scope, receive, send)
        elif scope["type"] == "http":
            await self._pages(scope, receive, self._counting(send))
        else:
            await self._pages(scope, receive, send)

    def _counting(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.answered(OTHER, message["status"])
            await send(message)

        return counted


def _pages(model: Model, limits: Limits, batcher: Batcher, whole: Whole) -> FastAPI:
    """All routes but inference, and the description of all."""

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    # FastAPI's pages of documentation load scripts from elsewhere; the description itself is at /openapi.json.
    pages = FastAPI(title="nasflow", version=version("nasflow"), lifespan=lifespan, docs_url=None, redoc_url=None)
    pages.exception_handler(HTTPException)(_refusals(model))
    _add_server(pages, whole)
    _add_model(pages, model)
    pages.openapi = _described(pages, model, limits)  # type: ignore[method-assign]
    return pages


def _add_server(pages: FastAPI, whole: Whole) -> None:
    @pages.get("/v2")
    async def server() -> description.ServerMetadata:
        """Say what the server is."""
        return description.ServerMetadata(name="nasflow", version=version("nasflow"), extensions=["binary_tensor_data"])

    @pages.get("/v2/health/live")
    async def live() -> description.Live:
        """Say that the process answers."""
        return description.Live(live=True)

    @pages.get("/v2/health/ready", responses={503: {"model": description.Ready}})
    async def ready(response: Response) -> description.Ready:
        """Say whether the model has been loaded, which it is before the server listens; with several processes, in all of them."""
        response.status_code = 200 if whole.ready() else 503
        return description.Ready(ready=whole.ready())

    @pages.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def numbers() -> Response:
        """Answer Prometheus."""
        return Response(await whole.numbers(), media_type=CONTENT_TYPE_LATEST)


def _add_model(pages: FastAPI, model: Model) -> None:
    async def about() -> description.ModelMetadata:
        """Say what the model takes and gives."""
        return description.metadata(model)

    async def ready() -> description.ModelReady:
        """Say that the model can answer."""
        return description.ModelReady(name=model.name, ready=True)

    for root in _roots(model):
        pages.get(root)(about)
        pages.get(f"{root}/ready")(ready)


def _roots(model: Model) -> tuple[str, str]:
    """The paths of a model, without its version and with it."""
    return f"/v2/models/{model.name}", f"/v2/models/{model.name}/versions/{VERSION}"


def _described(pages: FastAPI, model: Model, limits: Limits) -> Callable[[], dict[str, Any]]:
    """FastAPI's description with the route that it does not know."""
    made = pages.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        for number, root in enumerate(_roots(model)):
            document["paths"][f"{root}/infer"] = {"post": description.inference(model, limits) | {"operationId": f"infer_{number}"}}
        document["components"]["schemas"]["Problem"] = description.Problem.model_json_schema()
        return document

    return openapi


def _refusals(model: Model) -> Callable[[Request, Exception], Awaitable[Response]]:
    """What answers where no route does."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path, method = request.url.path[:200], request.method[:20]
        sentence = {
            404: f"nothing is at {path}: this server has the model {model.name}, version {VERSION}, and says more at /v2 and /openapi.json",
            405: f"{method} is not for {path}: use {(error.headers or {}).get('Allow', 'GET')}",
        }.get(error.status_code, str(error.detail))
        return JSONResponse({"error": sentence}, error.status_code, error.headers)

    return refused
