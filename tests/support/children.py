"""The processes that a test starts, what they do, and waiting for it."""

import os
import time
from collections.abc import Callable
from multiprocessing import forkserver
from typing import Any

import psutil

from nas.processes import Work


def children() -> list[psutil.Process]:
    """Our workers: started anew, or forked from the server that multiprocessing keeps until the end."""
    ours = psutil.Process().children()
    servers = [child for child in ours if child.pid == forkserver._forkserver._forkserver_pid]
    return [child for child in ours if "spawn_main" in " ".join(child.cmdline())] + [child for one in servers for child in one.children()]


def until(holds: Callable[[], Any], seconds: float = 120.0) -> None:
    """Wait until something holds, which must be soon."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Sums(Work):
    """Adds up what it is asked; how often it began comes on top."""

    def __init__(self) -> None:
        self.begun = 0

    def begin(self) -> None:
        self.begun += 100

    def answer(self, question: list[float]) -> float:
        if not question:
            time.sleep(3600)
        return sum(question) + self.begun


class Origin(Work):
    """Tells who started its process, and the variable that it is asked for."""

    def begin(self) -> None:
        pass

    def answer(self, question: str) -> tuple[int, str | None]:
        return os.getppid(), os.environ.get(question)
