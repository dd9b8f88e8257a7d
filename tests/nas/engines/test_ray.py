"""Which node gets which trial of a Ray cluster, without one. What any cluster does, with a real one of Ray, is in test_clusters.py."""

import itertools
import pickle
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from clustered import trial_of
from pydantic import ValidationError
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from nas.engines import same_code
from nas.engines.ray import Ray
from nas.engines.ray_driver import _Driver
from nas.engines.ray_messages import Asked, Begin, Failed, Opened, Told
from nas.engines.ray_node import Node
from nas.engines.seats import Answered, Order
from nas.trial import Report

WELL = Answered(None, 2)
LOST = ActorUnavailableError("the connection was closed", None)


class Actor:
    """Has calls that a test answers."""

    def __init__(self, *given: Any) -> None:
        self.given, self.looked, self.calls, self.dead = given, Future[Answered](), dict[str, Future[Report]](), False
        self.look = SimpleNamespace(remote=lambda: SimpleNamespace(future=lambda: self.looked))
        self.answer = SimpleNamespace(remote=self._called)

    def _called(self, key: str, *trial: Any) -> Any:
        self.calls[key] = Future()
        return SimpleNamespace(future=lambda: self.calls[key])


class Cluster:
    """A driver whose nodes are made up, and what it told the search."""

    def __init__(self, **changes: Any) -> None:
        gpus = changes.pop("gpus", 0.0)
        begin = {"address": "a:1", "folder": None, "nodes": 1, "workers": 4, "wait_seconds": 60.0} | changes
        self.told: list[Any] = []
        self.driver = _Driver(Begin(**begin, order=order_of(gpus=gpus)), SimpleNamespace(send=self.told.append))  # type: ignore[arg-type]
        self._keys = itertools.count()

    def sees(self, **cpus: float) -> dict[str, Actor]:
        """These nodes are alive; returns the actors there."""
        nodes = [
            {"NodeID": name, "Alive": True, "NodeManagerAddress": f"at-{name}", "Resources": {"CPU": cpu, "GPU": cpu}}
            for name, cpu in cpus.items()
        ]
        self._happens(lambda: self.driver._notice(nodes))
        return {key[0]: place.actor for key, place in self.driver._places.items()}

    def ready(self, **cpus: float) -> dict[str, Actor]:
        """The same, and they are well."""
        actors = self.sees(**cpus)
        for actor in actors.values():
            self.settle(actor.looked, WELL)
        return actors

    def ask(self) -> str:
        key = next(self._keys)
        self._happens(lambda: self.driver._ask(Asked(key, trial_of(key), None)))
        return str(key)

    def settle(self, call: "Future[Any]", answer: Any) -> None:
        """A call comes back."""
        if isinstance(answer, Exception):
            call.set_exception(answer)
        else:
            call.set_result(answer)
        self._happens(lambda: None)

    def _happens(self, event: Any) -> None:
        event()
        while not self.driver._events.empty():
            self.driver._events.get()()
        if not self.driver._opened and not self.driver._over:
            self.driver._try_to_open()


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(ray, "kill", lambda actor: setattr(actor, "dead", True))
    monkeypatch.setattr(_Driver, "_actor", lambda self, *given: Actor(*given))


def order_of(**changes: Any) -> Order:
    return Order(**{"work": b"", "code": same_code.this_code(), "folder": None, "token": "mine", "gpus": 0.0} | changes)


def test_trials_go_where_there_is_most_room_and_wait_where_there_is_none() -> None:
    cluster = Cluster()
    nodes = cluster.ready(large=2, small=1)
    assert cluster.told == [Opened([("at-large", WELL), ("at-small", WELL)])]
    first, second, third, fourth = (cluster.ask() for _ in range(4))
    assert [sorted(nodes[name].calls) for name in ("large", "small")] == [[first, second], [third]]
    cluster.settle(nodes["small"].calls[third], Report({"accuracy": 1.0}))
    assert cluster.told[1:] == [Told(int(third), Report({"accuracy": 1.0}))]
    assert list(nodes["small"].calls) == [third, fourth]


def test_a_lost_node_costs_a_retry_elsewhere_and_a_second_one_the_trial() -> None:
    cluster = Cluster(workers=1)
    nodes = cluster.ready(one=1, two=1)
    key = cluster.ask()
    cluster.settle(nodes["one"].calls[key], LOST)
    assert nodes["one"].dead, "where the connection alone was lost, the trial must not go on"
    assert key in nodes["two"].calls
    cluster.settle(nodes["two"].calls[key], LOST)
    told = "2 nodes were lost while they evaluated it: it takes more memory than they have, or ends them"
    assert cluster.told[1:] == [Told(int(key), Report(error=told, kind="died"))]


def test_a_trial_that_lost_its_node_waits_for_another_one_and_not_for_ever() -> None:
    cluster = Cluster(workers=2)
    nodes = cluster.ready(one=1, two=1)
    first, second = cluster.ask(), cluster.ask()
    cluster.settle(nodes["one"].calls[first], LOST)
    cluster.driver._later.clear()
    again = cluster.sees(one=1, two=1)["one"]
    assert again is not nodes["one"]
    cluster.settle(again.looked, WELL)
    assert again.calls == {}, "the node is there again, but it lost this trial before"
    cluster.settle(nodes["two"].calls[second], LOST)
    assert {first, second} & set(again.calls), "there is no other node any more"


