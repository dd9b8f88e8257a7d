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


TRADES = [(0.90, 9.0), (0.88, 3.0), (0.88, 8.0), (0.70, 2.0), (0.60, 1.0)]
"""Accuracy and cost of five trials: all but the third are the front, and the second is its knee."""


def trade(number: int, accuracy: float, cost: float, noise: float = 0.0) -> Trial:
    metrics = {"accuracy": accuracy, "cost": cost, "cost_low": cost - noise, "cost_high": cost + noise}
    score = Objective(metrics=("accuracy", "-cost")).score(metrics)
    return Trial(number, Proposal(Architecture({"a": "vwxyz"[number], "idle": "0"})), Report(metrics), score)


def of_front(count: int, choose: str, confirm: dict[str, float], noise: float = 0.0) -> list[int]:
    trials = [trade(number, *point, noise) for number, point in enumerate(TRADES)]
    objective = Objective.model_validate({"metrics": ("accuracy", "-cost"), "choose": choose})
    return [finalist.trial.number for finalist in finalists(trials, Known(confirm=confirm), objective, count=count, split="confirm")]


SAME = dict(zip("vwxyz", (accuracy for accuracy, _ in TRADES), strict=True))


def test_with_several_objectives_the_finalists_are_of_the_front_and_the_first_decides() -> None:
    assert of_front(2, "best", SAME) == [0, 1]
    assert of_front(9, "best", SAME) == [0, 1, 3, 4], "the third is dominated"
    assert of_front(2, "best", SAME | {"w": 0.95}) == [1, 0], "other data decide"
    assert of_front(9, "best", SAME, noise=3.0) == [0, 1, 2, 3, 4], "but not where the difference may be noise"


def test_the_knee_may_win_instead() -> None:
    assert of_front(2, "knee", SAME) == [1, 3]
    assert of_front(1, "knee", SAME) == [1]
    assert of_front(2, "knee", SAME | {"w": 0.65}) == [3, 1], "other data decide, on the scale of the front"


def test_of_the_knees_one_that_breaks_a_constraint_on_other_data_comes_last() -> None:
    objective = Objective(metrics=("accuracy", "-cost"), constraints={"accuracy": ">= 0.65"}, choose="knee")
    trials = [trade(number, *point) for number, point in enumerate(TRADES[:4])]
    ranked = finalists(trials, Known(confirm=SAME | {"w": 0.64, "y": 0.66}), objective, count=4, split="confirm")
    assert [finalist.trial.number for finalist in ranked][-1] == 1


def test_a_metric_that_is_measured_again_loses_its_old_interval() -> None:
    metrics = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95, "cost": 2.0, "cost_low": 1.0, "cost_high": 3.0}
    objective = Objective(metrics=("accuracy", "-cost"))
    searched = Trial(0, Proposal(Architecture({"a": "v"})), Report(metrics), objective.score(metrics))
    (only,) = finalists([searched], Known(confirm={"v": 0.5}), objective, count=1, split="confirm")
    assert only.metrics == {"accuracy": 0.5, "cost": 2.0, "cost_low": 1.0, "cost_high": 3.0}
    assert only.score == Score(0.0, (0.5, -2.0), ((0.5, 0.5), (-3.0, -1.0)))
