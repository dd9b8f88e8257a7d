"""Who is told how a run ended: a web address or a block of Prefect, when there is something to tell, and at no cost to the run."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Failed, State
from web_hook import Told, receiving

from flows import notices
from flows.scheduled import nasflow


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """A web address that takes JSON."""
    monkeypatch.setattr(notices.time, "sleep", lambda seconds: None)
    with receiving() as found:
        yield found


def run_of(notify: str | None) -> FlowRun:
    """A run as Prefect gives it to a hook."""
    return FlowRun(flow_id=uuid4(), name="busy-bee", parameters={"root": "/home/somebody/flowers", "how": {"notify": notify}})


@pytest.mark.parametrize(
    "state",
    [Failed(message="search: trials is 0"), Completed(message="up to date: search"), Crashed(message="its process is gone")],
    ids=lambda state: state.name,
)
def test_failures_and_new_results_are_told(told: Told, state: State[Any]) -> None:
    run = run_of(told.url)
    notices.tell(nasflow, run, state)
    [content] = told.contents
    assert {name: content[name] for name in ("project", "run", "run_id", "state", "message")} == {
        "project": "flowers",  # the folder's name: where it lies is nobody else's business
        "run": "busy-bee",
        "run_id": str(run.id),
        "state": state.name,
        "message": state.message,
    }
    assert "/home/somebody" not in json.dumps(content)


def test_a_run_that_had_nothing_to_do_tells_nobody(told: Told) -> None:
    notices.tell(nasflow, run_of(told.url), Completed(name="Cached", message="nothing has changed"))
    notices.tell(nasflow, run_of(None), Failed(message="x"))
    assert told.contents == []


@pytest.mark.filterwarnings("ignore:Logger 'prefect.extra.nasflow' attempted")
def test_a_receiver_that_fails_is_asked_three_times_and_then_left_alone(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    told.failures = 2
    notices.tell(nasflow, run_of(told.url), Failed(message="first"))
    assert [content["message"] for content in told.contents] == ["first"]
    told.failures = 3
    notices.tell(nasflow, run_of(told.url), Failed(message="second"))
    assert len(told.contents) == 1
    assert "nobody could be told how the run ended" in caplog.text


def test_a_block_gets_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str, str]] = []

    class Blocks:
        def __init__(self, name: str) -> None:
            self.name = name

        @classmethod
        def load(cls, name: str) -> "Blocks":
            return cls(name)

        def notify(self, text: str, subject: str) -> None:
            sent.append((self.name, subject, text.split("\n")[0]))

    monkeypatch.setattr(notices, "Block", Blocks)
    notices.tell(nasflow, run_of("slack-webhook/team"), Failed(message="search: trials is 0"))
    assert sent == [("slack-webhook/team", "nasflow: flowers Failed", "flowers: Failed. search: trials is 0")]


def test_every_end_of_a_deployed_run_is_told() -> None:
    hooks = (nasflow.on_completion_hooks, nasflow.on_failure_hooks, nasflow.on_crashed_hooks, nasflow.on_cancellation_hooks)
    assert all(list(found) == [notices.tell] for found in hooks)
