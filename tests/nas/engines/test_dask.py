"""A Dask cluster gives what processes of this machine give, whatever is lost meanwhile; and it is left as it was."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import clustered
import psutil
import pytest
from children import until
from clustered import HANGS, LATE, LOST_ALWAYS, LOST_ONCE, Clustered, beginnings, trial_of
from distributed import LocalCluster
from fake_search import Fake, plain, run_search, strategy_of
from pydantic import ValidationError

from nas.engines import dask_node, same_code
from nas.engines.dask import Dask
from nas.engines.dask_node import Node
from nas.engines.seats import Order
from nas.evaluators.base import MachineError
from nas.journal import MemoryJournal
from nas.workers import Workers

NODES = 2
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[3]}:{Path(clustered.__file__).parent}"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two nodes, each a process under a nanny, as `dask worker` starts them; each takes two trials, and says it has a GPU."""
    quiet = {"memory_limit": None, "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(n_workers=NODES, threads_per_worker=2, resources={"GPU": 1}, **quiet) as made:
        yield made


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_search_that_loses_a_node_finds_what_one_machine_finds(cluster: LocalCluster, tmp_path: Path) -> None:
    expected = run_search(strategy_of("evolution"), Fake(width=NODES, reuse=False), MemoryJournal(), 40)
    with Workers.around(Clustered(folder=tmp_path), NODES, engine=Dask(address=cluster.scheduler_address), folder=tmp_path) as workers:
        assert workers.description == f"dask, {cluster.scheduler_address}: 4 trials at once"
        found = run_search(strategy_of("evolution"), workers, MemoryJournal(), 40)
        ours = [{name: trial[name] for name in ("number", "architecture", "score")} for trial in plain(found)]
        theirs = [{name: trial[name] for name in ("number", "architecture", "score")} for trial in plain(expected)]
        assert ours == theirs
        first, second = beginnings(tmp_path, LOST_ONCE)
        assert not psutil.pid_exists(first[0]), "the node was killed"
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
    until(lambda: not psutil.pid_exists(beginnings(tmp_path, HANGS)[0][1]), 10)
    assert not list(tmp_path.glob(".cluster.*")), "the file by which nodes were tried is removed"


def test_a_trial_ends_with_the_search_that_was_killed(cluster: LocalCluster, tmp_path: Path) -> None:
    code = f"import clustered; clustered.hang({cluster.scheduler_address!r}, {str(tmp_path)!r})"
    search = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT)
    try:
        until(lambda: search.poll() is None and beginnings(tmp_path, HANGS))
    finally:
        search.send_signal(signal.SIGKILL)
        search.wait()
    until(lambda: not psutil.pid_exists(beginnings(tmp_path, HANGS)[0][1]), 30)


def test_a_trial_sees_the_gpu_that_it_has_a_share_of(cluster: LocalCluster, tmp_path: Path) -> None:
    engine = Dask(address=cluster.scheduler_address, gpus=0.5)
    with Workers.around(Clustered(folder=tmp_path), 1, engine=engine) as workers:
        report = workers.submit(trial_of(0)).result(120)
    assert (report.metrics["visible"], report.metrics["gpu"]) == (0.0, 1.0)


def test_a_killed_scheduler_ends_the_search_in_one_sentence(tmp_path: Path) -> None:
    """The scheduler and its worker are those of Dask's own command line."""
    where = tmp_path / "scheduler.json"
    common, quiet = ["--scheduler-file", str(where), "--no-dashboard"], {"env": ENVIRONMENT, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", *common, "--host", "127.0.0.1", "--port", "0"]
    scheduler = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", *common, "--no-nanny", "--nthreads", "1", "--local-directory"]
    worker = subprocess.Popen([*command, str(tmp_path)], **quiet)  # type: ignore[call-overload]
    try:
        until(lambda: where.exists() and where.read_text().endswith("}"))  # written in place
        engine = Dask(address=json.loads(where.read_text())["address"])
        with Workers.around(Clustered(folder=tmp_path), 1, engine=engine) as workers:
            hanging = workers.submit(trial_of(HANGS))
            until(lambda: beginnings(tmp_path, HANGS))
            scheduler.kill()
            with pytest.raises(MachineError, match=r"the scheduler at .* is gone .* run the same command, which goes on from the last"):
                hanging.result(60)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def test_a_scheduler_that_is_not_there_is_named_with_the_cure() -> None:
    engine = Dask(address="tcp://127.0.0.1:1", wait_seconds=0.2)
    with pytest.raises(MachineError, match=re.escape("engine.address is tcp://127.0.0.1:1, but after 0.2 s no scheduler")):
        Workers.around(Fake(), 1, engine=engine).__enter__()


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "nas.engines.dask_cluster", raising=False)
    with pytest.raises(MachineError, match=re.escape("engine is dask, but distributed is not installed: pip install 'nasflow[dask]'")):
        Workers.around(Fake(), 1, engine=Dask()).__enter__()


def node_of(tmp_path: Path, *, threads: int = 1, gpus: float = 0.0, offered: float = 0.0, **changes: object) -> Node:
    given = {"work": b"", "code": same_code.this_code(), "folder": None, "token": "mine", "gpus": gpus} | changes
    node = Node("node", Order(**given))  # type: ignore[arg-type]
    node.setup(SimpleNamespace(state=SimpleNamespace(nthreads=threads, total_resources={"GPU": offered})))  # type: ignore[arg-type]
    return node


def test_a_node_that_would_give_other_results_says_why(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("mine")
    assert node_of(tmp_path, threads=3, folder=tmp_path / "token").seats.look() == (None, 3)
    (tmp_path / "token").write_text("another's")
    for name in ("token", "missing"):
        node = node_of(tmp_path, folder=tmp_path / name)
        told = f"does not see {tmp_path}, which holds weights and data: share the project's folder, at the same path"
        assert node.seats.look().problem == told
        assert isinstance(node.answer("key", trial_of(0), None), MachineError), "one that joins later ends the search, and fails no trial"
    older = node_of(tmp_path, code={**same_code.this_code(), "torch": "1.0"}).seats.look().problem
    assert older == f"runs torch {same_code.this_code()['torch']} instead of 1.0: install there what the search runs with"


def test_shares_of_gpus_are_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def visible(**options: float) -> list[str]:
        return [seat._environment["CUDA_VISIBLE_DEVICES"] for seat in node_of(tmp_path, **options).seats.places]  # type: ignore[arg-type]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible(threads=9, gpus=0.5, offered=2) == ["0", "0", "1", "1"]
    assert visible(threads=9, gpus=0.4, offered=2) == ["0", "0", "1", "1"], "2.5 on each would put one on both"
    assert visible(threads=9, gpus=0.1, offered=1) == ["0"] * 10
    assert visible(threads=9, gpus=1, offered=0) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert visible(threads=9, gpus=1, offered=2) == ["5", "GPU-7"]


def test_a_cluster_on_this_machine_shares_no_gpus() -> None:
    with pytest.raises(ValidationError, match="gpus needs an address"):
        Dask(gpus=0.5)


def test_what_travels_with_a_trial_is_small() -> None:
    assert len(pickle.dumps((dask_node.evaluate, "name", "key", trial_of(0), 1.0))) < 1000
