"""The process that speaks with Ray for a search: it has an actor on every node, and hands them trials.

It is a process of its own since Ray ends the one that connects when the head is lost, takes its signals and prints to its terminal.
"""

import math
import os
import queue
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, final

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nas.engines.ray_messages import Asked, Begin, Failed, Opened, Told, head_is_gone
from nas.engines.ray_node import Node
from nas.engines.seats import BEGINNINGS, Answered, cannot_evaluate, cannot_take_up, lost, on_a_gpu
from nas.evaluators.base import MachineError, reason

_HERE = "this machine"
_LOOK_SECONDS = 1.0
"""Between two looks at which nodes there are."""
_TOGETHER_SECONDS = 10.0
"""For nodes to answer after the first one did; later ones join a search that has begun."""
_AGAIN_SECONDS = 3.0
"""Until a node that was lost is tried again, if it is still there."""
_END_SECONDS = 10.0
"""To take leave of Ray, which may be gone."""
_STORE_BYTES = 128 * 2**20
"""For what a cluster on this machine keeps in memory: the work, and what larger is goes to its folder."""
_OTHERS = 4
"""Calls of an actor that run beside its trials: looking at it."""


def drive(begin: Begin, connection: Connection) -> None:
    """Connect, evaluate what is asked, and end with the search: when it says so, or when its end of the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches every process of a terminal; the search says when to end
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # processes of Ray end by it
    try:
        _connect(begin)
    except Exception as error:  # noqa: BLE001 - Ray raises of many kinds; a person must read why
        connection.send(Failed(_unreachable(begin, error)))
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as for Ctrl-C
    driver = _Driver(begin, connection)
    try:
        driver.run()
    except Exception as error:  # noqa: BLE001 - as above
        driver.tell(Failed(head_is_gone(begin.address or _HERE, reason(error))))
    threading.Timer(_END_SECONDS, os._exit, [1]).start()
    driver.end()
    os._exit(0)  # threads still wait for Ray


def _connect(begin: Begin) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": "critical"}
    if begin.address is not None:
        ray.init(address=begin.address, **quiet)
        return
    seats = begin.nodes * _each(begin)
    ray.init(
        "local", num_cpus=seats, num_gpus=0, include_dashboard=False, _temp_dir=begin.folder, object_store_memory=_STORE_BYTES, **quiet
    )


def _unreachable(begin: Begin, error: Exception) -> MachineError:
    if begin.address is None:
        return MachineError(f"engine is ray, but no cluster can be started on this machine ({reason(error)}): set engine.address")
    return MachineError(
        f"engine.address is {begin.address}, but this machine cannot join in there ({_why(error.__cause__ or error)}): start "
        f"`ray start --address={begin.address} --num-cpus=0` here, with the same Ray and Python, and the token if the cluster has one"
    )


def _why(error: BaseException) -> str:
    """What was raised, on a node say: the first sentence that ends the traceback which Ray gives instead."""
    return str(error).strip().rpartition("\n")[2].partition(". ")[0]


def _each(begin: Begin) -> int:
    """Trials at once for every node of a cluster on this machine."""
    return -(-begin.workers // begin.nodes)


@dataclass(eq=False)
class _Place:
    """An actor on a node. `free`: how many trials it could begin now; 0 until it has said that it is well."""

    key: tuple[str, int]
    address: str
    seats: int
    actor: Any
    ready: bool = False
    free: int = 0


@dataclass(eq=False)
class _Task:
    """A trial, and the places that were lost with it."""

    asked: Asked
    lost: list[tuple[str, int]] = field(default_factory=list)
    losses: int = 0


@final
class _Driver:
    """All that happens is a call in one queue, so that one thread alone has the places and the trials."""

    def __init__(self, begin: Begin, connection: Connection) -> None:
        self._begin, self._connection, self._order = begin, connection, ray.put(begin.order)
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._places, self._later = dict[tuple[str, int], _Place](), dict[tuple[str, int], float]()
        self._waiting, self._again = deque[_Task](), list[_Task]()
        self._found, self._opened, self._over = list[tuple[str, Answered]](), False, False
        self._began, self._first = time.monotonic(), math.inf

    def run(self) -> None:
        """Work until the search ends."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        while not self._over:
            self._events.get()()
            if not self._opened:
                self._try_to_open()

    def tell(self, message: Opened | Told | Failed) -> None:
        """Send something to the search. Where that is gone, whoever listens hears of it, too."""
        with suppress(OSError):
            self._connection.send(message)

    def end(self) -> None:
        """End the trials on all nodes, and leave."""
        with suppress(RayError):
            for place in self._places.values():
                ray.kill(place.actor)
        ray.shutdown()
        if self._begin.folder is not None:  # a search that was killed cannot
            shutil.rmtree(self._begin.folder, ignore_errors=True)

    def _listen(self) -> None:
        while True:
            try:
                asked = self._connection.recv()
            except (EOFError, OSError):
                asked = None
            self._events.put(partial(self._ask, asked))
            if asked is None:
                return

    def _watch(self) -> None:
        while True:
            with suppress(RayError, RuntimeError, OSError):
                self._events.put(partial(self._notice, ray.nodes()))
            time.sleep(_LOOK_SECONDS)

    def _ask(self, asked: Asked | None) -> None:
        """Have a trial evaluated; None ends."""
        if asked is None:
            self._over = True
        else:
            self._waiting.append(_Task(asked))
            self._dispatch()

    def _notice(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Have an actor on every node that has room for one."""
        for node in nodes:
            seats = self._room(node["Resources"]) if node["Alive"] else 0
            for key in [(node["NodeID"], number) for number in range(1 if self._begin.address else self._begin.nodes)]:
                if seats and key not in self._places and time.monotonic() >= self._later.get(key, 0.0):
                    self._enter(_Place(key, node["NodeManagerAddress"], seats, self._actor(key[0], node["Resources"], seats)))

    def _room(self, resources: Mapping[str, float]) -> int:
        """How many trials of this search a node takes at once, if nothing else ran there."""
        if self._begin.address is None:
            return _each(self._begin)
        share = self._begin.order.gpus
        offered = int(resources.get("GPU", 0)) * on_a_gpu(share) if share else int(resources.get("CPU", 0))
        return min(offered, self._begin.workers)

    def _actor(self, node: str, resources: Mapping[str, float], seats: int) -> Any:
        """Start an actor on a node, which reserves there what its trials take; it begins when that is free."""
        share = self._begin.order.gpus
        gpus = seats * share if seats * share <= 1 else math.ceil(seats / on_a_gpu(share))
        options: dict[str, Any] = {"num_cpus": min(seats, int(resources.get("CPU", 0))), "num_gpus": gpus}
        placed = NodeAffinitySchedulingStrategy(node, soft=False)
        return ray.remote(Node).options(**options, max_concurrency=seats + _OTHERS, scheduling_strategy=placed).remote(self._order, seats)

    def _enter(self, place: _Place) -> None:
        self._places[place.key] = place
        self._when_done(place.actor.look.remote(), partial(self._looked, place))

    def _when_done(self, call: Any, then: Callable[[Any], None]) -> None:
        call.future().add_done_callback(lambda future: self._events.put(partial(then, future)))

    def _looked(self, place: _Place, future: Any) -> None:
        """A node has said whether it is well."""
        try:
            answered: Answered = future.result()
        except RayTaskError as error:
            self._fail(cannot_take_up(_why(error)))
            return
        except RayError as error:
            if isinstance(error, ActorDiedError) and error.actor_init_failed:
                self._fail(cannot_take_up(_why(error)))
            else:
                self._leave(place)
            return
        if self._opened and answered.problem is not None:
            self._fail(MachineError(f"the node {place.address} {answered.problem}"))
            return
        self._found.append((place.address, answered))
        self._first = min(self._first, time.monotonic())
        place.ready, place.free = True, place.seats
        self._dispatch()

    def _try_to_open(self) -> None:
        """Say who is there once all are, or have had the time to be."""
        now = time.monotonic()
        all_ready = bool(self._places) and all(place.ready for place in self._places.values())
        if self._found and (all_ready or now > self._first + _TOGETHER_SECONDS):
            self._opened = True
            self.tell(Opened(self._found))
        elif not self._found and now > self._began + self._begin.wait_seconds:
            self._fail(self._no_room())

    def _no_room(self) -> MachineError:
        address = self._begin.address
        if self._begin.order.gpus:
            told, start = f"engine.gpus is {self._begin.order.gpus:g}", f"`ray start --address={address} --num-gpus=1`"
        else:
            told, start = f"engine.address is {address}", f"`ray start --address={address}`"
        after = f"after {self._begin.wait_seconds:g} s no node there has room for a trial"
        return MachineError(f"{told}, but {after}: {start} on every node, or wait for what else runs on them")

    def _dispatch(self) -> None:
        """Begin as many trials as there are free places, those that lost one first."""
        for task in list(self._again):
            elsewhere = [place for place in self._places.values() if place.ready and place.key not in task.lost]
            if place := self._freest(elsewhere or self._places.values()):
                self._again.remove(task)
                self._start(task, place)
        while self._waiting and (place := self._freest(self._places.values())):
            self._start(self._waiting.popleft(), place)

    @staticmethod
    def _freest(places: Any) -> _Place | None:
        place: _Place | None = max(places, key=lambda place: place.free, default=None)
        return place if place is not None and place.free else None

    def _start(self, task: _Task, place: _Place) -> None:
        place.free -= 1
        key, trial, patience = task.asked
        self._when_done(place.actor.answer.remote(str(key), trial, patience), partial(self._answered, task, place))

    def _answered(self, task: _Task, place: _Place, future: Any) -> None:
        """Hand on what became of a trial; it begins elsewhere when its node was lost."""
        place.free += 1
        try:
            answer = future.result()
        except RayTaskError as error:
            self._fail(cannot_evaluate(self._begin.address or _HERE, _why(error)))
        except RayError as error:
            self._leave(place)
            left = isinstance(error, ActorDiedError) and error.preempted  # in good order, which no trial is to blame for
            task.lost.append(place.key)
            task.losses += not left
            if task.losses < BEGINNINGS:
                self._again.append(task)
            else:
                self.tell(Told(task.asked.key, lost()))
        else:
            self.tell(Told(task.asked.key, answer))
        self._dispatch()

    def _leave(self, place: _Place) -> None:
        """Do without a place; where only the connection to it was lost, its trials end."""
        if self._places.get(place.key) is not place:
            return
        del self._places[place.key]
        place.ready, self._later[place.key] = False, time.monotonic() + _AGAIN_SECONDS
        with suppress(RayError):
            ray.kill(place.actor)

    def _fail(self, error: MachineError) -> None:
        self.tell(Failed(error))
        self._over = True
