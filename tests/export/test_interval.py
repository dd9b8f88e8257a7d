import itertools
import math

import numpy as np
import pytest

from export.interval import Interval, median_interval, quantile, verdict_of_ratio, verdict_of_times


def test_bounds_are_the_tabled_order_statistics() -> None:
    """Confidence intervals for the median: n = 10 has (2nd, 9th) with 0.979, n = 20 has (6th, 15th) with 0.959, as in any table."""
    assert median_interval(range(1, 11)) == Interval(2, 5.5, 9, pytest.approx(1 - 22 / 1024))
    assert median_interval(range(1, 21)) == Interval(6, 10.5, 15, pytest.approx(0.9586, abs=1e-4))
    assert median_interval([3.0, 1.0, 2.0], 0.2) == Interval(1, 2, 3, 0.75)


def test_too_few_values_say_so() -> None:
    assert median_interval([5.0]) == Interval(5, 5, 5, 0.0)
    assert median_interval([4, 1, 3, 2, 5]) == Interval(1, 3, 5, 1 - 2 / 32)
    assert median_interval(range(8), 0.99) == Interval(0, 3.5, 7, 1 - 2 / 256)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_nothing_to_take_a_median_of_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"give at least one value, all finite"):
        median_interval(values)


@pytest.mark.parametrize("count", [7, 8, 15, 31])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_true_median_is_held_as_often_as_said(count: int, confidence: float) -> None:
    """Skewed noise, as latencies have: the bounds need no normal distribution."""
    rng = np.random.default_rng(count)
    found = [median_interval(rng.exponential(1.0, count).tolist(), confidence) for _ in range(2000)]
    held = sum(interval.low <= math.log(2) <= interval.high for interval in found) / len(found)
    assert held == pytest.approx(found[0].confidence, abs=0.025)
    assert found[0].confidence >= confidence


def test_no_narrower_interval_has_the_confidence() -> None:
    for count in range(8, 40):
        interval = median_interval(range(count), 0.95)
        inner = int(interval.low) + 1
        missed = 2 * sum(math.comb(count, below) for below in range(inner + 1)) / 2**count
        assert interval.confidence >= 0.95 > 1 - missed


def test_a_quantile_is_a_value_that_was_seen() -> None:
    assert [quantile([4, 1, 3, 2], share) for share in (0, 0.25, 0.26, 0.5, 0.9, 1)] == [1, 1, 2, 2, 4, 4]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.5, 0.96, "faster"),
        (0.5, 0.98, "indistinguishable"),
        (1.02, 2, "indistinguishable"),
        (1.04, 2, "slower"),
        (0.5, 2, "indistinguishable"),
    ],
)
def test_a_ratio_speaks_when_all_of_it_is_beyond_the_margin(low: float, high: float, verdict: str) -> None:
    assert verdict_of_ratio(Interval(low, 1.0, high, 0.99), 0.03) == verdict


def test_the_other_way_round_is_the_opposite() -> None:
    opposite = {"faster": "slower", "slower": "faster", "indistinguishable": "indistinguishable"}
    bounds = np.linspace(0.8, 1.25, 19).tolist()
    for low, high in itertools.combinations_with_replacement(bounds, 2):
        there = verdict_of_ratio(Interval(low, low, high, 0.99), 0.05)
        assert verdict_of_ratio(Interval(1 / high, 1 / high, 1 / low, 0.99), 0.05) == opposite[there]
        first, second = Interval(low, low, high, 0.95), Interval(1.0, 1.0, 1.02, 0.95)
        assert verdict_of_times(first, second, 0.05) == opposite[verdict_of_times(second, first, 0.05)]


def test_times_are_apart_when_their_intervals_are() -> None:
    near, far = Interval(1.0, 1.1, 1.2, 0.95), Interval(1.25, 1.3, 1.4, 0.95)
    assert verdict_of_times(near, far) == "faster"
    assert verdict_of_times(near, far, margin=0.05) == "indistinguishable"
    assert verdict_of_times(near, Interval(1.2, 1.3, 1.4, 0.95)) == "indistinguishable"
