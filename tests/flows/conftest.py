"""A fake project per test, and one real Prefect server for each file."""

import contextlib
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fake_project import Project, make_project, until

_UNNEEDED = ("cancellation_cleanup", "cleanup_reconciler", "db_vacuum", "event_persister", "foreman", "late_runs")
_UNNEEDED += ("pause_expirations", "repossessor", "task_run_recorder", "triggers")
"""Services of a server that look for work every few seconds, which costs a test of a minute as much as its own work."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project of its own; what a failed test leaves running is ended."""
    made = make_project(tmp_path)
    yield made
    for process in made.processes():
        with contextlib.suppress(psutil.Error):
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server that lives as long as the file's tests, and does nothing by itself."""
    with running_server(tmp_path_factory.mktemp("prefect"), {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}) as url:
        yield url


@pytest.fixture(scope="module")
def whole_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """As `server`, with the service that schedules."""
    without = {f"PREFECT_SERVER_SERVICES_{name.upper()}_ENABLED": "false" for name in _UNNEEDED}
    with running_server(tmp_path_factory.mktemp("prefect"), without) as url:
        yield url


@contextlib.contextmanager
def running_server(home: Path, services: dict[str, str]) -> Iterator[str]:
    """The API address of a Prefect server whose database lies in `home`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_UI_ENABLED": "0"}
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--port", str(port)]
    with (home / "log").open("wb") as log:
        environment = {**os.environ, **quiet, **services, "PREFECT_HOME": str(home)}
        process = subprocess.Popen([*command, "--log-level", "error"], env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api"
    try:
        until(lambda: _answers(url), 120)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(f"{url}/health") as answer:
        return bool(answer.status == 200)
    return False


@pytest.fixture
def served(project: Project, server: str) -> Project:
    """The project with PREFECT_API_URL set to the running server."""
    return Project(project.root, {**project.environment, "PREFECT_API_URL": server, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"})
