"""Trying again where the machine failed, and never where the settings, the data or the code did."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from flows.tracking import BusyError, GoneError, ServerLostError

LONGEST_SECONDS = 3600.0
_PASSING = (BusyError, GoneError, ServerLostError)
Result = TypeVar("Result")


def is_passing(error: BaseException) -> bool:
    """Whether an error comes from the machine, the network or another process, so that the same work may succeed later."""
    return isinstance(error, _PASSING)


def pauses(retries: int, first_seconds: float) -> Iterator[float]:
    """Seconds to wait before each further try: twice as long each time, an hour at most."""
    return (min(first_seconds * 2**number, LONGEST_SECONDS) for number in range(retries))


def persist(
    once: Callable[[], Result],
    reason: Callable[[Result], str | None],
    waits: Iterator[float],
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> Result:
    """Call `once` until there is no reason to try again, or no wait is left; returns what the last call did.

    reason: why a result is worth another try; None when it is good, or bad for good.
    """
    while True:
        result = once()
        why = reason(result)
        seconds = None if why is None else next(waits, None)
        if seconds is None:
            return result
        say(f"{why} Trying again in {seconds:g} s.")
        sleep(seconds)
