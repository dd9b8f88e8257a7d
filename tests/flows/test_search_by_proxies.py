"""A search that trains nothing leaves a winner all the same, which is trained and shipped; nothing is said of a score that nobody knows."""

from pathlib import Path

from recorded_project import SEARCH, inside, make_recorded_project, run_stages
from small_images import one_thread

__all__ = ["one_thread"]


def test_the_winner_by_proxies_is_trained_and_ships(tmp_path: Path) -> None:
    proxies = {"name": "proxy", "measures": ["parameters", "naswot"], "batch_size": 8}
    search = {**SEARCH, "strategy": "random", "trials": 3, "evaluator": proxies, "objective": {"metrics": ["naswot"]}}
    with inside(tmp_path):
        project = make_recorded_project(tmp_path, search=search)
        run_stages(["prepare", "search", "train", "export", "report"])
    best = project.read("search/best.json")
    assert (best["score"], best["confirm"], best["metric"]) == (None, None, "accuracy")
    assert "naswot" in best["metrics"]["select"]
    assert project.read("train/details.json")["comparison"] is None
    lines = dict(project.read("search/summary.json")["lines"])
    assert lines["winner"].endswith("accuracy is not known before the training")
    assert "against search" not in dict(project.read("train/summary.json")["lines"])
    assert project.read("export/manifest.json")["test"]["accuracy"] >= 0
    report = (tmp_path / "results" / "report.html").read_text()
    assert "Best of 1 comparable trial: naswot" in report
    assert "this search is random search" in report
    assert "reads the on and off of nn.ReLU modules" in report  # why the others failed
    files = {path.name for path in (tmp_path / "results" / "report").iterdir()}
    assert files == {"choices.csv", "lineage.json", "progress.csv", "summary.json", "tables.md"}
    [row, *_] = (tmp_path / "results" / "report" / "progress.csv").read_text().splitlines()[1:]
    assert row.startswith(f"{project.read('search/best.json')['trial']},")