def test_a_node_that_leaves_in_good_order_is_no_trials_fault() -> None:
    cluster = Cluster(workers=1)
    nodes = cluster.ready(one=1, two=1, three=1, four=1)
    key = cluster.ask()
    for name in ("one", "two", "three"):
        cluster.settle(nodes[name].calls[key], drained())
    cluster.settle(nodes["four"].calls[key], Report({"accuracy": 1.0}))
    assert cluster.told[1:] == [Told(int(key), Report({"accuracy": 1.0}))]


def drained() -> ActorDiedError:
    """What Ray raises for an actor of a node that was told to go."""
    error = ActorDiedError()
    error._preempted = True
    return error


def test_a_node_that_joins_later_gets_trials_and_one_that_is_lost_is_tried_again_after_a_while() -> None:
    cluster = Cluster()
    nodes = cluster.ready(one=1)
    first, second = cluster.ask(), cluster.ask()
    assert list(nodes["one"].calls) == [first]
    late = cluster.sees(one=1, two=1)["two"]
    assert late.calls == {}, "not before it has said that it is well"
    cluster.settle(late.looked, WELL)
    assert list(late.calls) == [second]
    cluster.settle(late.calls[second], LOST)
    assert set(cluster.sees(one=1, two=1)) == {"one"}


def test_a_node_that_would_give_other_results_ends_the_search_when_it_joins_later() -> None:
    cluster = Cluster()
    cluster.ready(one=1)
    cluster.settle(cluster.sees(one=1, two=1)["two"].looked, Answered("runs torch 1.0 instead of 2.0: install it", 1))
    assert str(cluster.told[1].error) == "the node at-two runs torch 1.0 instead of 2.0: install it"
    assert cluster.driver._over


def test_a_node_without_what_the_search_runs_with_is_named() -> None:
    cluster = Cluster()
    error = RayTaskError("look", "Traceback\n  in look\nModuleNotFoundError: No module named 'mine'\n", ModuleNotFoundError("mine"))
    cluster.settle(cluster.sees(one=1)["one"].looked, ActorDiedError(error))
    told = "the nodes cannot take up the work (ModuleNotFoundError: No module named 'mine'): install there what the search runs with"
    assert isinstance(cluster.told[0], Failed)
    assert str(cluster.told[0].error) == told


@pytest.mark.parametrize(("gpus", "told"), [(0.0, "engine.address is a:1, but after 0 s"), (0.5, "engine.gpus is 0.5, but after 0 s")])
def test_a_cluster_without_room_is_told_with_the_cure(gpus: float, told: str) -> None:
    cluster = Cluster(gpus=gpus, wait_seconds=0.0)
    cluster.sees(one=0)
    assert str(cluster.told[0].error).startswith(f"{told} no node there has room for a trial: `ray start --address=a:1")


@pytest.mark.parametrize(
    ("gpus", "workers", "resources", "seats", "reserved"),
    [
        (0.0, 8, {"CPU": 4, "GPU": 1}, 4, (4, 0)),
        (0.0, 3, {"CPU": 4}, 3, (3, 0)),
        (0.0, 3, {"GPU": 4}, 0, None),
        (0.5, 8, {"CPU": 9, "GPU": 2}, 4, (4, 2)),
        (0.5, 1, {"CPU": 9, "GPU": 2}, 1, (1, 0.5)),
        (0.5, 3, {"CPU": 2, "GPU": 2}, 3, (2, 2)),
        (0.4, 8, {"CPU": 9, "GPU": 2}, 4, (4, 2)),
        (0.4, 2, {"CPU": 9, "GPU": 1}, 2, (2, 0.8)),
        (1.0, 2, {"CPU": 9}, 0, None),
    ],
)
def test_a_node_reserves_what_its_trials_take(
    gpus: float, workers: int, resources: dict[str, float], seats: int, reserved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(ray, "put", lambda value: value)
    asked: dict[str, Any] = {}

    def options(**given: Any) -> Any:
        asked.update(given)
        return SimpleNamespace(remote=lambda *order: order)

    monkeypatch.setattr(ray, "remote", lambda kind: SimpleNamespace(options=options))
    driver = Cluster(gpus=gpus, workers=workers).driver
    assert driver._room(resources) == seats
    if reserved is not None:
        driver._actor("a" * 56, resources, seats)
        assert (asked["num_cpus"], asked["num_gpus"]) == reserved
        assert asked["max_concurrency"] > seats


def test_a_node_has_the_gpus_that_ray_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    places = Node(order_of(gpus=0.5), 3)._seats.places
    assert [seat._environment for seat in places] == [{"CUDA_VISIBLE_DEVICES": name} for name in ("2", "2", "3")]


@pytest.mark.parametrize("address", ["ray://a:10001", "auto", "local", "a", "a:b", "tcp://a:1"])
def test_no_cluster_is_found_by_itself(address: str) -> None:
    """`auto` is whatever runs here, and Ray's client keeps no actors of its own."""
    with pytest.raises(ValidationError, match="address"):
        Ray(address=address)


@pytest.mark.parametrize("address", ["10.0.0.5:6379", "head.cluster:6379", "[fd00::5]:6379"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    assert Ray(address=address).address == address


def test_what_travels_with_a_trial_is_small() -> None:
    assert len(pickle.dumps(Asked(1, trial_of(0), 1.0))) < 1000
