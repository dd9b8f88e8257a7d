"""What one candidate may use. Going beyond raises an error that names the limit; the search records it and goes on."""

import math
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

_PAGE = resource.getpagesize()


class LimitError(RuntimeError):
    """A candidate went beyond a limit; the message gives the figure and the limit."""


class Limits(BaseModel):
    """Limits on one candidate."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

    seconds: float | None = Field(None, gt=0)
    """Wall time of one evaluation; empty for none."""
    memory: float | None = Field(None, gt=0)
    """Memory in MiB beyond what the process used before; empty for none."""

    @contextmanager
    def watch(self) -> Iterator["Guard"]:
        """Return the guard to ask at every step, and make allocations beyond the memory limit fail meanwhile."""
        guard = Guard(self)
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if self.memory is not None:
            # Addresses are reserved before they are used: twice the limit lets a step come to the guard, and stops one that never would.
            ceiling = _pages(0) * _PAGE + int(2 * self.memory * 2**20)
            resource.setrlimit(resource.RLIMIT_AS, (ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard), hard))
        try:
            yield guard
        except (RuntimeError, MemoryError) as error:
            if self.memory is not None and _is_memory(error):
                raise LimitError(f"memory passed the limit of {self.memory:g} MiB in one allocation") from error
            raise
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Guard:
    """Remembers where a candidate began, and checks it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._start = time.monotonic()
        self._resident = _pages(1)

    def check(self, step: int, loss: float) -> None:
        """Raise LimitError when time or memory is used up, or the loss is not a finite number."""
        if not math.isfinite(loss):
            raise LimitError(f"loss is {loss} at step {step}: training diverged")
        limits = self._limits
        if limits.seconds is not None and (seconds := time.monotonic() - self._start) > limits.seconds:
            raise LimitError(f"time of {seconds:.1f} s passed the limit of {limits.seconds:g} s at step {step}")
        if limits.memory is not None:
            used = (_pages(1) - self._resident) * _PAGE / 2**20
            if used > limits.memory:
                raise LimitError(f"memory of {used:.0f} MiB passed the limit of {limits.memory:g} MiB at step {step}")


def _pages(field: int) -> int:
    """Pages of this process: field 0 is addresses, field 1 is resident memory; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[field])
    except OSError:
        return 0


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(
        word in str(error).lower() for word in ("allocate memory", "out of memory", "could not create a memory")
    )
