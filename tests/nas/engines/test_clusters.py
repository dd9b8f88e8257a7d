"""A cluster gives what processes of this machine give, whatever is lost meanwhile; and it is left as it was."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import clustered
import psutil
import pytest
from children import until
from clustered import HANGS, LATE, LOST_ALWAYS, LOST_ONCE, STALLS, Clustered, beginnings, engine_of, trial_of
from distributed import LocalCluster
from fake_search import Fake, plain, run_search, strategy_of
from pydantic import ValidationError
from ray_nodes import RayNodes

from nas.engines.base import Engine
from nas.evaluators.base import MachineError
from nas.journal import MemoryJournal
from nas.load import load
from nas.workers import Workers

NODES = 2
CLUSTERS = ("dask", "ray")
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[3]}:{Path(clustered.__file__).parent}"}


class Cluster(NamedTuple):
    """Two nodes, each a process of its own; each takes two trials, and says it has a GPU."""

    name: str
    address: str

    def engine(self, **settings: Any) -> Engine:
        return engine_of(self.name, self.address, **settings)


@pytest.fixture(scope="module")
def dask() -> Iterator[Cluster]:
    """Nodes are under a nanny, as `dask worker` starts them."""
    quiet = {"memory_limit": None, "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(n_workers=NODES, threads_per_worker=2, resources={"GPU": 1}, **quiet) as made:
        yield Cluster("dask", made.scheduler_address)


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[RayNodes]:
    """Nodes of `ray start`."""
    nodes = RayNodes(ENVIRONMENT)
    try:
        yield nodes
    finally:
        nodes.end()
    assert nodes.left() == []


@pytest.fixture
def ray(ray_nodes: RayNodes, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Whoever has the token may connect."""
    for name, value in ray_nodes.secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")  # Ray would wait for a lost head for a minute
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # no other cluster than the one that is named
    return Cluster("ray", ray_nodes.address)


@pytest.fixture(params=CLUSTERS)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = request.getfixturevalue(request.param)
    return found


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def ended(process: int, seconds: float = 30.0) -> None:
    """Wait until a process is gone."""
    until(lambda: not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE, seconds)


def test_a_search_that_loses_a_node_finds_what_one_machine_finds(cluster: Cluster, tmp_path: Path) -> None:
    expected = run_search(strategy_of("evolution"), Fake(width=NODES, reuse=False), MemoryJournal(), 40)
    with Workers.around(Clustered(folder=tmp_path), NODES, engine=cluster.engine(), folder=tmp_path) as workers:
        assert workers.description == f"{cluster.name}, {cluster.address}: 4 trials at once"
        found = run_search(strategy_of("evolution"), workers, MemoryJournal(), 40)
        ours = [{name: trial[name] for name in ("number", "architecture", "score")} for trial in plain(found)]
        theirs = [{name: trial[name] for name in ("number", "architecture", "score")} for trial in plain(expected)]
        assert ours == theirs
        first, second = beginnings(tmp_path, LOST_ONCE)
        ended(first[0])
        assert first[1] != second[1]
        assert all(len(beginnings(tmp_path, number)) == 1 + (number == LOST_ONCE) for number in range(38))
        processes = {process for number in range(40) for _, process in beginnings(tmp_path, number)}
        assert len(lines(tmp_path / "sent")) == 1, "the work is sent once, and with no trial"
        assert sorted(lines(tmp_path / "arrived")) == sorted(map(str, processes)), "every process gets it once"
        late = workers.submit(trial_of(LATE)).result(120)
        assert (late.kind, late.error) == (
            "time",
            "no answer after 0.5 s of evaluation, so its process was ended: it hangs, or takes far longer than the limit of time",
        )
        lost = workers.submit(trial_of(LOST_ALWAYS)).result(120)
        assert (lost.kind, lost.error) == (
            "died",
            "2 nodes were lost while they evaluated it: it takes more memory than they have, or ends them",
        )
        assert len({node for node, _ in beginnings(tmp_path, LOST_ALWAYS)}) == len(beginnings(tmp_path, LOST_ALWAYS)) == 2
        hanging = workers.submit(trial_of(HANGS))
        until(lambda: beginnings(tmp_path, HANGS))
    assert hanging.cancelled()
    ended(beginnings(tmp_path, HANGS)[0][1])
    assert not list(tmp_path.glob(".cluster.*")), "the file by which nodes were tried is removed"


