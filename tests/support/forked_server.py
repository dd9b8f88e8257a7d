"""A process that starts its server by a fork of itself, and tells what the worker that comes from it is like."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, final

import torch

from nas.fork_server import may_fork, start_server
from nas.processes import Slot, Work


@final
class Telling(Work):
    """Says how the process is that answers."""

    def begin(self) -> None:
        """Nothing to get ready."""

    def answer(self, question: None) -> dict[str, Any]:
        """Return the server, the open files, and whether the parent's handler is there still."""
        files = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
        return {
            "server": os.getppid(),
            "worker": os.getpid(),
            "command": Path(f"/proc/{os.getppid()}/cmdline").read_text(),
            "files": files,
            "handles": signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL,
            "sum": float(torch.ones(3).sum()),
        }


def main(held: Path) -> None:
    """Print what the worker told, as JSON, then wait to be killed."""
    torch.set_num_threads(1)
    assert may_fork()
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    print("printed once")  # to a pipe, so it waits in a buffer while this process is forked
    with held.open("w"):
        start_server()
        slot = Slot(Telling())
        told = slot.run(None)
        told["own"] = Path("/proc/self/cmdline").read_text()
        print(json.dumps(told), flush=True)
        time.sleep(60)
