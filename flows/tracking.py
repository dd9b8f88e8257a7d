"""DVC under one lock: a session runs stages through the keeper, passes their output on, and leaves no process behind."""

import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, final

from flows import keeper, lineage, locks, printing, processes, rwlock

WORK = ".nasflow"
_ORPHAN_SECONDS = keeper.GRACE_SECONDS + 5.0
# -P: a user's file in the project's folder must not stand in for a module of the same name.
_KEEPER = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r}); from flows import keeper; keeper.main()"
_OPEN: ContextVar["Session | None"] = ContextVar("open_session", default=None)


class Outcome(StrEnum):
    """What happened to a stage: it ran, it was up to date, or DVC took the outputs of an equal earlier run from its cache."""

    RAN = "ran"
    CACHED = "cached"
    RESTORED = "restored"


@dataclass(frozen=True)
class Result:
    """A stage that is up to date now, and how long that took."""

    stage: str
    outcome: Outcome
    seconds: float


class TrackingError(RuntimeError):
    """DVC could not do what was asked; the message is for the user."""


@final
class BusyError(TrackingError):
    """Another process works on the same project; waiting can help."""


@final
class GoneError(TrackingError):
    """A process that DVC or a stage ran in was ended from outside; the same command may well succeed the next time."""


@final
class TooLongError(TrackingError):
    """The time that was given to a run is over; what it had begun is paused, and the next run continues it."""


@final
class ServerLostError(TrackingError):
    """Prefect's API went away or was never there; what DVC finished stays finished."""


@final
class StageError(TrackingError):
    """The command of a stage failed; the message is the end of what it printed."""


_ERRORS: Mapping[str, type[TrackingError]] = {"busy": BusyError, "stage": StageError, "gone": GoneError}


def stages(root: Path) -> list[str]:
    """Names of the stages of `root`/dvc.yaml, each after the stages whose outputs it reads.

    Raises FileNotFoundError without a dvc.yaml, and ValueError when the stages form a circle or use what `lineage.declared` refuses.
    """
    known = lineage.declared(root)
    order: TopologicalSorter[str] = TopologicalSorter()
    for stage in known.values():
        makers = (other.name for other in known.values() if other is not stage and _feeds(other, stage))
        order.add(stage.name, *makers)
    try:
        return list(order.static_order())
    except CycleError as error:
        raise ValueError(f"dvc.yaml: stages read each other's outputs in a circle: {' -> '.join(error.args[1])}") from error


def status(root: Path) -> dict[str, Any]:
    """What is not up to date: stage -> DVC's reasons; empty when nothing is to do.

    Raises BusyError while another DVC process works on the project, and TrackingError with DVC's own words for other failures.
    """
    done = dvc(root, "status", "--json")
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        words = (done.stderr or done.stdout).strip()
        raise (BusyError if "busy" in words or "lock" in words else TrackingError)(words) from None
    return answer


def dvc(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of DVC in the project, with nothing to ask and nobody to answer; the caller looks at how it ended."""
    command = [sys.executable, "-P", "-m", "dvc", *words]
    return subprocess.run(command, cwd=root, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def lock(root: Path, wait_seconds: float = 0.0) -> Iterator[int]:
    """Hold the project's one lock for DVC; yields its open file, which a process may inherit to hold the lock as long as it lives.

    Raises BusyError naming who holds it, since when, and under which process id, when it is not free after `wait_seconds`.
    """
    path = root / WORK / "dvc.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, time.monotonic(), wait_seconds)
        owner = {"pid": os.getpid(), "command": locks.called(), "since": locks.now()}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(owner).encode(), 0)
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def editing(root: Path) -> Iterator[None]:
    """Hold off runs and DVC while a file that they read is written.

    Raises BusyError, and nothing should be written, while one works on the project; a run that started this process does not count.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(root))
        except BusyError:
            if json.loads((root / WORK / "dvc.lock").read_text() or "{}").get("pid") != os.getppid():
                raise
        stack.enter_context(rwlock.held_off(root / ".dvc" / "tmp", BusyError))
        yield


@contextlib.contextmanager
def session(root: Path, wait_seconds: float = 0.0) -> Iterator["Session"]:
    """The lock and a running keeper for `root`; inside another session of the same folder, that one.

    However the block is left, every process of a running stage is ended first. Raises BusyError as `lock` does.
    """
    root = root.resolve()
    current = _OPEN.get()
    if current is not None and current.root == root:
        yield current
        return
    with lock(root, wait_seconds) as handle, contextlib.closing(Session(root, handle)) as opened:
        token = _OPEN.set(opened)
        try:
            yield opened
        finally:
            _OPEN.reset(token)


