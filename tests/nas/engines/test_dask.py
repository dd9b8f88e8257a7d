"""What is Dask's own: its scheduler, and what a node says and offers. What any cluster does is in test_clusters.py."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import clustered
import pytest
from children import until
from clustered import HANGS, Clustered, beginnings, trial_of

from nas.engines import dask_node, same_code
from nas.engines.dask import Dask
from nas.engines.dask_node import Node
from nas.engines.seats import Order
from nas.evaluators.base import MachineError
from nas.workers import Workers

ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[3]}:{Path(clustered.__file__).parent}"}


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


def test_what_travels_with_a_trial_is_small() -> None:
    assert len(pickle.dumps((dask_node.evaluate, "name", "key", trial_of(0), 1.0))) < 1000
