"""Overrides on the command line are written to params.yaml, whole and only when all is well."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from flows import cli, settings, tracking
from nas import components

ROOT = Path(__file__).resolve().parents[2]


def test_overrides_are_written_and_keep_the_comments(tmp_path: Path) -> None:
    text = (ROOT / settings.FILE).read_text()
    (tmp_path / settings.FILE).write_text(text)
    chosen = settings.read(tmp_path, ["search.trials=50", "search.strategy={name: random}", "train.recipe.learning_rate=1e-2"])
    assert (chosen.search[0].trials, components.describe(chosen.search[0].strategy), chosen.train.recipe.learning_rate) == (
        50,
        {"name": "random"},
        0.01,
    )
    written = (tmp_path / settings.FILE).read_text()
    assert settings.read(tmp_path) == chosen
    assert "trials: 50 # architectures to evaluate" in written
    assert written.count("#") >= text.count("#") - 3  # the strategy's own lines are gone with the strategy


def test_an_override_changes_its_line_and_no_other(tmp_path: Path) -> None:
    text = (ROOT / settings.FILE).read_text() + "\n# " + "a long line that nobody folds " * 20 + "\n"
    text = text.replace("  seeds: [0, 1, 2] #", "  seeds:\n    - 0\n    - 1\n  #")
    (tmp_path / settings.FILE).write_text(text)
    settings.read(tmp_path, ["search.trials=50"])
    assert (tmp_path / settings.FILE).read_text() == text.replace("trials: 32 #", "trials: 50 #")


def test_an_override_is_not_written_while_somebody_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / settings.FILE).read_text()
    (tmp_path / settings.FILE).write_text(text)
    monkeypatch.chdir(tmp_path)
    with tracking.lock(tmp_path):
        for command in (["check"], ["stage", "search"]):
            result = CliRunner().invoke(cli.app, [*command, "--set", "train.epochs=33"])
            assert (result.exit_code, (tmp_path / settings.FILE).read_text()) == (2, text)
            assert "works on this project" in result.output
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    assert CliRunner().invoke(cli.app, ["check", "--set", "train.epochs=33"]).exit_code == 0
    assert settings.read(tmp_path).train.epochs == 33


def test_an_override_that_names_a_file_that_is_not_there_is_not_written(tmp_path: Path) -> None:
    text = (ROOT / settings.FILE).read_text()
    (tmp_path / settings.FILE).write_text(text)
    with contextlib.chdir(tmp_path):
        answer = CliRunner().invoke(cli.app, ["check", "--set", "prepare.source={name: npz, path: nowhere.npz}"])
    assert (answer.exit_code, (tmp_path / settings.FILE).read_text()) == (1, text)
    assert "prepare.source reads nowhere.npz, which does not exist: put the data there, or correct the path" in answer.output


@pytest.mark.parametrize(
    "override",
    [
        "search.trails=3",
        "serach.trials=3",
        "trials=3",
        "search.trials",
        "search.trials=",
        "=3",
        "search.trials.x=1",
        "search.trials=[",
        "search..x=1",
    ],
)
def test_a_wrong_override_changes_nothing(tmp_path: Path, override: str) -> None:
    text = (ROOT / settings.FILE).read_text()
    (tmp_path / settings.FILE).write_text(text)
    with pytest.raises(settings.SettingsError):
        settings.read(tmp_path, [override])
    assert (tmp_path / settings.FILE).read_text() == text


def test_an_entry_of_a_list_is_overridden_by_its_number(tmp_path: Path) -> None:
    document: Any = YAML(typ="safe").load((ROOT / settings.FILE).read_text())
    document["search"] = [document["search"], {"trials": 5}]
    with (tmp_path / settings.FILE).open("w") as file:
        YAML().dump(document, file)
    assert [search.trials for search in settings.read(tmp_path, ["search.1.trials=7"]).search] == [32, 7]
    for override, words in (("search.trials=7", r"search is a list: write search\.0\.trials"), ("search.2.trials=7", "no section '2'")):
        with pytest.raises(settings.SettingsError, match=words):
            settings.read(tmp_path, [override])


def test_a_list_in_one_line_stays_in_one_line(tmp_path: Path) -> None:
    text = (ROOT / settings.FILE).read_text()
    (tmp_path / settings.FILE).write_text(text)
    settings.read(tmp_path, ["train.seeds=[7, 8]", "search.strategy={name: evolution, population: 3, tournament: 2}"])
    lines = [" ".join(line.split()) for line in (tmp_path / settings.FILE).read_text().splitlines()]
    assert "seeds: [7, 8] # one training each; their spread is reported" in lines
    at = lines.index("strategy: # how the next architecture is proposed; docs/strategies.md lists them all")
    assert lines[at + 1 : at + 3] == ["name: evolution", "population: 3"], "what was a block stays one"


def test_a_mistake_is_told_of_whoever_made_it(tmp_path: Path) -> None:
    text = (ROOT / settings.FILE).read_text()
    (tmp_path / settings.FILE).write_text(text.replace("epochs: 40", "epochs: 0"))
    other = tmp_path / "other.yaml"
    other.write_text("export: {int8: maybe}\n")
    with pytest.raises(settings.SettingsError) as caught:
        settings.read(tmp_path, ["search.trials=0", "target.threads=2"], example=other)
    lines = sorted(str(caught.value).splitlines())
    assert [line.split(" is ")[0] for line in lines] == [
        "--set search.trials=0: search.trials",
        "other.yaml: export.int8",
        "params.yaml: train.epochs",
    ]
