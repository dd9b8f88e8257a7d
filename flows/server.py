"""Where Prefect's API is: the server that the user has chosen, or one of our own that ends with this process."""

import atexit
import os
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import final

from flows import processes, tracking

SERVER_SECONDS = 180.0
PORT = 4200
"""Where Prefect's pages are usually; a server with pages takes it when it is free."""
HEARTBEAT_SECONDS = 30
"""How often a run says that it lives: as often as Prefect allows."""
_AGAIN = "Run the same command again to continue."
_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # Else Prefect starts a second server beside ours where it was imported before the address of ours was known.
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    # Each try waits twice as long: Prefect's own 5 keep a run that has lost its server hanging for minutes.
    "PREFECT_CLIENT_MAX_RETRIES": "3",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
}


def configure(root: Path) -> None:
    """Set what Prefect reads when it is imported, where the user has not: no telemetry, and its files inside the project.

    A server that the user has chosen, by PREFECT_API_URL or a Prefect profile, keeps the user's own PREFECT_HOME.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if not is_chosen():
        os.environ.setdefault("PREFECT_HOME", str(root / tracking.WORK / "prefect"))


def is_chosen() -> bool:
    """Whether the user has chosen a server, by PREFECT_API_URL or a Prefect profile."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    if not profiles.is_file():
        return False
    content = tomllib.loads(profiles.read_text())
    active = os.environ.get("PREFECT_PROFILE", content.get("active", ""))
    return "PREFECT_API_URL" in content.get("profiles", {}).get(active, {})


@final
class Server:
    """Prefect's API for this process only: made before Prefect is imported here, which reads the address then.

    Prefect starts one by itself where none is configured, but leaves it running when the flow is killed, and talks about it.
    `whole`: with the services that schedule and with Prefect's pages, which a single run can do without.
    """

    def __init__(self, root: Path, whole: bool = False) -> None:
        self._root, self._whole = root, whole
        self._port = _free_port(PORT if whole else 0)
        self.url = f"http://127.0.0.1:{self._port}/api"
        self._log = Path(os.environ["PREFECT_HOME"]) / "server.log"
        os.environ["PREFECT_API_URL"] = self.url

    def start(self) -> None:
        """Start it; before Prefect is imported, so that the two overlap."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
        command += ["--port", str(self._port), "--log-level", "error", "--lifespan", "on"]
        small = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
        environment = {**os.environ, **({"PREFECT_UI_API_URL": self.url} if self._whole else small), "PREFECT__SERVER_FINAL": "1"}
        with self._log.open("wb") as log:
            # Its own session: Ctrl-C in the terminal must not take it away before the flow has reported its end.
            self._process = subprocess.Popen(
                processes.with_parent(command), cwd=self._root, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        # Registered before Prefect is imported, so it runs after Prefect has sent its last events.
        atexit.register(self._stop)

    def wait(self) -> None:
        """Return when the API answers; raises TrackingError with the end of its log when it does not."""
        deadline = time.monotonic() + SERVER_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        end = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:]) or "it wrote nothing: see whether the disk has room left"
        raise tracking.TrackingError(f"Prefect's own server did not start ({self._log}):\n{end}\n{_AGAIN}")

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        del os.environ["PREFECT_API_URL"]


def _free_port(wanted: int = 0) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a server that has just ended would still keep its port
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return _free_port()
        port: int = probe.getsockname()[1]
    return port