@final
class Session:
    """Runs stages one by one. Made by `session`, which holds the lock that `lock_file` refers to.

    `deadline`: the `time.monotonic()` at which a stage that still runs is ended, with everything else; None for none.
    """

    def __init__(self, root: Path, lock_file: int) -> None:
        self.root = root
        self.deadline: float | None = None
        self._output, output = printing.pair(sys.stdout)
        self._answers, answers = os.pipe()
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-c", _KEEPER, str(answers), str(lock_file), locks.called().replace("`", "")],
            cwd=root,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[answers, lock_file],  # with the lock inherited, no second run starts before the keeper has cleared up
            start_new_session=True,
        )
        os.close(output)
        os.close(answers)

    def reproduce(self, stage: str, force: bool = False, on_line: Callable[[str], None] | None = None) -> Result:
        """Bring `stage` alone up to date (`dvc repro -s`), writing what it prints to standard output and each plain line to `on_line`.

        Raises BusyError when another DVC process blocks it, StageError when its command fails, GoneError when the command or DVC was
        killed or the machine gave it no room, TooLongError at the deadline, TrackingError for other refusals of DVC. Any other exception,
        Ctrl-C included, ends the stage and the session, as TooLongError does.
        """
        assert self._keeper.stdin is not None
        start, printed, answer = time.monotonic(), printing.Printed(on_line), None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._keeper.stdin.write(json.dumps({"stage": stage, "force": force}).encode() + b"\n")
                self._keeper.stdin.flush()
            answer = self._pump(printed)
        finally:
            if answer is None:
                self.close()
        if "outcome" in answer:
            return Result(stage, Outcome(answer["outcome"]), time.monotonic() - start)
        kind = _ERRORS.get(answer["error"], TrackingError)
        said = printed.last_error() if answer.get("printed") else ""
        raise kind(said or answer["message"])

    def close(self) -> None:
        """End what runs, then the keeper; may be called twice."""
        if self._keeper.stdin is None or self._keeper.stdin.closed:
            return
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.close()
        try:
            self._keeper.wait(_ORPHAN_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        os.close(self._answers)
        os.close(self._output)

    def _pump(self, printed: printing.Printed) -> dict[str, Any]:
        text = b""
        waiting = [self._output, self._answers]
        while True:
            left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
            ready, _, _ = select.select(waiting, [], [], left)
            if not ready:
                raise TooLongError("the time that the run was given is over, so it was paused; the next run continues it")
            if self._output in ready:  # before the answer: it was written before
                part = printing.read(self._output)
                printed.feed(part)
                if not part:
                    waiting.remove(self._output)
                continue
            part = os.read(self._answers, 65536)
            text += part
            if text.endswith(b"\n") or not part:
                printed.end()
                gone = {"error": "gone", "message": "the process that runs DVC ended unexpectedly; run the same command again"}
                answer: dict[str, Any] = json.loads(text) if text else gone
                return answer


def _feeds(maker: lineage.Stage, reader: lineage.Stage) -> bool:
    return any(lineage.overlap(written, read) for written in maker.writes for read in reader.reads)


def _take(handle: int, start: float, wait_seconds: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            owner = _owner(handle)
        # The keeper of a killed run still clears up behind it; that takes seconds at most.
        patience = wait_seconds if owner is None or processes.is_alive(owner["pid"]) else max(wait_seconds, _ORPHAN_SECONDS)
        if time.monotonic() - start >= patience:
            raise BusyError(_busy(owner)) from None
        time.sleep(0.1)


def _owner(handle: int) -> dict[str, Any] | None:
    try:
        owner: dict[str, Any] = json.loads(os.pread(handle, 65536, 0))
    except ValueError:
        return None
    return owner


def _busy(owner: dict[str, Any] | None) -> str:
    if owner is None:
        return "another run of this project is just starting; try again"
    # Killing a run of Prefect's would make it Crashed, which nobody has asked for.
    end = f"end it with `kill {owner['pid']}`" if owner["command"].startswith("`") else "cancel it in Prefect's pages"
    return f"{owner['command']} (process {owner['pid']}) works on this project since {owner['since']}. Wait until it is done, or {end}."


def environment() -> dict[str, str]:
    """What DVC finds in its environment: its own workers and `cmd: nasflow`, too, though the virtual one may not be activated."""
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",  # or the lines of a Python stage arrive when it ends
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
    }
