"""The processes that a test starts, what they do, and waiting for it."""

import time
from collections.abc import Callable
from typing import Any

import psutil

from nas.processes import Work


def children() -> list[psutil.Process]:
    """Our processes but the tracker, and the server that others are forked from, which multiprocessing keeps until the end."""
    kept = ("resource_tracker", "multiprocessing.forkserver")
    servers = [child for child in psutil.Process().children() if any(name in " ".join(child.cmdline()) for name in kept)]
    return [child for child in psutil.Process().children(recursive=True) if child not in servers]


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
