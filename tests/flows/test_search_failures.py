"""A search where candidates fail: the summary counts them by kind, too many of them stop it, and a greater share goes on with it."""

import csv
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from small_images import one_thread
from stage_project import SEARCH, Answer, StageProject, make_stage_project

__all__ = ["one_thread"]
PARAMETERS = 6000
"""Between the sizes of the networks below: some pass it."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageProject:
    """A project with 100 prepared digits and a search of small and large networks; the current folder.

    The search evaluates in this process: starting others would take most of the time, and nothing here depends on them.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.stages.search._workers", lambda stack, settings, chosen, judge, folder: judge)
    made = make_stage_project(tmp_path)
    space = {"name": "chain", "widths": [[8, 16], [16, 32]], "blocks": 1, "kernels": [3, 5], "expansions": [1]}
    evaluator = {"name": "scratch", "steps": 2, "recipe": {"batch_size": 8}, "limits": {"parameters": PARAMETERS}, "device": "cpu"}
    search = {**SEARCH, "space": space, "evaluator": evaluator, "trials": 12, "finalists": 1, "max_failures": 0.2}
    prepare = {"task": "image_classification", "source": "digits", "splits": {"limit": 100}}
    made.choose({"name": "digits"}, prepare=prepare, search=search)
    stages = {name: {"cmd": f"nasflow stage {name}", "deps": [], "params": [name]} for name in ("prepare", "search")}
    YAML(typ="safe").dump({"stages": stages}, tmp_path / "dvc.yaml")
    assert made.stage("prepare").code == 0
    return made


def with_share(project: StageProject, share: float) -> Answer:
    """Search with another `max_failures`."""
    path, yaml = project.root / "params.yaml", YAML(typ="safe")
    document = yaml.load(path.read_text())
    document["search"]["max_failures"] = share
    yaml.dump(document, path)
    return project.stage("search")


def test_too_many_failures_stop_a_search_and_a_greater_share_goes_on_with_it(project: StageProject) -> None:
    stopped = project.stage("search")
    assert stopped.code == 1
    assert "of 10 trials failed, more than the share of 0.2 in search.max_failures: " in stopped.errors
    assert "The commonest is 'parameters'" in stopped.errors
    assert "To mend it, raise evaluator.limits.parameters" in stopped.errors
    assert not (project.root / "results" / "search").exists()
    (journal,) = project.root.glob(".nasflow/search-*/journal.jsonl")
    before = journal.read_bytes()

    again = project.stage("search")
    assert again.errors == stopped.errors
    assert journal.read_bytes() == before, "nothing is evaluated on the way to the same answer"

    finished = with_share(project, 1.0)
    assert finished.code == 0, finished.errors
    assert list(project.root.glob(".nasflow/search-*/journal.jsonl")) == [journal]
    assert journal.read_bytes().startswith(before)
    _check_counts(project)


def _check_counts(project: StageProject) -> None:
    """What every table says of the failures."""
    with (project.root / "results" / "search" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    failed = [row for row in rows if row["status"] == "failed"]
    assert 2 < len(failed) < len(rows) == 12
    assert {(row["kind"], row["error"].split(" pass the limit of ")[1]) for row in failed} == {("parameters", f"{PARAMETERS:,}")}
    assert {row["kind"] for row in rows if row["status"] == "done"} == {""}
    metrics, summary = project.read("search/metrics.json"), project.read("search/summary.json")
    assert (metrics["failed"], metrics["failures"]) == (len(failed), {"parameters": len(failed)})
    assert ["failures", f"{len(failed)} failed: {len(failed)} parameters"] in summary["lines"]
