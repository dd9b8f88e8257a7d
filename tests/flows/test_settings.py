"""params.yaml: what is accepted, what is refused and in which words, and the schema for editors."""

import contextlib
import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner

from flows import cli, lineage, schema, settings
from flows.run_folder import fingerprint
from nas import components, load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def document() -> Any:
    return YAML(typ="safe").load((ROOT / settings.FILE).read_text())


def set_at(document: Any, path: str, value: Any) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        document = document[parent]
    document[key] = value


def test_the_file_in_the_repository_is_valid_and_names_its_schema() -> None:
    settings.read(ROOT)
    assert (ROOT / settings.FILE).read_text().startswith(f"# yaml-language-server: $schema={schema.FILE}\n")


def test_every_key_of_the_file_has_a_comment_on_its_line() -> None:
    keys = [line for line in (ROOT / settings.FILE).read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert len(keys) > 50
    assert [line for line in keys if not re.fullmatch(r" *[a-z_0-9]+:( .+)? # \S.*", line)] == []


def test_the_schema_in_the_repository_is_current(tmp_path: Path) -> None:
    assert schema.write_schema(tmp_path).read_text() == (ROOT / schema.FILE).read_text(), "run `nasflow schema`"


def test_the_schema_accepts_the_file_and_refuses_what_the_settings_refuse(document: Any) -> None:
    rules = json.loads((ROOT / schema.FILE).read_text())
    jsonschema.Draft202012Validator.check_schema(rules)
    jsonschema.validate(document, rules)
    for path, value in [("search.trials", "many"), ("search.typo", 1), ("search.space.name", "nothing"), ("train.recipe.ema", 2)]:
        broken = copy.deepcopy(document)
        set_at(broken, path, value)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, rules)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("serach", {}, ["serach is not a setting", "did you mean 'search'?"]),
        ("search.trails", 3, ["search.trails is not a setting", "did you mean 'trials'?"]),
        ("search.trials", "many", ["search.trials", '"many"', "valid integer"]),
        ("search.trials", 0, ["search.trials is 0", "greater than or equal to 1"]),
        ("search.strategy.initail", 3, ["search.strategy.initail is not a setting", "did you mean 'initial'?"]),
        ("search.strategy", {"name": "evolution", "tournament": 99}, ["search.strategy is {", "tournament is 99", "population"]),
        ("search.strategy.name", "evolutoin", ["search.strategy", "'evolutoin'", "did you mean 'evolution'?"]),
        ("search.strategy", {"population": 3}, ["search.strategy", "'name'", "evolution", "random"]),
        ("search.evaluator.recipe.augmentation.shft", 1, ["search.evaluator.recipe.augmentation.shft", "did you mean 'shift'?"]),
        ("search.space.widths", [[]], ["search.space.widths.0 is []", "at least 1"]),
        ("search.space.kernels", [4], ["search.space.kernels.0 is 4", "odd"]),
        ("search.objective.constraints", {"flops": "< 3"}, ["search.objective.constraints.flops", "'<= NUMBER'"]),
        ("search.objective.metrics", ["acuracy"], ["search.objective.metrics", "'acuracy'", "did you mean 'accuracy'?"]),
        ("prepare.source", "digit", ["prepare.source", "'digit'", "did you mean 'digits'?"]),
        ("prepare.splits.fit", 0.9, ["prepare.splits", "add up to 1"]),
        ("train.seeds", [], ["train.seeds is []", "at least 1"]),
        ("train.seeds", [1, 1], ["train.seeds", "each once"]),
        ("train.recipe.ema", 2, ["train.recipe.ema is 2", "less than 1"]),
        ("train.device", "gpu", ["train.device", '"gpu"', "cuda"]),
        ("train.seeds", [10**23], ["train.seeds.0", str(10**23), str(2**63 - 1)]),
        ("search.seed", 10**23, ["search.seed", str(2**63 - 1)]),
        ("prepare.splits.seed", 10**23, ["prepare.splits.seed is", str(2**63 - 1)]),
        ("export.tolerance", math.inf, ["export.tolerance", "finite number"]),
        ("search.evaluator.limits.seconds", math.inf, ["search.evaluator.limits.seconds", "finite number"]),
        ("search.evaluator.recipe.learning_rate", math.inf, ["search.evaluator.recipe.learning_rate", "finite number"]),
        ("train.recipe.augmentation.rotate", math.nan, ["train.recipe.augmentation.rotate"]),
        ("prepare.splits.fit", math.nan, ["prepare.splits.fit"]),
        ("search.strategy", {"name": "nas.spaces.chain:Chain"}, ["search.strategy", "nas.strategies.base.Strategy"]),
        ("search.strategy", {"name": "json:JSONDecoder"}, ["search.strategy", "nas.strategies.base.Strategy"]),
        ("search.strategy", {"name": "nas.strategies.base:Strategy"}, ["search.strategy", "nas.strategies.base.Strategy"]),
        ("export.exporter", "tflite", ["export.exporter", '"tflite"', "'dynamo' or 'torchscript'"]),
    ],
)
def test_a_mistake_is_named_with_its_path_its_value_and_the_rule(document: Any, path: str, value: Any, words: list[str]) -> None:
    set_at(document, path, value)
    with pytest.raises(settings.SettingsError) as caught:
        settings.parse(document)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    for word in [settings.FILE, *words]:
        assert word in message


