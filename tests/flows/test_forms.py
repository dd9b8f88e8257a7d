"""The form of a deployment: what Prefect's server and pages are given, and what becomes of what is filled in."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from flows import forms, settings

ROOT = Path(__file__).parents[2]
FORM = forms.form(json.loads((ROOT / "params.schema.json").read_text()))


def refused(changes: dict[str, Any]) -> list[str]:
    """Where the form refuses changes."""
    return [error.json_path for error in Draft202012Validator(FORM).iter_errors(changes)]


def test_the_form_stands_by_itself() -> None:
    Draft202012Validator.check_schema(FORM)
    assert "$ref" not in json.dumps(FORM)  # Prefect keeps definitions of its own, and would not find ours
    assert list(FORM["properties"]) == list(settings.Settings.model_fields)
    for section in FORM["properties"].values():
        for field in (section, *section["anyOf"][0]["properties"].values()):
            # A page fills in every default, and false where there is none: what nobody has touched would overwrite params.yaml.
            assert field["default"] is None
            assert field["anyOf"][-1] == {"type": "null"}
            assert not any("default" in kind for kind in field["anyOf"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"search": None, "train": {"epochs": 3, "seeds": None}},
        {"search": {"trials": 64, "strategy": "random"}},
        {"search": {"strategy": {"name": "halving", "strategy": {"name": "evolution", "population": 3}}}},
        {"prepare": {"source": {"name": "npz", "path": "data/x.npz"}}},
    ],
)
def test_what_params_may_say_the_form_takes(changes: dict[str, Any]) -> None:
    assert refused(changes) == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"serach": {}}, "$"),
        ({"search": {"trials": 0}}, "$.search"),
        ({"search": {"trails": 64}}, "$.search"),
        ({"search": {"strategy": "annealing"}}, "$.search"),
        ({"train": {"seeds": ["one"]}}, "$.train"),
    ],
)
def test_a_mistake_is_refused_before_a_run_exists(changes: dict[str, Any], place: str) -> None:
    assert refused(changes) == [place]


def test_a_whole_params_file_can_be_given() -> None:
    assert refused(YAML(typ="safe").load((ROOT / "params.yaml").read_text())) == []


def test_changes_become_overrides_that_settings_take(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    changes = {"search": {"trials": 5, "strategy": {"name": "random"}}, "target": None, "train": {"seeds": [4, 5], "epochs": None}}
    words = forms.overrides(changes)
    assert words == ["search.trials=5", 'search.strategy={"name": "random"}', "train.seeds=[4, 5]"]
    chosen = settings.read(tmp_path, words)
    assert (chosen.search[0].trials, chosen.train.seeds, chosen.train.epochs) == (5, [4, 5], 40)
    assert chosen.search[0].workers == 2  # as the file had it
