"""The one route that has to be fast: an inference request, from ASGI messages to ASGI messages, with nothing in between.

FastAPI's own way, with its routing and its validation of every number, costs several times what a small model takes.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import final

import orjson
from starlette.types import Receive, Scope, Send

from export.serving.answer import Headers, answer
from export.serving.batching import Batcher
from export.serving.errors import RequestError
from export.serving.limits import Limits
from export.serving.metrics import INFERENCE, Metrics
from export.serving.model import Model
from export.serving.request import Reader

TYPES = (b"application/json", b"application/octet-stream")
_DIGITS = 18


@final
class Inference:
    """An ASGI application for inference requests, whatever the path. Answers 4xx to bad ones, 503 to more than it can hold."""

    def __init__(self, model: Model, batcher: Batcher, limits: Limits, metrics: Metrics) -> None:
        self._model = model
        self._reader = Reader(model, limits.batch)
        self._batcher = batcher
        self._limits = limits
        self._metrics = metrics
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a client that leaves before its request is whole gets nothing."""
        begin, code = time.perf_counter(), 200
        self._under_way += 1
        try:
            headers, body = await self._answer(scope, receive)
        except RequestError as error:
            code = error.code
            headers, body = refusal(error)
        except _GoneError:
            return
        except Exception:
            # An error of ours must reach its client as an answer, too, and the log with all that is known.
            logging.getLogger(__name__).exception("an inference failed")
            code = 500
            headers, body = refusal(RequestError(500, "the server failed; its log says more"))
        finally:
            self._under_way -= 1
        self._metrics.answered(INFERENCE, code, time.perf_counter() - begin)
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Headers, bytes]:
        if scope["method"] != "POST":
            raise RequestError(405, f"{scope['method']} is not for inference requests: use POST")
        if self._under_way > self._limits.requests:
            raise RequestError(503, f"{self._limits.requests} requests are under way, and the server holds no more: try again in a second")
        header_length = _checked_head(dict(scope["headers"]), self._limits.body)
        body = await self._body(receive)
        request = self._reader.read(body, header_length)
        outputs = await self._batcher.ask(request.feed, request.rows)
        return answer(request, self._model, outputs)

    async def _body(self, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                message = await receive()
                parts: list[bytes] = [message.get("body", b"")]
                while message.get("more_body") and sum(map(len, parts)) <= self._limits.body:
                    message = await receive()
                    parts.append(message.get("body", b""))
        except TimeoutError as error:
            raise RequestError(408, f"the body did not come within {self._limits.body_seconds:g} s: send it at once") from error
        if message["type"] == "http.disconnect":
            raise _GoneError
        body = b"".join(parts)
        if len(body) > self._limits.body:
            raise _too_large(self._limits.body)
        return body


def refusal(error: RequestError) -> tuple[Headers, bytes]:
    """Headers and body of an answer that is an error."""
    body = orjson.dumps({"error": error.sentence})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return headers + {405: [(b"allow", b"POST")], 503: [(b"retry-after", b"1")]}.get(error.code, []), body


def _checked_head(headers: Mapping[bytes, bytes], largest: int) -> int | None:
    """How many bytes of the body are JSON, where the header says so. Raises RequestError for a body that would not be read."""
    kind = headers.get(b"content-type", TYPES[0]).partition(b";")[0].strip().lower()
    length = headers.get(b"inference-header-content-length")
    if kind != TYPES[0] and (kind != TYPES[1] or length is None):
        binary = " or, with Inference-Header-Content-Length, application/octet-stream"
        raise RequestError(415, f"the content type is {kind.decode('latin-1')[:80]}, but must be application/json{binary}")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RequestError(415, "the body is compressed, which is not supported: send it as it is")
    if _number(headers.get(b"content-length", b"0"), "Content-Length") > largest:
        raise _too_large(largest)
    return None if length is None else _number(length, "Inference-Header-Content-Length")


def _number(value: bytes, name: str) -> int:
    if not value.isdigit() or len(value) > _DIGITS:
        raise RequestError(400, f"{name} must be a number of bytes")
    return int(value)


def _too_large(largest: int) -> RequestError:
    return RequestError(413, f"the body is larger than {largest} bytes, which is the most that is taken: send fewer rows, or raw bytes")


@final
class _GoneError(Exception):
    """The client went away."""
