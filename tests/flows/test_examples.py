"""Every file in examples/ is a named method that `nasflow use` takes over; here each searches real images at small size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from stage_project import StageProject, make_stage_project
from typer.testing import CliRunner

from flows import settings
from flows.cli import app

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
METHODS = {"asha", "bananas", "darts", "enas", "gdas", "rea", "reinforce", "spos"}
SMALL = {"steps": 6, "schedule_steps": 12, "last_looks": 2, "recalibration": 2, "rungs": [2, 4, 6], "population": 3, "tournament": 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageProject]:
    """A project with 200 prepared digits; the current folder."""
    root = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        project = make_stage_project(root)
        project.choose({"name": "digits"}, prepare={"task": "image_classification", "source": "digits", "splits": {"limit": 200}})
        stages = {name: {"cmd": f"nasflow stage {name}", "deps": [], "params": [name]} for name in ("prepare", "search")}
        YAML(typ="safe").dump({"stages": stages}, root / "dvc.yaml")
        answer = project.stage("prepare")
        assert answer.code == 0, answer.errors
        yield project


def shrink(document: Any) -> None:
    """Make a search small enough for a test, whatever the method."""
    entries = document["search"] if isinstance(document["search"], list) else [document["search"]]
    for entry in entries:
        entry |= {"trials": 8, "workers": 1, "finalists": 1}
        for part in ("strategy", "evaluator"):
            if isinstance(entry.get(part), dict):
                keys = {"initial": 3, **SMALL}
                entry[part] |= {name: keys[name] for name in keys if entry[part].get(name)}  # steps 0 stays: it freezes weights
        if entry.get("evaluator", {}).get("name") == "shared":
            entry["evaluator"] |= {name: SMALL[name] for name in ("last_looks", "recalibration")}


def test_every_method_has_its_file() -> None:
    assert {path.stem for path in EXAMPLES} == METHODS


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_as_it_is(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / settings.FILE).write_text((ROOT / settings.FILE).read_text())
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["use", str(path)])
    assert result.exit_code == 0, result.output
    assert f"`nasflow use examples/{path.name}`" in path.read_text()
    taken = settings.read(tmp_path)
    assert taken.train == settings.parse(YAML(typ="safe").load((ROOT / settings.FILE).read_text())).train
    assert YAML(typ="safe").load(path.read_text())["search"] == YAML(typ="safe").load((tmp_path / settings.FILE).read_text())["search"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_finds_a_winner(path: Path, prepared: StageProject, tmp_path: Path) -> None:
    document = YAML(typ="safe").load(path.read_text())
    shrink(document)
    small = tmp_path / "small.yaml"
    YAML(typ="safe").dump(document, small)
    assert CliRunner().invoke(app, ["use", str(small)]).exit_code == 0
    answer = prepared.stage("search")
    assert answer.code == 0, answer.errors
    best, telemetry = prepared.read("search/best.json"), prepared.read("search/telemetry.json")
    assert set(best["architecture"]) == {f"edge_{source}_{target}" for target in range(4) for source in range(target)}
    assert 0 <= best["confirm"] <= 1
    assert 0 <= telemetry["best_so_far"][-1][1] <= 1
    if path.stem in ("darts", "gdas"):
        assert {"trial", "entropy", "skip_share"} <= set(telemetry["curves"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("trials: 3", "wrong.yaml: trials is no section of settings: there are target, engine, prepare"),
        ("serach: {trials: 3}", "wrong.yaml: serach is no section of settings: did you mean 'search'?"),
        ("- 1", "wrong.yaml holds no settings: write sections such as `search:`"),
        ("", "wrong.yaml holds no settings"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_file_without_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, words: str) -> None:
    (tmp_path / settings.FILE).write_text((ROOT / settings.FILE).read_text())
    (tmp_path / "wrong.yaml").write_text(content)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["use", "wrong.yaml"])
    assert result.exit_code == 1
    assert words in result.output
    assert (tmp_path / settings.FILE).read_text() == (ROOT / settings.FILE).read_text()
