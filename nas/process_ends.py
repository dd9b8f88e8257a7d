"""What it means that a process ended as it did, in words."""

import signal
from typing import Final

START_SECONDS: Final = 300.0
"""To start a process and load what it needs; where a disk is cold or a machine busy, importing PyTorch alone can take a minute."""
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS}


def how_it_ended(code: int | None) -> str:
    """Return what the exit code of a process means; None is one that never got as far as to answer."""
    if code is None:
        return f"it could not be started within {START_SECONDS:g} s: the machine is overloaded, or out of memory or processes"
    if code >= 0:
        return f"ended with exit status {code}: the candidate ended it, or it could not start"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "of no name"
    if -code == signal.SIGKILL:
        cause = "out of memory or killed from outside"
    else:
        cause = "a crash in compiled code" if -code in _CRASHES else "killed from outside"
    return f"ended by signal {-code} ({name}): {cause}"
