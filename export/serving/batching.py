"""Dynamic batching: requests that wait at the same time become one run of the model.

One thread runs the model, one batch after the other, so that the event loop reads requests and writes answers meanwhile. A batch is
what waits when the thread becomes free, at most `Limits.batch` rows, of equal shapes. The thread takes it without asking the loop: on
a busy machine the loop may have to wait for its turn, and the model would wait with it.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from typing import final

import numpy as np
from numpy.typing import NDArray

from export.serving.errors import RequestError, first_line
from export.serving.limits import Limits
from export.serving.metrics import Metrics
from export.serving.model import Model

Array = NDArray[np.generic]
Answer = Sequence[Array]
Outcome = Answer | RequestError


@final
@dataclass(frozen=True, slots=True)
class _Job:
    feed: Mapping[str, Array]
    rows: int
    future: asyncio.Future[Answer]

    def shapes(self) -> list[tuple[int, ...]]:
        """What must be equal for two jobs to run together."""
        return [array.shape[1:] for array in self.feed.values()]


@final
class Batcher:
    """Answers requests by running `model` on batches of them. Use it inside one event loop, between `start` and `stop`."""

    def __init__(self, model: Model, limits: Limits, metrics: Metrics) -> None:
        self._model = model
        self._limits = limits
        self._metrics = metrics
        self._lock = Lock()  # holds the two below together
        self._waiting: deque[_Job] = deque()
        self._idle = True
        self._woken: SimpleQueue[bool] = SimpleQueue()
        self._timer: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._thread: Thread

    def start(self) -> None:
        """Start the thread; call it in the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._metrics.watch_queue(self._waiting.__len__)
        self._thread = Thread(target=self._serve, name="model", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread when everything asked so far is answered."""
        while self._waiting or not self._idle:
            await asyncio.sleep(0.005)
        self._woken.put(False)
        await self._loop.run_in_executor(None, self._thread.join)

    def ask(self, feed: Mapping[str, Array], rows: int) -> "asyncio.Future[Answer]":
        """The model's outputs for the rows of `feed`, as soon as they are there; RequestError (400) when it cannot run on them."""
        job = _Job(feed, rows, self._loop.create_future())
        with self._lock:
            self._waiting.append(job)
            idle = self._idle
        if idle and self._timer is None:
            delay = self._limits.delay if self._model.batched else 0.0
            # Not at once even without a delay: what else has arrived in this turn of the loop comes along.
            self._timer = self._loop.call_later(delay, self._wake) if delay else self._loop.call_soon(self._wake)
        elif idle and self._limits.delay and sum(job.rows for job in self._waiting) >= self._limits.batch:
            self._wake()
        return job.future

    def _wake(self) -> None:
        """Tell the thread that something waits, and the delay is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            woken, self._idle = self._idle, False
        if woken:
            self._woken.put(True)

    def _serve(self) -> None:
        """The thread: runs batches until it is told to end."""
        while self._woken.get():
            while jobs := self._next_batch():
                self._loop.call_soon_threadsafe(self._end, jobs, _outcomes(self._model, jobs))

    def _next_batch(self) -> list[_Job]:
        """What runs next; without any the thread is idle from then on."""
        with self._lock:
            while self._waiting and self._waiting[0].future.done():
                self._waiting.popleft()  # whoever asked is gone
            self._idle = not self._waiting
            if self._idle:
                return []
            jobs = [self._waiting.popleft()]
            rows, shapes = jobs[0].rows, jobs[0].shapes()
            while self._model.batched and self._waiting and rows + self._waiting[0].rows <= self._limits.batch:
                if self._waiting[0].shapes() != shapes:
                    break
                jobs.append(self._waiting.popleft())
                rows += jobs[-1].rows
            return jobs

    def _end(self, jobs: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
        """In the loop: hand out what a run has brought."""
        self._metrics.ran(len(jobs), sum(job.rows for job in jobs))
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.future.done():
                continue
            if isinstance(outcome, RequestError):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)


def _outcomes(model: Model, jobs: Sequence[_Job]) -> Sequence[Outcome]:
    """An answer or a refusal for every job."""
    try:
        return _run(model, jobs)
    except Exception as error:  # noqa: BLE001 - onnxruntime raises classes of its own, one per status
        if len(jobs) == 1:
            return [RequestError(400, f"the model cannot run on these inputs: {first_line(error)}")]
    # One request that the model cannot take must not be the others' failure.
    return [_outcomes(model, [job])[0] for job in jobs]


def _run(model: Model, jobs: Sequence[_Job]) -> list[Answer]:
    if len(jobs) == 1:
        return [model.run(jobs[0].feed)]
    names = jobs[0].feed.keys()
    outputs = model.run({name: np.concatenate([job.feed[name] for job in jobs]) for name in names})
    answers: list[Answer] = []
    begin = 0
    for job in jobs:
        end = begin + job.rows
        answers.append([output[begin:end] for output in outputs])
        begin = end
    return answers
