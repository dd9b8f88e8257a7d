"""How a command ends: an error becomes a sentence, Ctrl-C and SIGTERM an exit code, and a write that was begun is finished first."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

STOPPED = 128
"""What a shell adds to the number of the signal that ended a command."""
TEMPORARY = 75
"""The exit code of a stage, under DVC, that the machine or the network failed: EX_TEMPFAIL of <sysexits.h>. Trying again may help."""
_AGAIN_SECONDS = 0.05
_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@final
class Stopped(BaseException):
    """A signal asked this process to end; like KeyboardInterrupt no ordinary handler may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def errors() -> Iterator[None]:
    """Turn an error that a person can mend into its sentence and exit code 1; others keep their traceback.

    That nobody reads the output any more, as after `| head`, is left to the command line's library, which ends without a word.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (ValueError, RuntimeError, OSError) as error:
        from flows import console, launch, tracking
        from nas import atomic
        from nas.data.errors import UnreachableError

        if os.environ.get("NASFLOW_TRACEBACK"):
            raise
        console.fail(f"nasflow: {(atomic.disk_trouble(error) if isinstance(error, OSError) else None) or error}")
        passing = atomic.is_of_the_disk(error) if isinstance(error, OSError) else isinstance(error, UnreachableError)
        if passing and "DVC_STAGE" in os.environ:
            sys.exit(TEMPORARY)
        sys.exit(launch.BUSY if isinstance(error, tracking.BusyError) else 1)


@contextmanager
def written() -> Iterator[None]:
    """Write what waits in a buffer of the output before Python itself does, who would complain that nobody reads any more."""
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere
            sys.exit(1)


@contextmanager
def stoppable(advice: str = "run the same command again to continue") -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a sentence and exit code 130 or 143, after everything that runs was ended."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in _NUMBERS:
            signal.signal(other, signal.SIG_IGN)  # a second one must not interrupt the clearing up
        raise Stopped(number)

    def swallowed(lost: "sys.UnraisableHookArgs") -> None:
        """Python drops what is raised in a finalizer, and this would have been the only signal that is heard."""
        if not isinstance(lost.exc_value, Stopped):
            hook(lost)
            return
        for other in _NUMBERS:
            signal.signal(other, stop)
        threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), lost.exc_value.number)).start()

    hook, sys.unraisablehook = sys.unraisablehook, swallowed
    before = {number: signal.signal(number, stop) for number in _NUMBERS}
    try:
        yield
    except Stopped as stopped:
        from flows import console

        console.fail(f"nasflow: stopped: {advice}")
        sys.exit(STOPPED + stopped.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


@contextmanager
def finish_first() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is done: a commit that was begun ends whole, and takes milliseconds.

    Blocking the signals in this thread would not do: any other thread may take one, and Python answers it in the main thread all the
    same. Outside the main thread, which alone is interrupted, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: caught.append(number)) for number in _NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if caught:
            signal.raise_signal(caught[0])
