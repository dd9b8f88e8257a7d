"""The winner is chosen among different functions, on data that the search has not seen."""

from collections.abc import Mapping
from typing import Any

from nas.architecture import Architecture
from nas.evaluators.base import Evaluator
from nas.finalists import finalists
from nas.objective import Objective
from nas.trial import Proposal, Report, Score, Trial


class Known(Evaluator):
    """Knows the score of every architecture on other data; `idle` changes nothing."""

    confirm: dict[str, float]

    def evaluate(self, trial: Trial) -> Report:
        raise AssertionError("nothing is trained")

    def canonical(self, architecture: Mapping[str, str]) -> str:
        return architecture["a"]

    def reassess(self, trial: Trial, split: str) -> Mapping[str, float]:
        assert split == "confirm"
        return {"accuracy": self.confirm[trial.architecture["a"]]}


def trial(number: int, name: str, score: float, **proposal: Any) -> Trial:
    architecture = Architecture({"a": name, "idle": str(number)})
    report = Report({"accuracy": score, "parameters": 7.0})
    return Trial(number, Proposal(architecture, **proposal), report, Score(0.0, (score,)))


def chosen(trials: list[Trial], count: int, **confirm: float) -> list[tuple[int, float]]:
    ranked = finalists(trials, Known(confirm=confirm), Objective(), count=count, split="confirm")
    return [(finalist.trial.number, finalist.metrics["accuracy"]) for finalist in ranked]


def test_other_data_decide_among_the_best() -> None:
    trials = [trial(0, "x", 0.9), trial(1, "y", 0.8), trial(2, "z", 0.7)]
    assert chosen(trials, 2, x=0.6, y=0.7, z=1.0) == [(1, 0.7), (0, 0.6)]


def test_equal_functions_are_one_finalist_whatever_their_parents_and_steps() -> None:
    trials = [trial(0, "x", 0.8), trial(1, "x", 0.9, parent=0), trial(2, "x", 0.9, steps=3), trial(3, "y", 0.5, parent=1)]
    assert chosen(trials, 3, x=0.6, y=0.5) == [(1, 0.6), (3, 0.5)]


def test_of_equals_the_better_in_the_search_then_the_earlier_wins() -> None:
    trials = [trial(0, "x", 0.7), trial(1, "y", 0.8), trial(2, "z", 0.8)]
    assert [number for number, _ in chosen(trials, 3, x=0.5, y=0.5, z=0.5)] == [1, 2, 0]


def test_what_failed_or_breaks_a_constraint_is_no_finalist() -> None:
    broken = Trial(1, Proposal(Architecture({"a": "y"})), Report({"accuracy": 1.0}), Score(-0.1, (1.0,)))
    failed = Trial(2, Proposal(Architecture({"a": "z"})), Report(error="no"))
    assert chosen([trial(0, "x", 0.1), broken, failed], 3, x=0.2) == [(0, 0.2)]
