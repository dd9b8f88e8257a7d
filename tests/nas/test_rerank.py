"""Candidates take the order that the latencies of other devices give them."""

import pytest

from nas.objective import Objective
from nas.rerank import Latency, rerank, slowest

FOUND = {
    7: {"accuracy": 0.9, "latency_ms": 1.0, "latency_ms_low": 0.9, "latency_ms_high": 1.1},
    2: {"accuracy": 0.8, "latency_ms": 2.0},
    5: {"accuracy": 0.7, "latency_ms": 3.0},
}
"""On the machine of the search trial 7 dominates both others."""


def exactly(**milliseconds: float) -> dict[int, Latency]:
    return {int(name.removeprefix("trial_")): Latency(value, value, value) for name, value in milliseconds.items()}


def order(objective: Objective, *devices: dict[int, Latency]) -> list[tuple[int, int, bool, bool]]:
    return [(one.trial, one.before, one.front, bool(one.broken)) for one in rerank(FOUND, devices, objective)]


BOTH = Objective(metrics=("accuracy", "-latency_ms"))


def test_what_another_device_runs_faster_comes_onto_the_front() -> None:
    device = exactly(trial_7=9.0, trial_2=1.0, trial_5=2.0)
    assert order(BOTH, device) == [(7, 1, True, False), (2, 2, True, False), (5, 3, False, False)]
    [first, *_] = rerank(FOUND, [device], BOTH)
    assert first.metrics == {"accuracy": 0.9, "latency_ms": 9.0, "latency_ms_low": 9.0, "latency_ms_high": 9.0}
    assert first.score.values == (0.9, -9.0)


def test_the_knee_moves_with_the_latencies() -> None:
    knee = Objective(metrics=("accuracy", "-latency_ms"), choose="knee")
    assert [one[0] for one in order(knee, exactly(trial_7=9.0, trial_2=1.0, trial_5=0.9))] == [2, 7, 5]
    assert [one[0] for one in order(knee, exactly(trial_7=1.1, trial_2=1.0, trial_5=0.1))] == [7, 5, 2]


def test_a_constraint_moves_what_breaks_it_to_the_end() -> None:
    limited = Objective(metrics=("accuracy",), constraints={"latency_ms": "<= 5"})
    ranked = rerank(FOUND, [exactly(trial_7=9.0, trial_2=1.0, trial_5=2.0)], limited)
    assert [(one.trial, one.broken) for one in ranked] == [(2, ()), (5, ()), (7, ("latency_ms 9 breaks <= 5",))]
    assert not ranked[-1].front


def test_a_constraint_must_hold_on_every_device_with_the_whole_interval() -> None:
    limited = Objective(metrics=("accuracy",), constraints={"latency_ms": "<= 5"})
    fits = exactly(trial_7=1.0, trial_2=1.0, trial_5=1.0)
    doubtful = {7: Latency(4.0, 4.5, 5.5), 2: Latency(4.0, 4.5, 5.0), 5: Latency(1.0, 6.0, 6.0)}
    for devices in ([fits, doubtful], [doubtful, fits]):
        assert order(limited, *devices) == [(2, 2, True, False), (7, 1, False, True), (5, 3, False, True)]
    assert order(limited, fits)[0] == (7, 1, True, False)


def test_a_constraint_from_below_is_judged_on_the_fastest_device() -> None:
    slow_enough = Objective(metrics=("accuracy",), constraints={"latency_ms": ">= 5"})
    ranked = rerank(FOUND, [exactly(trial_7=9.0, trial_2=9.0), exactly(trial_7=1.0, trial_2=6.0)], slow_enough)
    assert [(one.trial, bool(one.broken)) for one in ranked] == [(2, False), (7, True)]


def test_latencies_that_noise_cannot_tell_apart_leave_both_on_the_front() -> None:
    touching = {7: Latency(1.0, 2.0, 3.0), 2: Latency(1.5, 2.0, 2.5), 5: Latency(2.0, 2.1, 2.2)}
    same = {trial: {**metrics, "accuracy": 0.9} for trial, metrics in FOUND.items()}
    assert all(one.front for one in rerank(same, [touching], BOTH))


def test_what_a_device_has_not_measured_is_left_out() -> None:
    assert [one[0] for one in order(BOTH, exactly(trial_7=1.0, trial_2=1.0), exactly(trial_2=1.0, trial_5=1.0))] == [2]
    assert rerank(FOUND, [{}], BOTH) == []


def test_equals_keep_their_order() -> None:
    same = {trial: {"accuracy": 0.5} for trial in (3, 1, 2)}
    assert [one.trial for one in rerank(same, [{trial: Latency(1, 1, 1) for trial in same}], BOTH)] == [3, 1, 2]


def test_the_slowest_of_several_is_above_every_lower_end() -> None:
    assert slowest([Latency(1, 2, 9), Latency(3, 4, 5)]) == Latency(3, 4, 9)


def test_a_missing_metric_is_named() -> None:
    with pytest.raises(ValueError, match="'f1' is missing"):
        rerank(FOUND, [exactly(trial_7=1.0)], Objective(metrics=("f1",)))
