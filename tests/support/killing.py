"""Real kills of real runs: each run is a child of a fork server that has PyTorch loaded, so that starting again costs milliseconds."""

import contextlib
import multiprocessing
import os
import signal
import stat
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver, popen_fork
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Protocol, Self, final

import numpy as np
import psutil

from nas.process_start import pin_threads

PATIENCE_SECONDS = 120.0
_DURABLE_CALLS = ("fsync", "fdatasync", "replace", "rename")
"""What makes data durable or visible: the moments between them are those that a loss of power can tell apart."""


class Job(Protocol):
    """A run that can be killed and started again in its folder."""

    def run(self, folder: Path, ready: Callable[[], None]) -> None:
        """Begin or continue in `folder`, to the end; `ready` is called when the setting up is done."""

    def content(self, folder: Path) -> Mapping[str, Any]:
        """What a finished run has left, by name, without what nobody can repeat; equal values mean equal results."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A run that nobody killed: how long it took, its durable calls, and what it left."""

    seconds: float
    calls: int
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Death:
    """Where a run ends itself: at which of its durable calls, and what decides how much is lost then."""

    call: int
    seed: int


@dataclass(slots=True)
class Broken:
    """What came of a run that was killed: how often it was really hit, and the names of what then differed."""

    kills: int = 0
    differing: list[str] = field(default_factory=list)


@final
class Killer:
    """Runs jobs in children, one after the other, kills them and compares. Use as a context; no process is left afterwards."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # one that workers of an earlier test were forked from
        self._context.set_forkserver_preload(["warm_server"])
        with _environment(PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])]), OMP_NUM_THREADS="1"):
            forkserver.ensure_running()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]

    def whole(self, job: Job, folder: Path) -> Whole:
        """Run a job to its end."""
        seconds, calls = self._finish(job, folder)
        return Whole(seconds, calls, job.content(folder))

    def broken(self, job: Job, folder: Path, whole: Whole, kills: int, rng: np.random.Generator) -> Broken:
        """Kill a job `kills` times, half of them at random moments and half at its own durable calls, and let it end.

        A run that ends before it is hit is compared, and the next kill has another run, in a folder beside.
        """
        broken, folders, attempts = Broken(), [folder], 0
        while broken.kills < kills and attempts < 5 * kills:
            reach = 1.5 / (kills + 1) * 0.8 ** (attempts - broken.kills)  # runs that were missed were shorter than was thought
            if self._hit(job, folders[-1], whole, attempts % 2 == 0, reach * rng.random(), int(rng.integers(2**31))):
                broken.kills += 1
            else:
                broken.differing += _differing(whole, job, folders[-1])
                folders.append(folder.with_name(f"{folder.name}-{len(folders)}"))
            attempts += 1
        self._finish(job, folders[-1])
        broken.differing += _differing(whole, job, folders[-1])
        return broken

    def _hit(self, job: Job, folder: Path, whole: Whole, timed: bool, share: float, seed: int) -> bool:
        """Start a job and kill it after a share of what it takes; False when it ended before."""
        death = None if timed else Death(1 + round(share * whole.calls), seed)
        with self._started(job, folder, death) as (process, answers):
            if death is None:
                wait([process.sentinel], share * whole.seconds)
                if process.is_alive():
                    process.kill()
            return _ended(process, answers) is None

    def _finish(self, job: Job, folder: Path) -> tuple[float, int]:
        with self._started(job, folder, None) as (process, answers):
            start = time.monotonic()
            calls = _ended(process, answers)
            assert calls is not None, "the run was killed by somebody else"
            return time.monotonic() - start, calls

    @contextlib.contextmanager
    def _started(self, job: Job, folder: Path, death: Death | None) -> Iterator[tuple[ForkServerProcess, Connection]]:
        """A child that has set up its job, and its answers: that it has, then its durable calls or what went wrong.

        Afterwards no process of it is left.
        """
        folder.mkdir(parents=True, exist_ok=True)
        answers, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_live, args=(job, folder, theirs, death))
        process.start()
        theirs.close()
        try:
            wait([answers, process.sentinel], PATIENCE_SECONDS)
            yield process, answers
        finally:
            process.kill()
            process.join()
            answers.close()
            _until_gone(process.pid or 0)


def _ended(process: ForkServerProcess, answers: Connection) -> int | None:
    """Wait for a child's end and return its durable calls; None when it was killed. Raises AssertionError when it failed."""
    process.join(PATIENCE_SECONDS)
    assert process.exitcode is not None, f"a run of {PATIENCE_SECONDS:.0f} s hangs"
    if process.exitcode == -signal.SIGKILL:
        return None
    told = None
    with contextlib.suppress(EOFError):
        while answers.poll():
            told = answers.recv()
    assert process.exitcode == 0, f"the run ended with {process.exitcode}:\n{told}"
    return int(told or 0)


