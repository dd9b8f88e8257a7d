"""`nasflow run`: takes the lock, starts what takes long side by side, then imports Prefect and runs the pipeline."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from flows import processes, server, tracking
from flows.ending import Stopped

BUSY = 2
"""The exit code while another run works on the project."""
_AGAIN = "Run the same command again to continue."


def run(
    root: Path, stages: Sequence[str] | None = None, force: bool = False, wait_seconds: float = 0.0, check: Sequence[str] | None = None
) -> int:
    """Bring `stages` (all by default) of the project in `root` up to date as one Prefect flow run; returns the exit code.

    `check`: arguments of `nasflow check`, which runs beside the imports and must pass before anything else; None checks nothing.
    0: up to date; 1: a stage failed or may not be trusted; 2: the project is busy; 130 and 143: stopped by Ctrl-C or SIGTERM,
    with every process ended. Messages go to standard error.
    """
    root = root.resolve()
    server.configure(root)
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


def _run(root: Path, stages: Sequence[str] | None, force: bool, check: Sequence[str] | None) -> int:
    checking = None if check is None else _start_check(root, check)
    own = None if server.is_chosen() else server.Server(root)
    if own is not None:
        own.start()
    from prefect.exceptions import TerminationSignal

    from flows import pipeline

    try:
        if checking is not None:
            mistakes = checking.communicate()[1]
            if checking.returncode:
                print(mistakes, end="", file=sys.stderr)
                return checking.returncode if checking.returncode == BUSY else 1
        if own is not None:
            own.wait()
        return pipeline.run_here(root, stages, force, heartbeat=own is None)
    except TerminationSignal as error:
        raise Stopped(error.signal) from error


def _start_check(root: Path, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Settings are checked in a process of their own, while this one imports Prefect."""
    command = processes.with_parent([sys.executable, "-P", "-m", "flows.cli", "check", *arguments])
    return subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _say(message: str, code: int) -> int:
    print(f"nasflow: {message}", file=sys.stderr)
    return code
