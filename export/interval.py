"""Medians with intervals, and the verdicts that follow from them: numbers in, words out, no clock and no machine.

The interval of a median is the distribution-free one from order statistics: the number of values below the median is binomial
with 1/2, whatever the noise looks like (David and Nagaraja 2003, Order statistics, section 7.1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

Verdict = Literal["faster", "slower", "indistinguishable"]


@final
@dataclass(frozen=True)
class Interval:
    """A median between its bounds, all in the unit of the values; `confidence` is what the bounds really have, 0 to 1."""

    low: float
    middle: float
    high: float
    confidence: float


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median of `values` and the narrowest symmetric pair of order statistics that holds it with `confidence`.

    values: independent and of one distribution. With too few of them (under 6 for 0.95, under 8 for 0.99) the bounds are the
    smallest and the largest, and `confidence` in the answer is lower than asked. Raises ValueError without values, or when
    one is not finite.
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"{list(values)} have no median with an interval: give at least one value, all finite")
    ordered = sorted(values)
    count = len(ordered)
    outside = _outside(count, confidence)
    # The chance that fewer than `outside` + 1 values lie below the median, on either side.
    missed = 2 * sum(math.comb(count, below) for below in range(outside + 1)) / 2**count
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return Interval(ordered[outside], middle, ordered[count - 1 - outside], max(0.0, 1 - missed))


def _outside(count: int, confidence: float) -> int:
    """How many values may lie outside at each end."""
    tail, outside = 1, 0
    while outside + 1 <= (count - 1) // 2:
        tail += math.comb(count, outside + 1)
        if 2 * tail / 2**count > 1 - confidence:
            break
        outside += 1
    return outside


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of `values` do not exceed: one that was seen, not one between two."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def verdict_of_ratio(ratio: Interval, margin: float) -> Verdict:
    """What a ratio of times, first to second, says about the first: it differs when the whole interval does, by over `margin`."""
    if ratio.high < 1 / (1 + margin):
        return "faster"
    return "slower" if ratio.low > 1 + margin else "indistinguishable"


def verdict_of_times(first: Interval, second: Interval, margin: float = 0.0) -> Verdict:
    """What two separately measured times say about the first: they differ when their intervals are apart by over `margin`.

    margin: a share, for what moves between two measurements and is in neither interval, for example 0.05.
    """
    if first.high * (1 + margin) < second.low:
        return "faster"
    return "slower" if first.low > second.high * (1 + margin) else "indistinguishable"
