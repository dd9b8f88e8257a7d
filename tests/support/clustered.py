"""What tests of clusters evaluate: arithmetic that loses its node or hangs where a test wants it, and tells how far it came."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

from fake_search import Fake

from nas.architecture import Architecture
from nas.engines.base import Engine
from nas.load import load
from nas.trial import Proposal, Report, Trial
from nas.workers import Workers

LOST_ONCE, LOST_ALWAYS, LATE, HANGS, STALLS = 7, 1000, 1001, 1002, (1003, 1004)
"""Numbers of trials; STALLS hang when they begin for the first time."""


class Clustered(Fake):
    """Notes in `folder` the process of every beginning by trial, and how often it was sent and where it arrived."""

    folder: Path
    device: str = "auto"
    reuse: bool = False

    def evaluate(self, trial: Trial) -> Report:
        node = multiprocessing.parent_process()
        assert node is not None
        assert node.pid is not None
        self._note(f"device-{trial.number}", f"{self.device} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
        self._note(f"begun-{trial.number}", f"{node.pid} {os.getpid()}")
        if trial.number == LOST_ALWAYS or (trial.number == LOST_ONCE and len(beginnings(self.folder, LOST_ONCE)) == 1):
            os.kill(node.pid, signal.SIGKILL)
        stalls = trial.number in STALLS and len(beginnings(self.folder, trial.number)) == 1
        if stalls or trial.number in (LOST_ALWAYS, LATE, HANGS):
            time.sleep(3600)
        return Report(super().evaluate(trial).metrics)

    def patience(self, trial: Trial) -> float | None:
        return 0.5 if trial.number == LATE else None

    def __getstate__(self) -> Any:
        self._note("sent", str(os.getpid()))
        return super().__getstate__()

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self._note("arrived", str(os.getpid()))

    def _note(self, name: str, line: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"{line}\n")


def beginnings(folder: Path, number: int) -> list[tuple[int, int]]:
    """The node and the process of every beginning of a trial."""
    path = folder / f"begun-{number}"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def trial_of(number: int) -> Trial:
    """A trial of some architecture."""
    return Trial(number, Proposal(Architecture({"a": "x"})))


def engine_of(name: str, address: str, **settings: Any) -> Engine:
    """A cluster's engine by its name."""
    made: Engine = load("engines", name)(address=address, **settings)
    return made


def hang(name: str, address: str, folder: str) -> None:
    """Have a cluster evaluate a trial without end, on half a GPU."""
    with Workers.around(Clustered(folder=Path(folder)), 1, engine=engine_of(name, address, gpus=0.5)) as workers:
        workers.submit(trial_of(HANGS)).result()