def test_all_mistakes_are_reported_at_once(document: Any) -> None:
    set_at(document, "search.trials", 0)
    set_at(document, "train.epochs", 0)
    with pytest.raises(settings.SettingsError) as caught:
        settings.parse(document)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("content", ["", "- 1", "a: [", "search: 3", "\x00", "prepare: {source: digits"])
def test_a_file_that_is_no_settings_is_refused_in_words(tmp_path: Path, content: str) -> None:
    (tmp_path / settings.FILE).write_text(content)
    with pytest.raises(settings.SettingsError, match=settings.FILE):
        settings.read(tmp_path)


def test_a_missing_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(settings.SettingsError, match="does not exist"):
        settings.read(tmp_path)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("{name: csv, path: table.csv, image: file}", "'.'"),
        ("{name: images, path: .}", "'.'"),
        ("{name: images, path: ..}", "'..'"),
        ("{name: images, path: results}", "'results'"),
        ("{name: npz, path: data/../results/prepare/x.npz}", "among the results"),
    ],
)
def test_data_that_dvc_could_not_watch_are_refused_with_the_cure(tmp_path: Path, source: str, path: str) -> None:
    text = (ROOT / settings.FILE).read_text()
    (tmp_path / settings.FILE).write_text(text)
    with pytest.raises(settings.SettingsError, match=r"prepare\.source reads .*move the data into a folder of their own") as caught:
        settings.read(tmp_path, [f"prepare.source={source}"])
    assert path in str(caught.value)
    assert (tmp_path / settings.FILE).read_text() == text
    settings.read(tmp_path, ["prepare.source={name: images, path: data}"])


def test_a_table_is_a_file_of_the_user_as_the_data_are(tmp_path: Path) -> None:
    for name in (settings.FILE, "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    table = "search.evaluator={name: table, path: %s}"
    with pytest.raises(settings.SettingsError, match=r"search\.evaluator reads 'results/t\.csv', which lies among the results: move"):
        settings.read(tmp_path, [table % "results/t.csv"])
    with contextlib.chdir(tmp_path):
        answer = CliRunner().invoke(cli.app, ["check", "--set", table % "data/t.csv"])
        assert (answer.exit_code, "search.evaluator reads data/t.csv, which does not exist: put the data there" in answer.output) == (
            1,
            True,
        )
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "t.csv").write_text("arch,accuracy\n")
        assert (
            "dvc.yaml now names the data of search.evaluator"
            in CliRunner().invoke(cli.app, ["check", "--set", table % "data/t.csv"]).output
        )
    assert lineage.declared(tmp_path)["search"].reads[-1] == "data/t.csv"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
