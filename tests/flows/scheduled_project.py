"""A project that a Prefect server runs, and what the server says of its runs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fake_project import Project, until

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
_PATIENCE_SECONDS = 400.0


def connected(project: Project, server: str) -> Project:
    """The project with the server chosen, and everything that polls it polling often."""
    often = {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    home = {"PREFECT_HOME": str(project.root.parent / "prefect"), "PREFECT_API_URL": server, "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT)}
    return Project(project.root, {**project.environment, **often, **home})


@contextlib.contextmanager
def serving(project: Project, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`nasflow serve` while the block runs; it must end well, and leave nothing."""
    with (project.root.parent / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [str(BIN / "nasflow"), "serve", *words], cwd=project.root, env=project.environment, stdout=log, stderr=log
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM, log_of(project)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


def awaited(process: "subprocess.Popen[bytes]", met: Callable[[], object]) -> None:
    """Wait until `met` is true; fails when it never is, or nobody serves any more."""
    until(lambda: met() or process.poll() is not None, _PATIENCE_SECONDS)
    assert process.poll() is None, "nobody serves any more"


def log_of(project: Project) -> str:
    """What `nasflow serve` has said."""
    return (project.root.parent / "serve.log").read_text(errors="replace")


def command(project: Project, *words: str) -> str:
    """What a command prints, which must succeed."""
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]], cwd=project.root, env=project.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def post(server: str, path: str, content: dict[str, Any]) -> Any:
    """What the server answers. Raises urllib.error.HTTPError where it refuses."""
    request = urllib.request.Request(f"{server}/{path}", json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def runs(server: str, deployment: str) -> list[dict[str, Any]]:
    """The runs of a deployment that have begun, in order."""
    chosen = {"deployments": {"name": {"any_": [deployment]}}, "flow_runs": {"start_time": {"is_null_": False}}}
    found: list[dict[str, Any]] = post(server, "flow_runs/filter", {**chosen, "sort": "START_TIME_ASC", "limit": 100})
    return found


def stages_of(server: str, run: dict[str, Any]) -> list[str]:
    """How the stages of a run ended, in order."""
    chosen = {"flow_runs": {"parent_flow_run_id": {"any_": [run["id"]]}}, "sort": "START_TIME_ASC"}
    return [child["state"]["name"] for child in post(server, "flow_runs/filter", chosen)]


def ends(server: str, deployment: str) -> Sequence[str]:
    """How the runs of a deployment ended that have ended, in order."""
    final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    return [run["state"]["name"] for run in runs(server, deployment) if run["state"]["type"] in final]
