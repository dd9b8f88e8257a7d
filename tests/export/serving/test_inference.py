"""What happens when a client is slow, leaves, or meets an error of ours."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_client import Client
from served import IMAGES, images

from export.serving import inference
from export.serving.application import Application
from export.serving.limits import Limits
from export.serving.model import Model

BODY = json.dumps(images(IMAGES[:1])).encode()


@pytest.fixture
def hasty(classifier: Model) -> Iterator[Client]:
    """A server that waits for a body for a moment only, and holds one request."""
    with Client(Application(classifier, Limits(body_seconds=0.05, requests=1))) as opened:
        yield opened


def asked(client: Client, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What the application sends for a request of which these messages come, and then none."""
    coming, sent = list(messages), []

    async def receive() -> Any:
        return coming.pop(0) if coming else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v2/models/model/infer", "headers": [(b"content-type", b"application/json")]}
    client.run(client.application(scope, receive, send))  # type: ignore[arg-type]
    return sent


def test_a_body_in_pieces(hasty: Client) -> None:
    pieces = [{"type": "http.request", "body": BODY[place : place + 100], "more_body": True} for place in range(0, len(BODY), 100)]
    start, body = asked(hasty, *pieces, {"type": "http.request"})
    assert start["status"] == 200
    assert json.loads(body["body"])["outputs"][0]["shape"] == [1, 4]


@pytest.mark.parametrize("messages", [[], [{"type": "http.request", "body": BODY[:50], "more_body": True}]])
def test_a_body_that_does_not_come(hasty: Client, messages: list[dict[str, Any]]) -> None:
    start, body = asked(hasty, *messages)
    assert start["status"] == 408
    assert json.loads(body["body"]) == {"error": "the body did not come within 0.05 s: send it at once"}


def test_a_client_that_leaves_gets_nothing_and_holds_no_place(hasty: Client) -> None:
    assert asked(hasty, {"type": "http.request", "body": BODY[:50], "more_body": True}, {"type": "http.disconnect"}) == []
    assert asked(hasty, {"type": "http.disconnect"}) == []
    assert asked(hasty, {"type": "http.request", "body": BODY})[0]["status"] == 200


def test_an_error_of_ours_is_an_answer_and_a_line_in_the_log(
    hasty: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: Any) -> Any:
        raise KeyError("ours")

    monkeypatch.setattr(inference, "answer", broken)
    with caplog.at_level(logging.ERROR):
        start, body = asked(hasty, {"type": "http.request", "body": BODY})
    assert start["status"] == 500
    assert json.loads(body["body"]) == {"error": "the server failed; its log says more"}
    assert "KeyError: 'ours'" in caplog.text