sections = ["prepare", "prepare.source", "prepare.splits", "search", "search.space", "search.space.widths", "search.strategy"]
sections += [
    "search.evaluator.recipe",
    "search.evaluator.limits",
    "search.objective",
    "search.objective.constraints",
    "train",
    "train.seeds",
]
paths = st.sampled_from([*sections, "export.tolerance", "search.workers"])


@given(path=paths, value=json_values)
def test_no_value_whatever_gives_a_traceback(path: str, value: Any) -> None:
    document = YAML(typ="safe").load((ROOT / settings.FILE).read_text())
    set_at(document, path, value)
    with contextlib.suppress(settings.SettingsError):
        assert isinstance(settings.parse(document), settings.Settings)


def test_components_survive_the_way_into_a_record_and_back(document: Any) -> None:
    chosen = settings.parse(document)
    assert settings.parse(json.loads(chosen.model_dump_json())) == chosen


def test_a_component_outside_the_repository_is_named_by_its_import_path(document: Any) -> None:
    set_at(document, "search.strategy", {"name": "nas.strategies.evolution:Evolution", "population": 7, "tournament": 2})
    assert settings.parse(document).search[0].strategy == load.load("strategies", "evolution")(population=7, tournament=2)
    set_at(document, "search.strategy", {"name": "nowhere.at.all:Thing"})
    with pytest.raises(settings.SettingsError, match=r"package\.module:Class"):
        settings.parse(document)


def test_equal_inputs_have_one_fingerprint_and_others_another() -> None:
    assert fingerprint({"a": 1, "b": [1.5]}) == fingerprint({"b": [1.5], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_searches_follow_each_other_and_an_entry_completes_itself_from_the_one_before(document: Any) -> None:
    first = document["search"]
    document["search"] = [first, {"trials": 5, "strategy": {"name": "random"}, "evaluator": {"steps": 3}}]
    one, two = settings.parse(document).search
    assert (one.trials, two.trials, two.space, two.workers) == (first["trials"], 5, one.space, one.workers)
    assert components.describe(two.evaluator) == {**components.describe(one.evaluator), "steps": 3}
    document["search"][1] |= {"trials": 0, "space": {"name": "cell"}}
    with pytest.raises(settings.SettingsError) as caught:
        settings.parse(document)
    assert str(caught.value) == "params.yaml: search.1.trials is 0: should be greater than or equal to 1"
    document["search"][1]["trials"] = 1
    with pytest.raises(settings.SettingsError, match=r"search\.1\.space differs from that of the search before"):
        settings.parse(document)


@pytest.mark.parametrize(
    ("strategy", "evaluator", "words"),
    [
        (
            "darts",
            "scratch",
            "learns from the gradient with respect to a mixture, which 'scratch' does not give: use the evaluator 'shared'",
        ),
        ("gdas", "proxy", "use the evaluator 'shared'"),
        ("halving", "proxy", "steps change nothing for 'proxy'"),
    ],
)
def test_a_wrong_pair_is_refused_before_any_work(document: Any, strategy: str, evaluator: str, words: str) -> None:
    document["search"] |= {"strategy": strategy, "evaluator": evaluator, "objective": {"metrics": ["parameters"]}}
    with pytest.raises(settings.SettingsError, match=words):
        settings.parse(document)


def test_a_metric_that_the_evaluator_does_not_report_is_not_called_unknown(document: Any) -> None:
    document["search"] |= {"strategy": "random", "evaluator": "proxy", "objective": {"metrics": ["accuracy", "acuracy"]}}
    with pytest.raises(settings.SettingsError) as caught:
        settings.parse(document)
    known, unknown = str(caught.value).splitlines()
    assert known.endswith(
        "search.objective.metrics: the evaluator 'proxy' does not report 'accuracy': "
        "take one of naswot, logsynflow, parameters, flops, rank_sum, or another evaluator"
    )
    assert "no metric is named 'acuracy'; did you mean" in unknown


def test_a_warm_start_from_nowhere_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / settings.FILE).write_text((ROOT / settings.FILE).read_text())
    with pytest.raises(settings.SettingsError, match=r"search\.warm_start names nowhere, which does not exist"):
        settings.read(tmp_path, ["search.warm_start=[nowhere]"])
