"""Processes are forked from a server that has imported what they need, so that none of them pays for it again."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import late_imports
import psutil
import pytest
import torch
from small_images import digits

from nas.data.dataset import Dataset
from nas.fork_server import imported_late, may_fork
from nas.process_start import WATCH

__all__ = ["digits"]


def words(module: str, *arguments: Path) -> list[str]:
    """The command that runs a module of `tests/support` as a process of its own."""
    code = f"import pathlib, sys, {module}; {module}.main(*map(pathlib.Path, sys.argv[1:]))"
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(late_imports.__file__).parent), *sys.path[1:]])}


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_worker_imports_nothing_of_ours_for_its_first_trial(digits: Dataset, tmp_path: Path, environment: dict[str, str]) -> None:
    command = words("late_imports", digits.folder, tmp_path)
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"scratch": [], "proxy": []}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the server is a new Python")
def test_the_server_is_a_fork_that_keeps_nothing_of_its_parent_and_ends_with_it(tmp_path: Path, environment: dict[str, str]) -> None:
    held = tmp_path / "held"
    with started(words("forked_server", held), environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "printed once\n"
        told = json.loads(process.stdout.readline())
        assert told["command"] == told["own"]
        assert str(held) not in told["files"]
        assert not told["handles"]
        assert told["sum"] == 3.0
        others = [psutil.Process(told[name]) for name in ("server", "worker")]
        process.kill()
        assert psutil.wait_procs(others, timeout=30)[1] == []
        assert process.stdout.read() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
@pytest.mark.parametrize(
    ("others", "cuda", "forks"), [([], None, True), ([WATCH], None, True), (["of a library"], None, False), ([], "13.0", False)]
)
def test_a_process_with_threads_or_a_driver_is_not_forked(
    others: list[str], cuda: str | None, forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = [threading.main_thread(), *(threading.Thread(name=name) for name in others)]
    monkeypatch.setattr(threading, "enumerate", lambda: threads)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert may_fork() is forks


def test_all_that_is_imported_late_exists() -> None:
    """The server passes over what it cannot import, without a word."""
    root = Path(__file__).parents[2]
    assert [name for name in imported_late() if not (root / f"{name.replace('.', '/')}.py").exists()] == []
    assert {"nas.networks.cell", "nas.networks.supernet", "nas.training.cost", "nas.training.loop"} <= set(imported_late())
