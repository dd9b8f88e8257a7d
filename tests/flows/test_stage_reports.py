"""What stages tell people: the verdict on retraining, the summary, and progress without a terminal."""

import json
from pathlib import Path

import pytest

from flows import console, results
from flows.stages.train import compare


@pytest.mark.parametrize(
    ("searched", "retrained", "verdict"),
    [
        (0.98, [0.982, 0.978, 0.98], "within noise"),
        (0.98, [0.80, 0.81, 0.79], "lower than the search said"),
        (0.60, [0.90, 0.91, 0.89], "higher than the search said"),
        (0.98, [0.97], "within noise"),
    ],
)
def test_the_retrained_score_is_compared_by_the_noise(searched: float, retrained: list[float], verdict: str) -> None:
    answer = compare(searched, 180, retrained, 360)
    assert answer["verdict"] == verdict
    assert answer["within_noise"] == (abs(answer["difference"]) <= answer["noise"])


def test_the_noise_is_two_standard_errors_of_both_sides_and_the_seeds() -> None:
    answer = compare(0.9, 100, [0.8, 0.9], 400)
    expected = 2 * (0.9 * 0.1 / 100 + 0.85 * 0.15 / 400 + 0.005 / 2) ** 0.5
    assert answer["noise"] == pytest.approx(expected)
    assert answer["difference"] == pytest.approx(-0.05)


def test_more_examples_make_a_difference_more_than_noise() -> None:
    assert compare(0.90, 100, [0.88, 0.88], 100)["within_noise"]
    assert not compare(0.90, 100_000, [0.88, 0.88], 100_000)["within_noise"]


def test_a_metric_that_is_no_share_has_only_the_spread_of_the_seeds() -> None:
    assert compare(2.0, 100, [1.0, 1.2], 100)["noise"] == pytest.approx(2 * (0.02 / 2) ** 0.5)


def test_the_winner_is_told_without_pointless_answers() -> None:
    architecture = {"stage_0.width": "16", "stage_0.block_1": "skip", "stage_0.block_1.kernel": "3"}
    canonical = json.dumps({"stage_0.width": "16", "stage_0.block_1": "skip"})
    words = results.words({"architecture": architecture, "canonical": canonical, "space": {"name": "chain"}})
    assert words == "space chain\nstage_0: width 16, block_1 skip"
    cell = results.words({"architecture": {"edge_0_1": "none"}, "canonical": "x>x", "space": {"name": "cell"}})
    assert cell == "space cell\nedge_0_1 none"


def test_the_summary_asks_for_a_run_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run `nasflow run` first"):
        results.show(tmp_path)


def test_progress_without_a_terminal_is_plain_lines_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress(tmp_path, "search", 3) as report:
        for done in (1, 2, 3):
            report(done, f"best 0.{done}", [{"trial": done, "score": 0.5}])
    assert capsys.readouterr().out == "search: 3/3 | best 0.3\n"
    written = json.loads((tmp_path / ".nasflow" / "progress" / "search.json").read_text())
    assert written == {"done": 3, "total": 3, "text": "best 0.3", "table": [{"trial": 3, "score": 0.5}]}


def test_a_table_without_a_terminal_is_plain_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("nasflow", [("a", "one"), ("long", "two\nlines")])
    assert capsys.readouterr().out == "nasflow\n  a     one\n  long  two\n        lines\n"
