"""`nasflow run`: takes the lock, starts what takes long side by side, then imports Prefect and runs the pipeline."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import final

from flows import processes, tracking
from flows.ending import Stopped

SERVER_SECONDS = 180.0
BUSY = 2
"""The exit code while another run works on the project."""
_AGAIN = "Run the same command again to continue."
_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    # Each try waits twice as long: Prefect's own 5 keep a run that has lost its server hanging for minutes.
    "PREFECT_CLIENT_MAX_RETRIES": "3",
}


def run(
    root: Path, stages: Sequence[str] | None = None, force: bool = False, wait_seconds: float = 0.0, check: Sequence[str] | None = None
) -> int:
    """Bring `stages` (all by default) of the project in `root` up to date as one Prefect flow run; returns the exit code.

    `check`: arguments of `nasflow check`, which runs beside the imports and must pass before anything else; None checks nothing.
    0: up to date; 1: a stage failed or may not be trusted; 2: the project is busy; 130 and 143: stopped by Ctrl-C or SIGTERM,
    with every process ended. Messages go to standard error.
    """
    root = root.resolve()
    configure(root)
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with tracking.session(root, wait_seconds):
            return _run(root, stages, force, check)
    except tracking.BusyError as error:
        return _say(str(error), BUSY)
    except tracking.ServerLostError as error:
        _say(str(error), 1)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # by now nothing of ours is left to end, and Prefect's queues would look for their server for minutes
    except (tracking.TrackingError, FileNotFoundError, ValueError) as error:
        return _say(str(error), 1)
    except (Stopped, KeyboardInterrupt) as error:
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        return _say(f"stopped. {_AGAIN}", 128 + number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def configure(root: Path) -> None:
    """Set what Prefect reads when it is imported, where the user has not: no telemetry, and its files inside the project.

    A server that the user has chosen, by PREFECT_API_URL or a Prefect profile, keeps the user's own PREFECT_HOME.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if not _has_server():
        os.environ.setdefault("PREFECT_HOME", str(root / tracking.WORK / "prefect"))


def _run(root: Path, stages: Sequence[str] | None, force: bool, check: Sequence[str] | None) -> int:
    checking = None if check is None else _start_check(root, check)
    server = None if _has_server() else _Server(root)
    from prefect.exceptions import TerminationSignal

    from flows import pipeline

    try:
        if checking is not None:
            mistakes = checking.communicate()[1]
            if checking.returncode:
                print(mistakes, end="", file=sys.stderr)
                return checking.returncode if checking.returncode == BUSY else 1
        if server is not None:
            server.wait()
        return pipeline.run_here(root, stages, force, heartbeat=server is None)
    except TerminationSignal as error:
        raise Stopped(error.signal) from error


def _start_check(root: Path, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Settings are checked in a process of their own, because they import PyTorch while this one imports Prefect."""
    command = processes.with_parent([sys.executable, "-P", "-m", "flows.cli", "check", *arguments])
    return subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@final
class _Server:
    """Prefect's API for this run only, started before Prefect is imported here so that the two overlap.

    Prefect starts one by itself where none is configured, but leaves it running when the flow is killed, and talks about it.
    """

    def __init__(self, root: Path) -> None:
        self._url = f"http://127.0.0.1:{_free_port()}/api"
        self._log = Path(os.environ["PREFECT_HOME"]) / "server.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        port = self._url.rsplit(":", 1)[1].removesuffix("/api")
        command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
        command += ["--port", port, "--log-level", "error", "--lifespan", "on"]
        environment = {**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        with self._log.open("wb") as log:
            # Its own session: Ctrl-C in the terminal must not take it away before the flow has reported its end.
            self._process = subprocess.Popen(
                processes.with_parent(command), cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        os.environ["PREFECT_API_URL"] = self._url
        # Registered before Prefect is imported, so it runs after Prefect has sent its last events.
        atexit.register(self._stop)

    def wait(self) -> None:
        """Return when the API answers; raises TrackingError with the end of its log when it does not."""
        deadline = time.monotonic() + SERVER_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self._url}/health", timeout=5):
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


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _say(message: str, code: int) -> int:
    print(f"nasflow: {message}", file=sys.stderr)
    return code


def _has_server() -> bool:
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    if not profiles.is_file():
        return False
    content = tomllib.loads(profiles.read_text())
    active = os.environ.get("PREFECT_PROFILE", content.get("active", ""))
    return "PREFECT_API_URL" in content.get("profiles", {}).get(active, {})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
