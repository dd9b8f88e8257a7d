"""The Pareto front against its definition."""

from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import Architecture
from nas.pareto import pareto_front
from nas.trial import Proposal, Report, Score, Trial

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