def test_a_trial_has_a_share_of_a_gpu_and_ends_with_the_search_that_was_killed(cluster: Cluster, tmp_path: Path) -> None:
    code = f"import clustered; clustered.hang({cluster.name!r}, {cluster.address!r}, {str(tmp_path)!r})"
    search = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **ENVIRONMENT})
    try:
        until(lambda: search.poll() is None and beginnings(tmp_path, HANGS))
        assert lines(tmp_path / f"device-{HANGS}") == ["cuda 0"], "the only GPU that it sees"
    finally:
        search.send_signal(signal.SIGKILL)
        search.wait()
    ended(beginnings(tmp_path, HANGS)[0][1])


def test_a_node_of_ray_costs_its_trials_a_retry_and_the_head_ends_the_search(ray: Cluster, ray_nodes: RayNodes, tmp_path: Path) -> None:
    """The whole node, as when a machine is switched off, and not its actor alone; no test after this one has a head."""
    with Workers.around(Clustered(folder=tmp_path), NODES, engine=ray.engine()) as workers:
        futures = {number: workers.submit(trial_of(number)) for number in STALLS}
        until(lambda: all(beginnings(tmp_path, number) for number in STALLS))
        raylets = ray_nodes.raylets()
        there = {psutil.Process(beginnings(tmp_path, number)[0][0]).ppid(): number for number in STALLS}
        assert len(there) == NODES, "trials go where there is most room"
        lost, stays = there[raylets[ray_nodes.node.pid]], there[raylets[ray_nodes.head.pid]]
        os.kill(raylets[ray_nodes.node.pid], signal.SIGKILL)
        assert futures[lost].result(60).error is None
        first, second = beginnings(tmp_path, lost)
        assert second[0] == beginnings(tmp_path, stays)[0][0]
        ended(first[1])
        ray_nodes.head.kill()
        with pytest.raises(MachineError, match=r"the head of Ray at .* is gone .* run the same command, which goes on from the last"):
            futures[stays].result(60)
        with pytest.raises(MachineError, match="the head of Ray at"):
            workers.submit(trial_of(0)).result(60)
    ended(beginnings(tmp_path, stays)[0][1])


@pytest.mark.parametrize(("name", "address", "who"), [("dask", "tcp://127.0.0.1:1", "scheduler"), ("ray", "127.0.0.1:1", "head of Ray")])
def test_who_is_not_there_is_named_with_the_cure(name: str, address: str, who: str) -> None:
    engine = engine_of(name, address, wait_seconds=0.2)
    with pytest.raises(MachineError, match=re.escape(f"engine.address is {address}, but after 0.2 s no {who}")) as raised:
        Workers.around(Fake(), 1, engine=engine).__enter__()
    assert "start `" in str(raised.value)


@pytest.mark.parametrize(("name", "library"), [("dask", "distributed"), ("ray", "ray")])
def test_what_is_not_installed_is_named(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"nas.engines.{name}_cluster", raising=False)
    told = f"engine is {name}, but {library} is not installed: pip install 'nasflow[{name}]'"
    with pytest.raises(MachineError, match=re.escape(told)):
        Workers.around(Fake(), 1, engine=load("engines", name)()).__enter__()


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_on_this_machine_shares_no_gpus(name: str) -> None:
    with pytest.raises(ValidationError, match="gpus needs an address"):
        load("engines", name)(gpus=0.5)
