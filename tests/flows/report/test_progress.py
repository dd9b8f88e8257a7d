"""What the report says of random search, and of no search at all."""

import re
from pathlib import Path

import numpy as np
import pytest
from reported_results import trial_rows, write_results

from flows.report import page, progress
from flows.report.facts import Facts, read


def written(facts: Facts) -> str:
    return page.page(facts, page.sections(facts))


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return read(write_results(tmp_path))


def test_random_search_is_compared_as_far_as_its_trials_tell(facts: Facts) -> None:
    curve = progress.curve(facts)
    assert [row[0] for row in curve] == [0, 1, 2, 4], "where so many could be compared: trial 3 failed"
    assert [row[0] for row in progress.best_so_far(facts)] == [row.number for row in facts.scored]
    values = [facts.trials[number].metrics["accuracy"] for number in (0, 1, 2, 4)]
    assert curve[0][1] == pytest.approx(sum(values) / 4)
    assert curve[-1][1] == max(values)
    assert all(low <= middle <= high for _, middle, low, high in curve)
    assert "too few random trials to say" in progress.sentence(facts)


def test_an_architecture_drawn_without_any_search_is_told_too(facts: Facts) -> None:
    values = [facts.trials[number].metrics["accuracy"] for number in (0, 1, 2, 4)]
    best = max(row.metrics["accuracy"] for row in facts.scored)
    said = list(progress.sentences(facts))[-1]
    mean, deviation, better = (float(text) for text in re.findall(r"\d\.\d+", said))
    assert (mean, better) == (pytest.approx(sum(values) / 4, abs=1e-4), pytest.approx(best - sum(values) / 4, abs=1e-4))
    assert deviation == pytest.approx(float(np.std(values, ddof=1)), rel=0.01)
    assert said.endswith(f"better than {sum(value < best for value in values)} of them.")


@pytest.mark.parametrize(
    ("random", "words"),
    [
        ([], "no trial was drawn at random"),
        ([0], "too few random trials to say"),
        (list(range(14)), "this search is random search"),
    ],
)
def test_what_random_trials_say(tmp_path: Path, random: list[int], words: str) -> None:
    found = read(write_results(tmp_path, search_telemetry={"random": random}))
    assert progress.sentence(found).startswith(words)
    assert bool(progress.curve(found)) == (len(random) >= progress.LEAST_RANDOM)
    written(found)


def test_a_search_that_finds_what_most_random_trials_have_found_says_so(tmp_path: Path) -> None:
    rows = trial_rows()
    for row in rows:
        row |= {"accuracy": 0.9, "score": 0.9} if row["status"] == "done" else {}
    found = read(write_results(tmp_path, trials=rows, search_telemetry={"random": [0, 1, 2, 4, 5]}))
    assert progress.sentence(found).startswith("no more than random search would have found: the best of 12 trials is one of the 5 random")


def test_a_search_that_beats_many_random_trials_says_so(tmp_path: Path) -> None:
    rows = trial_rows(80)
    for row in rows[13:]:
        row |= {"status": "done", "accuracy": 0.8, "score": 0.8, "reused": ""}
    rows[79] |= {"accuracy": 0.99, "score": 0.99}
    found = read(write_results(tmp_path, trials=rows, search_telemetry={"random": list(range(14, 79))}))
    assert "the random ones do not tell how probable it is" in progress.sentence(found)  # 65 random trials do not bound what 78 would find
    assert "better beyond noise" in progress.sentence(found)
