"""Measurements without a clock: quick, and as steady or as noisy as a test wants them."""

import itertools
from collections.abc import Callable
from pathlib import Path

from export import structures
from export.interval import Interval
from export.machine import Target
from export.measure import Measurement


def made_up(path: Path, target: Target, *, seconds: float) -> Measurement:
    """A measurement of a file: a millisecond for each 1,000 bytes, a tenth more or less."""
    size = path.stat().st_size
    middle, ratio = size / 1000, Interval(0.9, 1.0, 1.1, 0.95)
    latency, machine = Interval(0.9 * middle, middle, 1.1 * middle, 0.95), structures.this_machine()
    return Measurement(latency, "core", 1.0, 1.0, 1.0, 1.0, 1.0, ratio, True, 8, 24, size, target, machine)


def never_twice() -> Callable[..., Measurement]:
    """Times that are longer with each measurement, as on a machine that gets busier: what is equal was measured once."""
    turns = itertools.count(1)

    def measure(path: Path, target: Target, *, seconds: float) -> Measurement:
        found = made_up(path, target, seconds=seconds)
        factor, latency = next(turns), found.latency
        slower = Interval(factor * latency.low, factor * latency.middle, factor * latency.high, latency.confidence)
        return Measurement(**{**vars(found), "latency": slower})

    return measure
