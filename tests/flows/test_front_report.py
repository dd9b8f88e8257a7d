"""What a search leaves to choose from: finalists first, then the rest of the front, and every scored trial in a table."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from small_images import task_of

from flows import front_report, search_report
from flows.candidates import FILE
from flows.searches import Search
from nas.architecture import Architecture
from nas.evaluators.base import Evaluator
from nas.evaluators.scratch import Scratch
from nas.finalists import Finalist, assessed
from nas.objective import Objective
from nas.trial import Proposal, Report, Trial

BOTH = Objective(metrics=("accuracy", "-latency_ms"))


def trial_of(number: int, objective: Objective = BOTH, error: str | None = None, **metrics: float) -> Trial:
    """A finished trial of the chain."""
    architecture = Architecture({"number": str(number)})
    score = None if error else objective.score(metrics)
    return Trial(number, Proposal(architecture), Report(metrics, error=error), score)


def timed(number: int, accuracy: float, latency: float, spread: float = 0.0) -> Trial:
    times = {"latency_ms": latency, "latency_ms_low": latency - spread, "latency_ms_high": latency + spread}
    return trial_of(number, accuracy=accuracy, **times)


def finalist(trial: Trial, objective: Objective = BOTH) -> Finalist:
    assert trial.report is not None
    return Finalist(trial, trial.report.metrics, objective.score(trial.report.metrics))


def rows_of(folder: Path) -> list[list[str]]:
    with (folder / front_report.FRONT).open() as file:
        return list(csv.reader(file))


def test_the_rest_of_the_front_is_offered_the_best_first() -> None:
    trials = [timed(0, 0.9, 3.0), timed(1, 0.8, 2.0), timed(2, 0.7, 1.0), timed(3, 0.6, 2.5), trial_of(4, error="failed")]
    assert [trial.number for trial in front_report.others(trials, [finalist(trials[0])])] == [1, 2]
    assert front_report.others(trials, [finalist(trial) for trial in trials[:3]]) == []


def test_a_large_front_is_cut() -> None:
    trials = [timed(number, 0.01 * number, number + 1.0) for number in range(40)]
    found = front_report.others(trials, [finalist(trials[39])])
    assert [trial.number for trial in found] == list(range(38, 38 - front_report.LARGEST_FRONT, -1))


def test_the_table_holds_every_scored_trial_with_its_interval(tmp_path: Path) -> None:
    trials = [timed(0, 0.9, 3.0, 0.25), timed(1, 0.8, 4.0, 0.25), trial_of(2, error="failed", latency_ms=1.0)]
    front_report.write(tmp_path, trials, [{"trial": 0}], BOTH)
    assert rows_of(tmp_path) == [
        ["trial", "latency_ms", "accuracy", "low", "high", "front"],
        ["0", "3.0", "0.9", "2.75", "3.25", "1"],
        ["1", "4.0", "0.8", "3.75", "4.25", "0"],
    ]
    assert json.loads((tmp_path / FILE).read_text()) == [{"trial": 0}]
    assert (tmp_path / front_report.PLOT).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("metrics", "reported", "axes"),
    [
        (("accuracy", "-flops"), {"accuracy": 1.0, "flops": 1.0, "latency_ms": 1.0}, ("accuracy", "flops")),
        (("accuracy",), {"accuracy": 1.0, "latency_ms": 1.0, "parameters": 1.0}, ("accuracy", "latency_ms")),
        (("accuracy",), {"accuracy": 1.0, "parameters": 1.0}, ("accuracy", "parameters")),
        (("accuracy",), {"accuracy": 1.0}, ("accuracy", "accuracy")),
        (("-latency_ms", "accuracy"), {"accuracy": 1.0, "latency_ms": 1.0}, ("latency_ms", "accuracy")),
    ],
)
def test_what_is_shown_against_what(metrics: tuple[str, ...], reported: dict[str, float], axes: tuple[str, str]) -> None:
    objective = Objective(metrics=metrics)
    assert front_report.axes([trial_of(0, objective, **reported)], objective) == axes


def test_a_search_without_scores_has_an_empty_table(tmp_path: Path) -> None:
    front_report.write(tmp_path, [trial_of(0, error="failed")], [], BOTH)
    assert len(rows_of(tmp_path)) == 1


class Known(Evaluator):
    """Knows what every architecture scores on confirm."""

    def evaluate(self, trial: Trial) -> Report:
        raise NotImplementedError

    def reassess(self, trial: Trial, split: str) -> dict[str, float]:
        return {"accuracy": 0.75}


def test_a_candidate_says_what_it_scores_whether_it_fits_and_which_graph_was_timed() -> None:
    space = {"name": "chain", "widths": [[4]], "blocks": 1, "kernels": [3], "expansions": [1]}
    search = Search.model_validate({"space": space, "strategy": "random", "evaluator": "scratch"})
    task = task_of()
    architecture = Architecture({choice.name: choice.options[0] for choice in search.space.choices(task)})
    objective = Objective(constraints={"accuracy": ">= 0.8"})
    trial = Trial(3, Proposal(architecture), Report({"accuracy": 0.9}), objective.score({"accuracy": 0.9}))
    found: dict[str, Any] = front_report.described(
        assessed(trial, Known(), objective, "confirm"), search, task, "accuracy", lambda made: "graph" if made == architecture else None
    )
    assert (found["trial"], found["score"], found["confirm"], found["feasible"], found["graph"]) == (3, 0.9, 0.75, False, "graph")
    assert found["metrics"] == {"select": {"accuracy": 0.9}, "confirm": {"accuracy": 0.75}}
    assert found["canonical"] == search.space.canonical(architecture, task)


def test_what_dvc_draws_has_the_same_columns_whatever_the_objective(tmp_path: Path) -> None:
    trials = [timed(0, 0.9, 3.0, 0.25), timed(1, 0.8, 4.0, 0.25)]
    front_report.write(tmp_path, trials, [], BOTH)
    with (tmp_path / front_report.DRAWN).open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["trial", "cost", "score", "low", "high", "kind", "cost_is", "score_is"]
    assert rows[1] == ["0", "3.0", "0.9", "2.75", "3.25", "front", "latency_ms", "accuracy"]
    assert rows[2][5] == "dominated"


def test_the_leaderboard_shows_all_that_is_searched_for_and_what_networks_cost() -> None:
    objective = Objective(metrics=("accuracy", "-bytes"))
    board = search_report.Board(objective, Scratch())
    line = board.add(trial_of(0, objective, accuracy=0.98765, bytes=1234.0, parameters=86490.0, latency_ms=0.061234))
    board.add(trial_of(1, objective, accuracy=0.5, bytes=1000.0))
    assert line == "best accuracy 0.9877 (trial 0)"
    first, second = board.rows()
    known = {"accuracy": 0.9877, "bytes": 1234, "parameters": 86490, "latency_ms": 0.06123}
    assert first == {"trial": 0, **known, "architecture": "number 0"}
    assert second == {"trial": 1, "accuracy": 0.5, "bytes": 1000, "architecture": "number 1"}, "what is not known is not shown as zero"
