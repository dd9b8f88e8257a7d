"""Scheduled runs with a real Prefect server: they build, do nothing, run what depends on a change, and go on after a kill."""

import os
import signal
import sys
import urllib.error
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_project import Project
from recorded_project import SEARCH, inside, make_recorded_project, run_stages
from scheduled_project import ROOT, awaited, command, connected, ends, log_of, make_scheduled_project, post, runs, serving, stages_of
from small_images import one_thread

from flows import server_setup, tracking

__all__ = ["one_thread"]
pytestmark = pytest.mark.end_to_end
SLOW = {**SEARCH, "strategy": "random", "trials": 3, "evaluator": {**SEARCH["evaluator"], "steps": 200}}


def test_a_schedule_builds_then_does_nothing_then_runs_what_depends_on_changed_data(tmp_path: Path, whole_server: str) -> None:
    (tmp_path / "p").mkdir()
    project = connected(make_scheduled_project(tmp_path / "p"), whole_server)
    with serving(project, "--name", "nightly", "--every", "6") as process:
        awaited(process, lambda: len(ends(whole_server, "nightly")) >= 2)
        first, second = runs(whole_server, "nightly")[:2]
        assert (first["state"]["name"], stages_of(whole_server, first)) == ("Completed", ["Completed"] * 4), log_of(project)
        assert (second["state"]["name"], second["state"]["message"]) == ("Cached", "nothing has changed"), log_of(project)
        assert stages_of(whole_server, second) == ["Cached"] * 4
        assert tracking.status(project.root) == {}

        (project.root / "data" / "x.npz").write_text("second")
        awaited(process, lambda: ends(whole_server, "nightly").count("Completed") == 2)
        third = [run for run in runs(whole_server, "nightly") if run["state"]["name"] == "Completed"][1]
        # prepare makes the same of these data, so that nothing after it depends on the change
        assert stages_of(whole_server, third) == ["Completed", "Cached", "Cached", "Cached"]
        assert tracking.status(project.root) == {}
    assert not project.processes()


def test_a_run_that_is_killed_crashes_and_the_next_one_continues_exactly(tmp_path: Path, whole_server: str) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        with inside(folder):
            make_recorded_project(folder, search=SLOW)
            run_stages(["prepare", "search"] if folder == whole else ["prepare"])
    hidden = ("PREFECT", "NASFLOW", "DVC")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    project = connected(Project(killed, {**kept, "PATH": path, "DVC_NO_ANALYTICS": "1"}), whole_server)
    with serving(project, "--name", "killed", "--every", "6", "--stage", "search") as process:
        awaited(process, lambda: committed(killed) or ends(whole_server, "killed"))
        for one in psutil.Process(process.pid).children(recursive=True):
            one.send_signal(signal.SIGKILL)
        begun = committed(killed)
        awaited(process, lambda: len(ends(whole_server, "killed")) >= 2)
        first, second = ends(whole_server, "killed")[:2]
        assert (first, second) == ("Crashed", "Completed"), log_of(project)
    assert 0 < begun < SLOW["trials"]
    assert "continues exactly, in the environment that it began in" in log_of(project)
    for name in ("history.csv", "candidates.json", "best.json"):
        assert (killed / "results/search" / name).read_bytes() == (whole / "results/search" / name).read_bytes()
    assert stages_of(whole_server, runs(whole_server, "killed")[0]) == [
        "Crashed"
    ]  # Prefect would call it Running for ever: the next run has told it
    assert "search" not in tracking.status(killed)
    assert not list((killed / ".nasflow" / "flow-runs").iterdir())


def test_a_worker_of_a_pool_runs_the_deployment_of_prefect_yaml(tmp_path: Path, whole_server: str) -> None:
    (tmp_path / "p").mkdir()
    project = connected(make_scheduled_project(tmp_path / "p"), whole_server)
    (project.root / "prefect.yaml").write_bytes((ROOT / "prefect.yaml").read_bytes())
    assert f"work pool '{server_setup.POOL}' was made" in command(project, "nasflow", "setup-server")
    command(project, "prefect", "--no-prompt", "deploy", "-n", "pipeline")
    [deployment] = post(whole_server, "deployments/filter", {"deployments": {"name": {"any_": ["pipeline"]}}})

    def ask(settings: dict[str, Any]) -> None:
        post(whole_server, f"deployments/{deployment['id']}/create_flow_run", {"parameters": {"settings": settings}})

    with pytest.raises(urllib.error.HTTPError) as refused:
        ask({"search": {"trials": 0}})
    assert b"0 is less than the minimum of 1" in refused.value.read()
    ask({"search": {"trials": 3, "seed": 7}})
    command(project, "prefect", "worker", "start", "--pool", server_setup.POOL, "--run-once")
    [run] = runs(whole_server, "pipeline")
    assert (run["state"]["name"], stages_of(whole_server, run)) == ("Completed", ["Completed"] * 4), run["state"]["message"]
    assert len(project.journal("search")) == 3
    assert "trials: 3" in (project.root / "params.yaml").read_text()  # so that DVC and the next run say the same
    assert tracking.status(project.root) == {}


def committed(root: Path) -> int:
    """How many trials the only search has committed."""
    return sum(path.read_bytes().count(b'{"trial"') for path in (root / ".nasflow").glob("search-*/journal.jsonl"))
