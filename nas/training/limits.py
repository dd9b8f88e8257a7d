"""What one candidate may use. Going beyond raises an error that names the limit; the search records it and goes on."""

import math
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, final

from pydantic import BaseModel, ConfigDict, Field

from nas.training.alarm import Alarm
from nas.trial import LimitError

if TYPE_CHECKING:  # settings are read without PyTorch
    import torch

__all__ = ["Guard", "LimitError", "Limits"]

_PAGE = resource.getpagesize()
_SLACK = 512 * 2**20
"""Addresses that thread stacks and allocators reserve without using them; refusing these would end the process, not the step."""
_GRACE = 2.0
"""Seconds past the limit before a step that does not end is interrupted: one that ends by itself can say which it was."""
_STRUCTURE_GRACE = 30.0
"""As much for looking at a structure, which is quick, but the first in a process imports a part of PyTorch for it."""


@final
class Limits(BaseModel):
    """Limits on one candidate."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False)

    seconds: float | None = Field(None, gt=0)
    """Wall time of one evaluation, looked at after every step; empty for none. A step that does not end is interrupted 2 s later."""
    memory: float | None = Field(None, gt=0)
    """Memory in MiB beyond what was used before; empty for none. One step alone may take twice as much, or 512 MiB more."""
    parameters: int | None = Field(None, ge=1)
    """Parameters of a candidate; empty for no limit. A larger one fails before it is trained and has used up a trial; a bound in
    `objective.constraints` uses up none, and tells the strategy how far off it was."""
    flops: float | None = Field(None, gt=0)
    """Floating-point operations for one example; empty for no limit. Otherwise as `parameters`."""
    divergence_steps: int | None = Field(100, ge=1)
    """Optimizer steps on end, after the warm-up, that the training loss may be worse than guessing by more than a tenth; empty for
    any number. Counted in tens; where weights are shared, the mean over the steps of one trial counts."""

    def check_size(self, costs: Mapping[str, float]) -> None:
        """Raise LimitError when `parameters` or `flops` of a candidate pass their limit."""
        for name, limit in (("parameters", self.parameters), ("flops", self.flops)):
            if limit is not None and costs[name] > limit:
                raise LimitError(f"{costs[name]:,.0f} {name} pass the limit of {limit:,.0f}", name)

    def watch(self, device: "torch.device") -> AbstractContextManager["Guard"]:
        """Return the guard to ask at every step; on a CPU, make allocations far beyond the memory limit fail meanwhile.

        The limit on addresses is the process's own: other threads share it while the context lasts. A GPU's driver reserves
        addresses by the hundred GiB, so there the guard alone watches, and an allocation fails when the device is full.
        With a limit on time, code that does not come back is interrupted by a LimitError in the middle of it, in the main thread.
        """
        return self._watch(device, _GRACE)

    def watch_structure(self) -> AbstractContextManager["Guard"]:
        """As `watch`, while a network is built without memory and run once: that runs a candidate's code, too."""
        import torch

        return self._watch(torch.device("cpu"), _STRUCTURE_GRACE)

    @contextmanager
    def _watch(self, device: "torch.device", grace: float) -> Iterator["Guard"]:
        guard = Guard(self, device)
        former = resource.getrlimit(resource.RLIMIT_AS)
        if self.memory is not None and device.type == "cpu" and (addresses := _pages(0) * _PAGE):
            limit = int(self.memory * 2**20)
            _limit_addresses(addresses + limit + max(limit, _SLACK), former)
        try:
            with self._alarm(grace):
                yield guard
        except (RuntimeError, MemoryError) as error:
            if self.memory is not None and _is_memory(error):
                raise LimitError(f"memory passed the limit of {self.memory:g} MiB in one allocation", "memory") from error
            raise
        finally:
            resource.setrlimit(resource.RLIMIT_AS, former)

    def _alarm(self, grace: float) -> AbstractContextManager[None]:
        if (limit := self.seconds) is None:
            return nullcontext()
        return Alarm(limit + grace, lambda: LimitError(f"time passed the limit of {limit:g} s within one step", "time"))


@final
class Guard:
    """Remembers where a candidate began, and checks it."""

    def __init__(self, limits: Limits, device: "torch.device") -> None:
        self._limits, self._device = limits, device
        self._start = time.monotonic()
        if device.type == "cuda":
            import torch

            torch.cuda.init()  # type: ignore[no-untyped-call]
            torch.cuda.reset_peak_memory_stats(device)
        self._before = self._used()

    def charge(self, seconds: float) -> None:
        """Count seconds that the same training took before it was interrupted."""
        self._start -= seconds

    def check(self, step: int, loss: float) -> None:
        """Raise LimitError when time or memory is used up, or the loss is not a finite number."""
        if not math.isfinite(loss):
            raise LimitError(f"loss is {loss} at step {step}: training diverged", "diverged")
        self.check_time(step)
        if self._limits.memory is not None:
            used = (self._used() - self._before) / 2**20
            if used > self._limits.memory:
                raise LimitError(f"memory of {used:.0f} MiB passed the limit of {self._limits.memory:g} MiB at step {step}", "memory")

    def check_time(self, step: int) -> None:
        """Raise LimitError when time is used up; cheap enough for every step."""
        limit = self._limits.seconds
        if limit is not None and (seconds := time.monotonic() - self._start) > limit:
            raise LimitError(f"time of {seconds:.3g} s passed the limit of {limit:g} s at step {step}", "time")

    def check_trend(self, step: int, above: int) -> None:
        """Raise LimitError when the loss was above that of guessing for `above` steps on end, and that is too many."""
        limit = self._limits.divergence_steps
        if limit is not None and above >= limit:
            raise LimitError(f"loss is worse than guessing for {above} steps on end at step {step}: training diverged", "diverged")

    def _used(self) -> int:
        """Bytes in use: the peak since the start on a GPU, else what of this process is resident now."""
        if self._device.type == "cuda":
            import torch

            return torch.cuda.max_memory_allocated(self._device)
        return _pages(1) * _PAGE


def _limit_addresses(ceiling: int, former: tuple[int, int]) -> None:
    """Lower the limit on addresses to `ceiling`; a limit that is lower already stays."""
    bounds = [bound for bound in former if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([ceiling, *bounds]), former[1]))


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
