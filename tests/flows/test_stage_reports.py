"""What stages tell people: the verdict on retraining, the summary, and progress without a terminal."""

import json
from pathlib import Path

import pytest

from flows import console, records, results


def test_the_winner_is_told_part_by_part() -> None:
    decisions = {"stage_0.width": "16", "stage_0.block_1": "skip", "edge_0_1": "none"}
    words = results.words({"decisions": decisions, "space": {"name": "chain"}})
    assert words == "space chain\nstage_0: width 16, block_1 skip\nedge_0_1 none"


def test_the_summary_asks_for_a_run_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"results/search/best.json is missing: .* or run `nasflow run`"):
        results.show(tmp_path)


def test_paths_are_shown_from_the_current_folder_on_and_whole_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert records.shown(tmp_path / "results" / "report.html") == records.shown(Path("results/report.html")) == "results/report.html"
    assert records.shown(tmp_path.parent / "other") == str(tmp_path.parent / "other")


def test_progress_without_a_terminal_is_plain_lines_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress(tmp_path, "search", 3) as report:
        for done in (1, 2, 3):
            report(done, f"best 0.{done}", [{"trial": done, "score": 0.5}])
    assert capsys.readouterr().out == "search: 3/3 | best 0.3\n"
    written = json.loads((tmp_path / ".nasflow" / "progress" / "search.json").read_text())
    pace = written.pop("pace")
    assert written == {"done": 3, "total": 3, "text": "best 0.3", "table": [{"trial": 3, "score": 0.5}]}
    assert [done for _, done in pace][-1] == 3


def test_a_table_without_a_terminal_is_plain_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("nasflow", [("a", "one"), ("long", "two\nlines")])
    assert capsys.readouterr().out == "nasflow\n  a     one\n  long  two\n        lines\n"
