"""An alarm for code that does not come back: an error is raised in the middle of it."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import final

_SOON = 0.05
_PATIENCE = 20
_AGAIN = 1.0


@final
class Alarm:
    """Raises what `make` returns when the context lasts longer than `seconds`, and every second after, should it be caught inside.

    Works in the main thread, which alone handles signals; elsewhere it does nothing. It cannot end code in C that never returns.
    Where a context is being entered or left, it waits a second at most, because what is half switched would stay so: gradients
    turned off, weights half put back. SIGALRM's handler and timer are afterwards what they were; one that was due meanwhile
    goes off then.
    """

    def __init__(self, seconds: float, make: Callable[[], Exception]) -> None:
        self._seconds, self._make = min(seconds, threading.TIMEOUT_MAX), make
        self._armed, self._waited = False, 0

    def __enter__(self) -> None:
        former = signal.getsignal(signal.SIGALRM)
        if threading.current_thread() is not threading.main_thread() or former is None:  # None: set by C code, nothing to put back
            return
        self._start, self._timer = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, 0)
        self._former = signal.signal(signal.SIGALRM, self._ring)
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._armed:
            return
        self._armed = False  # first, or a signal that is under way would wind the timer up again
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._former)
        left, interval = self._timer
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - self._start), 1e-3), interval)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if not self._armed:
            return
        if _switching(frame) and self._waited < _PATIENCE:
            self._waited += 1
            signal.setitimer(signal.ITIMER_REAL, _SOON)
            return
        self._waited = 0
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        raise self._make()


def _switching(frame: FrameType | None) -> bool:
    """Whether a context is being entered or left somewhere in the calls that led here."""
    while frame is not None:
        if frame.f_code.co_name in ("__enter__", "__exit__"):
            return True
        frame = frame.f_back
    return False
