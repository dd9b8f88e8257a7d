"""The objective: signs, bounds, intervals, and scores."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas.objective import Bound, Objective, parse_bound
from nas.trial import Score


@given(st.sampled_from(["<=", ">="]), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["", " ", "\t"]))
def test_every_finite_bound_is_read(sign: str, value: float, space: str) -> None:
    bound = parse_bound(f"{space}{sign}{space}{value!r}{space}")
    assert bound == Bound(1 if sign == "<=" else -1, value)
    assert bound.excess(value) == 0
    worse = math.nextafter(value, math.inf if sign == "<=" else -math.inf)
    assert bound.excess(worse) > 0 or worse - value < 1e-300 or math.isinf(worse)


@pytest.mark.parametrize(
    "text", ["", "100", "< 100", "== 1", "<= ", "<= nan", "<= inf", ">= 1e999", "<= 1 2", "<= 1; >= 0", "=> 1", "<= 0x10", "<= e", "<= -"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a constraint: write '<= NUMBER' or '>= NUMBER'"):
        parse_bound(text)


@pytest.mark.parametrize(
    ("text", "value", "excess"),
    [
        ("<= 100", 150, 0.5),
        ("<= 100", 100, 0),
        (">= 0.8", 0.6, 0.25),
        (">= 0.8", 0.9, 0),
        ("<= 0", 2, 2),
        ("<= -10", -5, 0.5),
        ("<= 1e3", 2000, 1),
    ],
)
def test_excess_is_relative_to_the_bound(text: str, value: float, excess: float) -> None:
    assert parse_bound(text).excess(value) == pytest.approx(excess)


def test_a_minus_makes_small_better() -> None:
    objective = Objective(metrics=("accuracy", "-latency"))
    assert objective.score({"accuracy": 0.5, "latency": 3.0, "other": math.nan}) == Score(0.0, (0.5, -3.0))
    assert objective.names == ["accuracy", "latency"]


def test_violations_add_up_and_are_said() -> None:
    objective = Objective(constraints={"parameters": "<= 100", "latency": "<= 2"})
    metrics = {"accuracy": 0.9, "parameters": 150, "latency": 3.0}
    assert objective.score(metrics) == Score(-1.0, (0.9,))
    assert objective.broken(metrics) == ["parameters 150 breaks <= 100", "latency 3 breaks <= 2"]
    assert objective.broken({"parameters": 100}) == []
    assert objective.reject({"parameters": 150}) == Score(-0.5, ())
    assert objective.reject({"parameters": 100}) is None
    assert math.copysign(1, objective.score({"accuracy": 0.9, "parameters": 1, "latency": 1}).feasibility) == 1


@pytest.mark.parametrize(
    "metrics", [{}, {"accuracy": math.nan, "parameters": 1}, {"accuracy": math.inf, "parameters": 1}, {"accuracy": 1.0}]
)
def test_a_score_needs_finite_numbers(metrics: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a score needs a finite number"):
        Objective(constraints={"parameters": "<= 5"}).score(metrics)


MEASURED = {"accuracy": 0.9, "latency_ms": 2.1, "latency_ms_low": 1.9, "latency_ms_high": 2.3}


def test_the_interval_of_a_metric_is_part_of_the_score() -> None:
    objective = Objective(metrics=("accuracy", "-latency_ms"))
    assert objective.score(MEASURED) == Score(0.0, (0.9, -2.1), ((0.9, 0.9), (-2.3, -1.9)))
    assert Objective(metrics=("latency_ms",)).score(MEASURED) == Score(0.0, (2.1,), ((1.9, 2.3),))
    assert Objective().score(MEASURED) == Score(0.0, (0.9,)), "no objective is noisy"
    exact = {**MEASURED, "latency_ms_low": 2.1, "latency_ms_high": 2.1}
    assert objective.score(exact) == Score(0.0, (0.9, -2.1)), "an interval of no width is none"


@pytest.mark.parametrize(
    ("bound", "excess", "said"),
    [
        ("<= 2.3", 0, []),
        ("<= 2.2", 0.1 / 2.2, ["latency_ms 2.1 (1.9 to 2.3) breaks <= 2.2"]),
        ("<= 2.0", 0.15, ["latency_ms 2.1 (1.9 to 2.3) breaks <= 2.0"]),
        (">= 1.9", 0, []),
        (">= 2.0", 0.05, ["latency_ms 2.1 (1.9 to 2.3) breaks >= 2.0"]),
    ],
)
def test_a_constraint_holds_where_the_whole_interval_keeps_to_it(bound: str, excess: float, said: list[str]) -> None:
    objective = Objective(constraints={"latency_ms": bound})
    assert objective.score(MEASURED).feasibility == pytest.approx(-excess)
    assert objective.broken(MEASURED) == said
    rejected = objective.reject(MEASURED)
    assert (rejected is None) == (not said)
    assert rejected is None or rejected == Score(objective.score(MEASURED).feasibility, ())


@pytest.mark.parametrize(("low", "high"), [(2.2, 2.3), (1.9, 2.0), (math.nan, 2.3), (1.9, math.inf), (2.3, 1.9)])
def test_an_interval_must_be_finite_and_hold_its_metric(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"metric 'latency_ms' is 2.1, but its interval is .*: it must be finite and hold it"):
        Objective(metrics=("-latency_ms",)).score({**MEASURED, "latency_ms_low": low, "latency_ms_high": high})


@pytest.mark.parametrize("metrics", [[], [""], ["-"], ["accuracy", "accuracy"], ["accuracy", "-accuracy"]])
def test_objectives_are_named_each_once(metrics: list[str]) -> None:
    with pytest.raises(ValidationError, match="are not objectives: name at least one metric, each once"):
        Objective(metrics=metrics)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="is not a constraint"):
        Objective(constraints={"parameters": "100"})
    with pytest.raises(ValidationError, match="'best' or 'knee'"):
        Objective(choose="first")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=r"extra_forbidden|Extra inputs"):
        Objective(metric=["accuracy"])  # type: ignore[call-arg]
