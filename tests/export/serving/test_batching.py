"""Requests run together and are answered as if each had been alone."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from asgi_client import Client
from served import IMAGES, images, looked_up

from export.serving.application import Application
from export.serving.batching import Array, Batcher
from export.serving.errors import RequestError
from export.serving.limits import Limits
from export.serving.metrics import Metrics
from export.serving.model import Model

INFER = "/v2/models/model/infer"


@dataclass
class Gate:
    """A session that waits until it may run, and notes what it ran."""

    session: Any
    opened: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    ran: list[int] = field(default_factory=list)

    def run(self, names: None, batch: Mapping[str, Array]) -> Any:
        self.reached.set()
        assert self.opened.wait(60)
        self.ran.append(max(len(array) for array in batch.values()))
        return self.session.run(names, batch)


def gated(model: Model) -> tuple[Model, Gate]:
    gate = Gate(model.session)
    return Model(model.name, model.sha256, gate, model.inputs, model.outputs, model.batched, model.classes, model.labelled), gate


def batching(model: Model, limits: Limits, scenario: Callable[[Batcher], Coroutine[Any, Any, None]]) -> None:
    """Run the scenario beside a batcher, which must come to its end."""

    async def whole() -> None:
        batcher = Batcher(model, limits, Metrics(model))
        batcher.start()
        try:
            await scenario(batcher)
        finally:
            await asyncio.wait_for(batcher.stop(), 60)

    asyncio.run(whole())


def test_together_is_as_alone(classifier: Model) -> None:
    sizes = [1, 3, 2, 1, 8, 1]
    parts = [IMAGES[place : place + size] if place + size <= 8 else IMAGES[:size] for place, size in enumerate(sizes)]
    alone = [classifier.run({"images": part}) for part in parts]
    gate_model, gate = gated(classifier)

    async def scenario(batcher: Batcher) -> None:
        asked = [batcher.ask({"images": part}, len(part)) for part in parts]
        gate.opened.set()
        for answers, expected in zip(await asyncio.gather(*asked), alone, strict=True):
            for answer, wanted in zip(answers, expected, strict=True):
                assert np.allclose(answer, wanted, atol=1e-6)

    batching(gate_model, Limits(batch=8), scenario)
    assert gate.ran == [7, 8, 1]


def test_what_waits_while_a_run_goes_on_is_the_next_run(classifier: Model) -> None:
    gate_model, gate = gated(classifier)

    async def scenario(batcher: Batcher) -> None:
        first = batcher.ask({"images": IMAGES[:1]}, 1)
        assert await asyncio.to_thread(gate.reached.wait, 60)
        others = [batcher.ask({"images": IMAGES[:1]}, 1) for _ in range(5)]
        gate.opened.set()
        await asyncio.gather(first, *others)

    batching(gate_model, Limits(), scenario)
    assert gate.ran == [1, 5]


@pytest.mark.parametrize(("delay", "batch", "runs"), [(30.0, 4, [4]), (0.05, 64, [4]), (0.0, 64, [1, 1, 1, 1])])
def test_the_first_waits_for_others_until_the_batch_is_full_or_the_delay_over(
    classifier: Model, delay: float, batch: int, runs: list[int]
) -> None:
    gate_model, gate = gated(classifier)
    gate.opened.set()

    async def scenario(batcher: Batcher) -> None:
        asked = []
        for _ in range(4):
            asked.append(batcher.ask({"images": IMAGES[:1]}, 1))
            await asyncio.sleep(0) if delay else await asked[-1]
        await asyncio.gather(*asked)

    batching(gate_model, Limits(delay=delay, batch=batch), scenario)
    assert gate.ran == runs


def test_one_that_fails_does_not_fail_its_neighbours(table: Model) -> None:
    def feed(place: int) -> dict[str, Array]:
        return {"place": np.array([place]), "scale": np.ones((1, 2), np.float32), "keep": np.ones((1, 2), np.bool_)}

    async def scenario(batcher: Batcher) -> None:
        found = await asyncio.gather(*[batcher.ask(feed(place), 1) for place in (0, 9, 3)], return_exceptions=True)
        good: Sequence[Any] = [found[0], found[2]]
        assert [answer[0].tolist() for answer in good] == [[[1.0, 1.0]], [[8.0, 8.0]]]
        assert isinstance(found[1], RequestError)
        assert found[1].code == 400

    batching(table, Limits(), scenario)


def test_whoever_left_is_nobody_s_failure(classifier: Model) -> None:
    gate_model, gate = gated(classifier)

    async def scenario(batcher: Batcher) -> None:
        gone, stays = (batcher.ask({"images": IMAGES[:1]}, 1) for _ in range(2))
        gone.cancel()
        gate.opened.set()
        assert len(await stays) == 2

    batching(gate_model, Limits(), scenario)


def test_the_end_waits_for_what_was_asked(classifier: Model) -> None:
    gate_model, gate = gated(classifier)
    asked: list[Any] = []

    async def scenario(batcher: Batcher) -> None:
        asked.extend(batcher.ask({"images": IMAGES[:1]}, 1) for _ in range(3))
        asyncio.get_running_loop().call_later(0.05, gate.opened.set)

    batching(gate_model, Limits(batch=1), scenario)
    assert [len(future.result()) for future in asked] == [2, 2, 2]


def test_a_model_without_open_rows_runs_one_request_at_a_time(classifier: Model) -> None:
    single = Model(classifier.name, classifier.sha256, classifier.session, classifier.inputs, classifier.outputs, batched=False)
    gate_model, gate = gated(single)

    async def scenario(batcher: Batcher) -> None:
        asked = [batcher.ask({"images": IMAGES[:2]}, 1) for _ in range(3)]
        gate.opened.set()
        await asyncio.gather(*asked)

    batching(gate_model, Limits(delay=30.0), scenario)
    assert gate.ran == [2, 2, 2]


def test_more_than_the_server_holds_is_told_to_come_back(classifier: Model) -> None:
    gate_model, gate = gated(classifier)
    threading.Timer(0.2, gate.opened.set).start()
    with Client(Application(gate_model, Limits(requests=3))) as client:
        answers = client.post_together(INFER, [{"json": images(IMAGES[:1])}] * 5)
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 503, 503]
        [refused] = {(answer.headers["retry-after"], answer.json()["error"]) for answer in answers if answer.status_code == 503}
        assert refused == ("1", "3 requests are under way, and the server holds no more: try again in a second")
        assert client.post(INFER, json=images(IMAGES[:1])).status_code == 200


def test_many_at_once_get_their_own_answers(table: Model) -> None:
    asked = [looked_up([place % 4], [[place, -place]], [[True, True]]) for place in range(40)]
    with Client(Application(table, Limits(batch=4))) as client:
        answers = client.post_together(INFER, [{"json": request} for request in asked])
    factors = [1, 2, 4, 8]
    expected = [[place * factors[place % 4], -place * factors[place % 4]] for place in range(40)]
    assert [answer.json()["outputs"][0]["data"] for answer in answers] == expected
