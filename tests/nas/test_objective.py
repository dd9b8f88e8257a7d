"""The objective: signs, bounds, scores, and the Pareto front against its definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas.architecture import Architecture
from nas.objective import Bound, Objective, pareto_front, parse_bound
from nas.trial import Proposal, Report, Score, Trial


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


@pytest.mark.parametrize("metrics", [[], [""], ["-"], ["accuracy", "accuracy"], ["accuracy", "-accuracy"]])
def test_objectives_are_named_each_once(metrics: list[str]) -> None:
    with pytest.raises(ValidationError, match="are not objectives: name at least one metric, each once"):
        Objective(metrics=metrics)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="is not a constraint"):
        Objective(constraints={"parameters": "100"})
    with pytest.raises(ValidationError, match=r"extra_forbidden|Extra inputs"):
        Objective(metric=["accuracy"])  # type: ignore[call-arg]


values = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
kinds = st.sampled_from(["done", "done", "done", "infeasible", "rejected", "failed", "running"])


@given(st.lists(st.tuples(kinds, values), max_size=25))
def test_the_pareto_front_is_what_its_definition_says(points: list[tuple[str, tuple[int, ...]]]) -> None:
    scores = {"done": lambda v: Score(0.0, v), "infeasible": lambda v: Score(-1.0, v), "rejected": lambda v: Score(-1.0, ())}
    trials = [
        Trial(number, Proposal(Architecture({})), None if kind == "running" else Report(), scores[kind](point) if kind in scores else None)
        for number, (kind, point) in enumerate(points)
    ]
    done = [(number, point) for number, (kind, point) in enumerate(points) if kind == "done"]
    expected = [
        number
        for number, point in done
        if not any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for _, other in done)
        and not any(other == point and earlier < number for earlier, other in done)
    ]
    assert [trial.number for trial in pareto_front(trials)] == expected
