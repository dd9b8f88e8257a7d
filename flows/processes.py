"""Processes that never outlive what started them: a death signal, a watch on the parent, an end of a whole group."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from nas.process_start import WATCH

PARENT = "NASFLOW_PARENT"
SERVER = "NASFLOW_SERVE"
"""Where the runs of `nasflow serve` find the process that they must not outlive."""
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>; ctypes knows no headers
_POLL_SECONDS = 0.5
_GENTLE_SECONDS = 5.0
"""To finish what was begun when the parent is gone; what stops by itself takes tenths of a second."""
_SHELLS = frozenset({"sh", "dash", "bash", "zsh", "ksh", "fish", "ash", "busybox"})
# -I and -S keep the start near 10 ms: no site-packages are needed to replace oneself.
_SHIM = (
    "import ctypes, os, sys\n"
    f"ctypes.CDLL(None).prctl({_DEATH_SIGNAL}, 9) if sys.platform == 'linux' else None\n"
    "sys.exit(1) if os.getppid() != int(sys.argv[1]) else os.execv(sys.argv[2], sys.argv[2:])\n"
)


def die_with_parent(gently: bool = False) -> None:
    """End this process with SIGKILL as soon as its parent, or the process named in NASFLOW_PARENT, is gone.

    A killed process leaves its children running, and the next run would then write the same files beside them. The kernel's signal
    covers the direct parent; a shell between DVC and the stage hides the real one, so that one is polled. `gently` sends SIGTERM
    first, as DVC does not pass on the one that it got, and SIGKILL when that has not ended this process in 5 s. Exits with code 1
    when the named process ended before this call.
    """
    parent = os.getppid()
    named = int(os.environ.get(PARENT, _beyond_shells(parent)))
    signalled = _ask_for_death_signal(signal.SIGTERM if gently else signal.SIGKILL)
    if os.getppid() != parent or not is_alive(named):
        sys.exit(1)
    if gently or named != parent or not signalled:
        threading.Thread(target=_watch, args=(parent, named, gently, signalled), daemon=True, name=WATCH).start()


def follow(pid: int) -> None:
    """End this process as SIGTERM does, and 5 s later for certain, when the process `pid` is gone.

    Unlike `die_with_parent` this asks nothing of the kernel, whose signal comes when the *thread* ends that started this process.
    """
    threading.Thread(target=_follow, args=(pid,), daemon=True, name=WATCH).start()


def with_parent(command: list[str]) -> list[str]:
    """`command` (first word: a full path) such that the kernel ends it together with the thread of this process that starts it."""
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *command]


def end_group(group: int, grace_seconds: float) -> None:
    """Ask every process of a group to end, wait `grace_seconds` at most, then kill what is left; a group that is gone is fine."""
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 2.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
        deadline = time.monotonic() + patience
        while _has_members(group) and time.monotonic() < deadline:
            time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process of this id exists, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _beyond_shells(pid: int) -> int:
    """The nearest process from `pid` upwards that is not a shell: some stay between what runs a command and the command."""
    while (found := _name_and_parent(pid)) is not None and found[0] in _SHELLS and found[1] > 1:
        pid = found[1]
    return pid


def _name_and_parent(pid: int) -> tuple[str, int] | None:
    """The name of a process's program and the id of its parent; None when it is gone, or nobody tells."""
    try:
        if sys.platform == "linux":
            before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")  # the name may hold spaces and brackets
            return before.partition("(")[2], int(after.split()[1])
        answer = subprocess.run(["ps", "-o", "ppid=,comm=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
        parent, name = answer.split(None, 1)
        return Path(name.strip().removeprefix("-")).name, int(parent)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def _ask_for_death_signal(number: int) -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_DEATH_SIGNAL, number) == 0)


def _has_members(group: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-group, os.WNOHANG)  # a zombie child of ours would count as a member for ever
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _follow(pid: int) -> None:
    while is_alive(pid):
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GENTLE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int, named: int, gently: bool, signalled: bool) -> None:
    while os.getppid() == parent and is_alive(named):
        time.sleep(_POLL_SECONDS)
    if gently:
        if os.getppid() == parent or not signalled:  # else the kernel has sent it
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GENTLE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