def _differing(whole: Whole, job: Job, folder: Path) -> list[str]:
    found = job.content(folder)
    return [name for name in sorted(whole.content.keys() | found.keys()) if name not in found or found[name] != whole.content.get(name)]


def _live(job: Job, folder: Path, answers: Connection, death: Death | None) -> None:
    """What a child does. It leads a group, so that whoever killed it can see when the last of its workers is gone."""
    os.setpgid(0, 0)
    calls = _count_durable_calls(death)
    _make_workers_cheap()
    pin_threads()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        job.run(folder, lambda: answers.send(0))
    except BaseException:
        answers.send(traceback.format_exc())
        raise
    answers.send(calls[0])


def _make_workers_cheap() -> None:
    """Fork workers from here instead of from a server that would have to start first; that they die with their parent is as it was."""
    forked = multiprocessing.get_context("fork")
    forkserver.ensure_running = lambda: None
    multiprocessing.get_context = lambda method=None: forked  # type: ignore[assignment,misc]
    launch, one_at_a_time = popen_fork.Popen._launch, threading.Lock()

    def launch_alone(self: popen_fork.Popen, process: multiprocessing.Process) -> None:
        with one_at_a_time:  # a worker forked in the middle would hold the other's end open, which then seems alive
            launch(self, process)

    popen_fork.Popen._launch = launch_alone


def _count_durable_calls(death: Death | None) -> list[int]:
    """Count this process's durable calls, and kill it at one of them: before it, after it, or before it with a part of the data lost.

    A worker counts for itself, but what it kills is the search.
    """
    calls, victim, synced = [0], os.getpid(), dict[tuple[int, int], int]()

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            calls[0] += 1
            how = np.random.default_rng([death.seed, calls[0]]).random() if death and calls[0] == death.call else None
            if how is not None and how < 0.7:
                if name.startswith("f"):
                    _lose_tail(given[0], synced, how)
                _die(victim)
            answer = original(*given, **named)
            if name.startswith("f"):
                status = os.fstat(given[0])
                synced[status.st_dev, status.st_ino] = status.st_size
            if how is not None:
                _die(victim)
            return answer

        return call

    for name in _DURABLE_CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    return calls


def _lose_tail(handle: int, synced: dict[tuple[int, int], int], how: float) -> None:
    """Take away a part of what a file got since it was last made durable, or leave zeros there, as a loss of power may."""
    status = os.fstat(handle)
    known = synced.get((status.st_dev, status.st_ino))
    if known is None or not stat.S_ISREG(status.st_mode) or how < 0.2:
        return
    kept = known + int((status.st_size - known) * (how - 0.2) / 0.5)
    os.ftruncate(handle, kept)
    if how > 0.5:
        os.ftruncate(handle, status.st_size)


def _die(victim: int) -> None:
    os.kill(victim, signal.SIGKILL)
    while True:  # a worker, which the kernel ends with its parent
        time.sleep(1)


def _until_gone(group: int) -> None:
    """Wait for the end of a group's last process; what its parent did not fetch counts as ended."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        if not _living(group):
            return
        time.sleep(0.005)
    left = _living(group)
    for process in left:
        process.kill()
    raise AssertionError(f"processes outlived the run that was killed: {left}")


def _living(group: int) -> Sequence[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
