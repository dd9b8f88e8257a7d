"""A search's side of a Dask cluster: the work goes to every node once, then trials alone travel."""

import itertools
import pickle
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, final

from distributed import Client, KilledWorker, LocalCluster
from distributed import Future as Task

from nas.engines import dask_node
from nas.engines.base import Answer, Session, report_of
from nas.engines.same_code import this_code
from nas.engines.seats import Answered, Order, cannot_evaluate, cannot_take_up, gone, lost, seats_of, token_in
from nas.evaluators.base import BLAMELESS, MachineError, reason
from nas.process_start import signals_left_to_this_thread
from nas.processes import Work
from nas.trial import Report, Trial

if TYPE_CHECKING:
    from nas.engines.dask import Dask

_LOST = (OSError, TimeoutError, CancelledError, RuntimeError)
"""What Dask raises where the scheduler is gone, while the session ends."""
_CLOSE_SECONDS = 2.0
"""To take leave of a scheduler, which may be gone."""


@contextmanager
def opened(chosen: "Dask", works: Sequence[Work], folder: Path | None) -> Iterator[Session]:
    """Connect, send the work, and look at the nodes. Raises MachineError, with the cure, where any of it fails."""
    name = f"nasflow-{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        with signals_left_to_this_thread():
            client = stack.enter_context(_client(chosen, len(works)))
            token = stack.enter_context(token_in(folder, name))
            node = dask_node.Node(name, Order(pickle.dumps(works[0]), this_code(), token, name, chosen.gpus))
            session = _Cluster(client, name, chosen)
            stack.callback(session.end)
            none = f"engine.gpus is {chosen.gpus:g}, but no node offers a GPU: start workers with `--resources GPU=1`"
            session.seats = seats_of([*_asked(client, node).items()], none)
        yield session


@contextmanager
def _client(chosen: "Dask", count: int) -> Iterator[Client]:
    with ExitStack() as stack:
        address = chosen.address
        if address is None:
            nodes = min(chosen.nodes, count)
            # No limit of memory: trials have their own, in processes that a node does not count.
            made = LocalCluster(n_workers=nodes, threads_per_worker=-(-count // nodes), memory_limit=None, dashboard_address=None)
            address = stack.enter_context(made).scheduler_address
        try:
            client = Client(address, timeout=chosen.wait_seconds)
            stack.callback(client.close, timeout=_CLOSE_SECONDS)
            client.wait_for_workers(1, timeout=chosen.wait_seconds)
        except (OSError, TimeoutError) as error:
            raise MachineError(
                f"engine.address is {address}, but after {chosen.wait_seconds:g} s no scheduler with a worker answers there "
                f"({reason(error)}): start `dask scheduler` there and `dask worker {address}` on every node"
            ) from error
        yield client


def _asked(client: Client, node: dask_node.Node) -> dict[str, Answered]:
    """Send the work to all nodes, those that join later too, and ask each about itself."""
    try:
        client.register_plugin(node)
        found: dict[str, Answered] = client.run(dask_node.look, node.name)
    except Exception as error:
        raise cannot_take_up(reason(error)) from error
    return found


@final
class _Cluster(Session):
    def __init__(self, client: Client, name: str, chosen: "Dask") -> None:
        self._client, self._name = client, name
        self._place, self._numbers = chosen.address or f"{chosen.nodes} nodes on this machine", itertools.count()
        self._resources = {"GPU": chosen.gpus} if chosen.gpus else None
        self._lock, self._tasks = threading.Lock(), dict[str, tuple[Task[Answer], Future[Report]]]()
        self.seats, self._lost = 0, False

    @property
    def description(self) -> str:
        """Where the scheduler is, and how many trials its nodes run at once."""
        return f"dask, {self._place}: {self.seats} trials at once"

    def submit(self, slot: int, trial: Trial, patience: float | None) -> "Future[Report]":
        """Have any node evaluate a trial."""
        key, report = f"{self._name}-{next(self._numbers)}", Future[Report]()
        try:
            task = self._client.submit(dask_node.evaluate, self._name, key, trial, patience, key=key, pure=False, resources=self._resources)
        except _LOST as error:
            report.set_exception(self._gone(error))
            return report
        with self._lock:
            self._tasks[key] = task, report
        task.add_done_callback(partial(self._settle, key))
        return report

    def end(self) -> None:
        """Have no node work for this any more; evaluations that still run are ended with their processes."""
        with self._lock:
            tasks, self._tasks = self._tasks, {}
        for _, report in tasks.values():
            report.cancel()
        if self._lost:
            return
        with suppress(*_LOST):
            self._client.cancel([task for task, _ in tasks.values()], force=True)
            self._client.unregister_worker_plugin(self._name)

    def _settle(self, key: str, task: Task[Answer]) -> None:
        """Hand on what became of a trial."""
        with self._lock:
            _, report = self._tasks.pop(key, (None, None))
        if report is None:  # the session has ended
            return
        try:
            report.set_result(report_of(task.result()))
        except KilledWorker:
            report.set_result(lost("every node that was to evaluate it was lost"))
        except CancelledError as error:
            report.set_exception(self._gone(error))
        except BLAMELESS as error:
            report.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the report must hear of it
            report.set_exception(cannot_evaluate(self._place, reason(error)))

    def _gone(self, error: BaseException) -> MachineError:
        self._lost = True
        return gone("scheduler", self._place, reason(error), "start it again with its workers")
