"""A Ray cluster of `ray start`, as people start one, that nobody finds by accident and that leaves nothing behind."""

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
from children import until

_FREE_PORTS = [part for name in ("min-worker", "max-worker", "dashboard-agent-listen") for part in (f"--{name}-port", "0")]
_OFFERED = ["--include-log-monitor", "false", "--num-cpus", "2", "--num-gpus", "1", "--object-store-memory", str(80 * 2**20)]


class RayNodes:
    """A head that takes two trials and says it has a GPU, and a node that does so as well; their processes are ours to kill."""

    def __init__(self, environment: dict[str, str]) -> None:
        # The paths of sockets may have 107 bytes, which a test's own folder leaves no room for.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.secrets = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._mark = {"CLUSTER_OF_TESTS": secrets.token_hex(8)}
        spare = {"RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}  # processes that nobody would use
        self._environment = {**environment, **self.secrets, **self._mark, **spare, "RAY_USAGE_STATS_ENABLED": "0"}
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._started: list[psutil.Popen] = []
        self._told = self.folder / "told"
        self.head = self._start("--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(self.folder))
        until(self._answers)
        # Nodes of one machine that start at a time would take the same socket in one folder.
        self.node = self._start("--address", self.address, "--temp-dir", str(self.folder / "node"))
        until(lambda: self._told.read_text().count("Ray runtime started") == 2)

    def end(self) -> None:
        """End every process, also those that outlive the ones which started them, and remove what they wrote."""
        for started in self._started:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        for left in self.left():
            with suppress(psutil.NoSuchProcess):
                left.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def left(self) -> list[psutil.Process]:
        """All processes of this cluster that run."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if self._mark.items() <= process.environ().items():
                    found.append(process)
        return found

    def raylets(self) -> dict[int, int]:
        """What Ray runs on each node to speak with the others, by the process that started it."""
        return {process.ppid(): process.pid for process in self.left() if process.name() == "raylet"}

    def _start(self, *options: str) -> psutil.Popen:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *_OFFERED, *_FREE_PORTS, *options]
        with self._told.open("ab") as told:
            self._started.append(psutil.Popen(command, env=self._environment, start_new_session=True, stdout=told, stderr=told))
        return self._started[-1]

    def _answers(self) -> bool:
        host, port = self.address.split(":")
        with suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False
