"""Taking turns on one machine: many may compute beside each other, or one may measure time with nobody of ours beside it.

    with machine_busy():   # a training step, or a whole trial: shared
    with machine_quiet():  # a measurement: alone

Never ask for quiet while the same process is busy: it would wait for itself until the timeout.

The locks are the kernel's (flock), so they end with the process that holds them, however it ends; only a child that was forked
meanwhile and lives on keeps them. They bind processes of ours, of one user, on one machine or in one container. Everybody else's
processes go on; timing has to bear with them, and `export.timing` does.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import final

POLL_SECONDS = 0.005


@final
class NotQuietError(TimeoutError):
    """The machine was not free in time; the message says for what and how long was waited, and the cure."""


@contextmanager
def machine_quiet(*, timeout: float | None = 600.0, folder: Path | None = None) -> Iterator[None]:
    """Alone on the machine: waits until all who hold it busy have ended, and holds back all who come later.

    timeout: seconds to wait, None for ever. folder: where the lock files are, see `lock_folder`. Raises NotQuietError when the
    time is over, OSError when the lock files cannot be opened.
    """
    deadline = _deadline(timeout)
    # Whoever waits holds the gate, so that those who come and go cannot starve it: they are held back before the room.
    with _locked("gate", fcntl.LOCK_EX, deadline, folder), _locked("room", fcntl.LOCK_EX, deadline, folder):
        yield


@contextmanager
def machine_busy(*, timeout: float | None = None, folder: Path | None = None) -> Iterator[None]:
    """At work on the machine beside others: waits while somebody measures or waits to measure. Arguments and errors as above.

    Costs about a tenth of a millisecond when nobody measures, so it may be taken for every step of a training, or for every few.
    """
    deadline = _deadline(timeout)
    with _opened("room", folder) as room:
        with _locked("gate", fcntl.LOCK_SH, deadline, folder):
            _lock(room, fcntl.LOCK_SH, deadline)
        yield


@contextmanager
def giving_way(*, every: float = 0.05, folder: Path | None = None) -> Iterator[Callable[[], float]]:
    """As `machine_busy`, for work of many steps: yields what to call between two of them, so that whoever waits to measure may.

    It gives way at most once in `every` seconds, so it may be called after each step, and returns the seconds that it waited. Where the
    lock files cannot be opened, the work goes on without them.
    """
    with ExitStack() as stack:
        last = time.monotonic()

        def give_way() -> float:
            nonlocal last
            begin = time.monotonic()
            if begin - last < every:
                return 0.0
            stack.close()
            with suppress(OSError):
                stack.enter_context(machine_busy(folder=folder))
            last = time.monotonic()
            return last - begin

        with suppress(OSError):
            stack.enter_context(machine_busy(folder=folder))
        yield give_way


def lock_folder() -> Path:
    """The user's runtime folder where the system has made one, else the folder for temporary files.

    No variable of the environment is asked for the first: a service and a shell of one user must find the same files.
    """
    runtime = Path(f"/run/user/{os.getuid()}")
    if os.access(runtime, os.W_OK | os.X_OK):
        return runtime
    common = Path("/tmp")
    return common if os.access(common, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


@contextmanager
def _opened(name: str, folder: Path | None) -> Iterator[int]:
    path = (folder or lock_folder()) / f"nasflow-{os.getuid()}-{name}.lock"
    # No link is followed: the folder may be open to other users.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # ends the lock as well


@contextmanager
def _locked(name: str, kind: int, deadline: float | None, folder: Path | None) -> Iterator[None]:
    with _opened(name, folder) as descriptor:
        _lock(descriptor, kind, deadline)
        yield


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _lock(descriptor: int, kind: int, deadline: float | None) -> None:
    if deadline is None:
        fcntl.flock(descriptor, kind)
        return
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                wanted = "quiet, but somebody works on it or measures" if kind == fcntl.LOCK_EX else "free, but somebody measures on it"
                raise NotQuietError(f"the machine did not become {wanted}: wait for it to end, or allow a longer timeout") from None
            time.sleep(POLL_SECONDS)
        else:
            return
