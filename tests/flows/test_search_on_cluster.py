"""A search that began on one machine goes on with a cluster: the same run, the same trials, no stage that runs again for it."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from ruamel.yaml import YAML
from small_images import one_thread
from stage_project import SEARCH, StageProject, make_stage_project

from flows import settings
from nas import journal
from nas.testing.searches import first_difference

__all__ = ["one_thread"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def address() -> Iterator[str]:
    """A scheduler with one node, which is this process."""
    with LocalCluster(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageProject:
    """A project with 100 prepared digits; the current folder."""
    monkeypatch.chdir(tmp_path)
    made = make_stage_project(tmp_path)
    choose(made, 1)
    stages = {name: {"cmd": f"nasflow stage {name}", "deps": [], "params": [name]} for name in ("prepare", "search")}
    YAML(typ="safe").dump({"stages": stages}, tmp_path / "dvc.yaml")
    assert made.stage("prepare").code == 0
    return made


def choose(project: StageProject, trials: int, **engine: Any) -> None:
    evaluator = {"name": "scratch", "steps": 2, "recipe": {"batch_size": 8}, "device": "cpu"}
    search = {**SEARCH, "evaluator": evaluator, "strategy": {"name": "evolution", "population": 2, "tournament": 2}}
    prepare = {"task": "image_classification", "source": "digits", "splits": {"limit": 100}}
    sections = {"prepare": prepare, "search": {**search, "trials": trials, "finalists": 1}, **({"engine": engine} if engine else {})}
    YAML(typ="safe").dump(sections, project.root / "params.yaml")


def test_a_search_goes_on_with_a_cluster_and_then_with_another(project: StageProject, address: str) -> None:
    one = searched(project, 2)
    before = (one / "journal.jsonl").read_bytes()
    assert searched(project, 4, name="dask", address=address) == one, "the same run, whatever its engine"
    assert searched(project, 5, name="ray") == one
    assert (one / "journal.jsonl").read_bytes().startswith(before)
    mixed = journal.read(one)
    weights = sorted(path.name for path in (one / "weights").glob("*"))
    shutil.rmtree(one)
    assert searched(project, 5) == one
    assert first_difference(journal.read(one), mixed) is None
    assert sorted(path.name for path in (one / "weights").glob("*")) == weights
    assert json.loads((one / "inputs.json").read_text())["device"] == "cpu"


def searched(project: StageProject, trials: int, **engine: Any) -> Path:
    """The folder of a search."""
    choose(project, trials, **engine)
    answer = project.stage("search")
    assert answer.code == 0, answer.errors
    assert re.findall(r"(\w+), .*trials at once", answer.output) == ([engine["name"]] if engine else [])
    (folder,) = project.root.glob(".nasflow/search-*")
    return folder


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["search.devices=[cpu, cpu]", "engine.name=dask"],
            "search.devices is ['cpu', 'cpu'], which are of this machine, but engine is dask",
        ),
        (["search.workers=1", "search.evaluator={name: shared}", "engine.name=dask"], "engine is dask, but every search shares weights"),
        (
            ["search.evaluator={name: table, path: t.csv}", "engine.name=dask", "engine.address=tcp://a:1", "engine.gpus=1"],
            "engine gives every trial a GPU, but the evaluator 'table' uses none",
        ),
        (["engine.name=dask", "engine.gpus=0.5"], "gpus needs an address"),
        (
            ["engine.name=dask", "engine.address=here"],
            'engine.address is "here": write what belongs there (Where the scheduler listens',
        ),
        (
            ["search.devices=[cpu, cpu]", "engine.name=ray"],
            "search.devices is ['cpu', 'cpu'], which are of this machine, but engine is ray",
        ),
        (
            ["engine.name=ray", "engine.address=ray://a:1"],
            'engine.address is "ray://a:1": write what belongs there (Where the head listens',
        ),
        (["engine.name=das"], "'das' is not one of nas/engines: did you mean 'dask'?"),
    ],
)
def test_what_does_not_go_with_a_cluster_is_told_before_anything_runs(tmp_path: Path, overrides: list[str], problem: str) -> None:
    shutil.copy(ROOT / settings.FILE, tmp_path)
    with pytest.raises(settings.SettingsError, match=re.escape(problem)):
        settings.read(tmp_path, overrides)


def test_no_stage_depends_on_the_engine() -> None:
    """Or a search would run again, and its results with it, because it is to go on elsewhere."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    named = {str(param).split(".")[0] for stage in stages.values() for param in stage.get("params", ())}
    assert "engine" not in named
    assert named == {"target", "prepare", "search", "train", "export"}
