"""Telemetry of a search: figures from a hand-made history."""

import time
from pathlib import Path
from typing import Any

import pytest

from flows import search_telemetry
from flows.searches import Search
from nas.architecture import Architecture, Choice, Choices
from nas.load import load
from nas.trial import Proposal, Report, Score, Trial

CHOICES = Choices([Choice("a", ("x", "y")), Choice("b", ("x", "y"))])


def trial(number: int, options: str, value: float | None, **report: Any) -> Trial:
    proposal = Proposal(Architecture(dict(zip("ab", options, strict=True))))
    return Trial(number, proposal, Report(**report), None if value is None else Score(0.0, (value,)))


def search() -> Search:
    parts = {"space": load("spaces", "chain")(), "strategy": load("strategies", "random")(), "evaluator": load("evaluators", "scratch")()}
    return Search.model_validate(parts)


def task() -> Any:
    return load("tasks", "image_classification")()


def test_figures_of_a_history() -> None:
    chosen = search()
    trials = [trial(0, "xx", 0.5), trial(1, "yy", None, error="no"), trial(2, "xy", 0.7), trial(3, "xx", 0.5, reused=0)]
    found = search_telemetry.of(trials, chosen.strategy.bind(CHOICES), chosen, task())
    distances = [1, 0.5, 0, 0.5, 1, 0.5]
    assert found == {
        "trials": 4,
        "different": 3,
        "distance": pytest.approx(sum(distances) / 6, abs=1e-6),
        "saved": 1,
        "best_so_far": [(0, 0.5), (2, 0.7)],
        "curves": {},
        "choices": {"a": ["x", "y"], "b": ["x", "y"]},
        "random": [0, 1, 2, 3],
        "shares": ["accuracy", "precision", "recall", "f1"],
    }


@pytest.mark.parametrize(
    ("strategy", "evaluator", "expected"),
    [
        ({"name": "evolution", "population": 2, "tournament": 1}, {"name": "scratch"}, [0, 1]),
        ({"name": "predictor", "initial": 3}, {"name": "scratch"}, [0, 1, 2]),
        ("reinforce", {"name": "scratch"}, []),
        ("random", {"name": "shared", "steps": 1, "last_looks": 2}, []),  # those that are looked at in the end were chosen
    ],
)
def test_which_trials_were_drawn_at_random(strategy: Any, evaluator: Any, expected: list[int]) -> None:
    chosen = Search.model_validate({"space": "cell", "strategy": strategy, "evaluator": evaluator})
    trials = [trial(number, "xy", 0.5) for number in range(4)]
    assert search_telemetry.of(trials, chosen.strategy.bind(CHOICES), chosen, task())["random"] == expected


def test_what_evaluations_took_is_summed_over_all_processes() -> None:
    trials = [trial(0, "xx", 0.5, seconds=2.0), trial(1, "xy", None, seconds=0.5, error="no"), trial(2, "xx", 0.5, reused=0)]
    assert search_telemetry.spent(trials) == {"evaluations": {"trials": 2, "seconds": 2.5, "longest": 2.0}}


def test_the_clock_counts_this_process_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def trials() -> Any:
        yield trial(0, "xx", 0.5, seconds=100.0)  # of an earlier process: it comes at once
        time.sleep(0.05)
        yield trial(1, "xx", 0.5, seconds=0.04)

    clock = search_telemetry.Clock()
    assert len(list(clock.timed(trials()))) == 2
    clock.report(tmp_path / "timing.json", 1)
    assert '"seconds_in_evaluations": 0.04,' in (tmp_path / "timing.json").read_text()
    assert "not spent in evaluations" in capsys.readouterr().out


def test_the_clock_says_nothing_of_a_search_that_was_done(tmp_path: Path) -> None:
    clock = search_telemetry.Clock()
    list(clock.timed(iter([trial(0, "xx", 0.5, seconds=9.0)])))
    clock.report(tmp_path / "timing.json", 1)
    assert not (tmp_path / "timing.json").exists()
