"""A node of a Dask cluster: a plugin of its worker that has seats for trials."""

import multiprocessing
from typing import Any, cast, final

from distributed import Event, Worker, WorkerPlugin, get_client, get_worker

from nas.engines.base import Answer
from nas.engines.seats import BEGINNINGS, Answered, Order, Seats, environments, lost
from nas.evaluators.base import MachineError
from nas.trial import Trial


@final
class Node(WorkerPlugin):
    """Answers trials in as many processes as the node has threads, or has shares of GPUs."""

    def __init__(self, name: str, order: Order) -> None:
        self.name = name
        self._order = order

    def setup(self, worker: Worker) -> None:
        """Look at the node; processes are started by the first trials."""
        # A nanny marks its worker as a daemon, which may have no children. These end with their parent all the same.
        multiprocessing.current_process().daemon = False
        offered = worker.state.total_resources.get("GPU", 0.0)
        self.seats = Seats(self._order, environments(self._order.gpus, worker.state.nthreads, offered))

    def teardown(self, worker: Worker) -> None:
        """End every process, whatever it is doing."""
        self.seats.close()

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """End the evaluation of a trial that nobody waits for any more: its search was stopped, or killed."""
        if start == "executing" and finish == "released":
            self.seats.interrupt(key)

    def answer(self, key: str, trial: Trial, patience: float | None) -> Answer:
        """Evaluate a trial in a free process and wait for it. One that began too often with nodes that were lost fails untried."""
        if self.seats.problem is not None:
            return MachineError(self.seats.problem)
        began = _begin(key)
        if began is None:
            return lost()
        try:
            return self.seats.answer(key, trial, patience)
        finally:
            for event in began:
                event.clear()


def evaluate(name: str, key: str, trial: Trial, patience: float | None) -> Answer:
    """What a task of Dask does."""
    return _node(get_worker(), name).answer(key, trial, patience)


def look(name: str, dask_worker: Worker) -> Answered:
    """Ask a node about itself; Dask hands it in."""
    return _node(dask_worker, name).seats.look()


def _node(worker: Worker, name: str) -> Node:
    return cast(Node, worker.plugins[name])


def _begin(key: str) -> list[Event] | None:
    """Note at the scheduler, which outlives a node, that a trial begins; None when it has begun too often without an end."""
    events: list[Event] = []
    client = get_client()
    for number in range(BEGINNINGS):
        events.append(Event(f"{key}-{number}", client=client))
        if not events[-1].is_set():
            events[-1].set()
            return events
    return None
