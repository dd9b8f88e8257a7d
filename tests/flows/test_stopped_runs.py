"""A search that is stopped, cancelled or killed says so, with the real commands; the next one goes on and says after what."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_project import Project, until
from recorded_project import SEARCH, inside, make_recorded_project, nasflow, run_stages, state_of
from small_images import one_thread

__all__ = ["one_thread"]
pytestmark = pytest.mark.end_to_end
SLOW = {**SEARCH, "strategy": "random", "trials": 5, "evaluator": {**SEARCH["evaluator"], "steps": 300}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with prepared data whose search takes a second per trial."""
    with inside(tmp_path):
        make_recorded_project(tmp_path, search=SLOW)
        run_stages(["prepare"])
    hidden = ("PREFECT", "NASFLOW", "DVC")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return Project(tmp_path, {**kept, "PATH": programs, "DVC_NO_ANALYTICS": "1", "HOME": str(tmp_path)})


def run_of(project: Project) -> Path | None:
    """The folder of the only search."""
    return next((project.root / ".nasflow").glob("search-*"), None)


def trials(project: Project) -> int:
    """How many trials are committed."""
    run = run_of(project)
    journal = run / "journal.jsonl" if run is not None else project.root
    return journal.read_bytes().count(b'{"trial"') if journal.is_file() else 0


def stopped(project: Project, number: signal.Signals, *words: str) -> tuple[int, str, Mapping[str, Any]]:
    """Start a command and stop it when it has committed another trial; its exit code, what it said, and how the run stands then."""
    before = trials(project)
    command = [str(Path(sys.executable).parent / "nasflow"), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process: subprocess.Popen[str] = subprocess.Popen(command, cwd=project.root, env=project.environment, **pipes)  # type: ignore[call-overload]
    until(lambda: trials(project) > before or process.poll() is not None, 120)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    until(lambda: not project.processes(), 15)
    run = run_of(project)
    assert run is not None, text
    return process.returncode, text, state_of(run)


def test_a_stopped_search_is_paused_and_a_killed_one_killed_and_both_go_on(project: Project) -> None:
    code, text, state = stopped(project, signal.SIGTERM, "run", "search")  # what cancelling a flow run sends, too
    assert (code, state["name"], state["reason"]) == (143, "paused", "SIGTERM"), text
    assert text.splitlines()[-1] == "nasflow: stopped. Run the same command again to continue."
    code, text, state = stopped(project, signal.SIGKILL, "stage", "search")
    assert code == -signal.SIGKILL, text
    assert "was stopped by SIGTERM" in text
    assert "continues exactly, in the environment that it began in" in text
    assert state["name"] == "running"  # nobody could write better, so whoever reads it looks whether the folder is held
    with inside(project.root):
        [line] = nasflow("runs").output.splitlines()[1:]
        assert line.split()[2] == "killed"
        done = nasflow("stage", "search")
        assert f"was killed (process {state['pid']}, running since {state['since']}); continues exactly" in done.output
        [line] = nasflow("runs").output.splitlines()[1:]
        assert line.split()[2:5] == ["finished", "5/5", "trials"]
        assert line.split()[-1] == "results/search"
