"""What is typed behind `nasflow serve`, and what is refused before a server is asked for anything."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import Settings
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate
from recorded_project import inside, nasflow
from ruamel.yaml import YAML

from flows import lineage, locks, scheduled, serve, server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as far as `nasflow serve` looks at one before it has a server; what Prefect is told stays in the test."""
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")})
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "params.yaml").touch()
    (tmp_path / "dvc.yaml").write_text("stages: {prepare: {cmd: 'true'}, search: {cmd: 'true'}}\n")
    return tmp_path


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[serve.Plan]:
    """The plans that a command would serve."""
    plans: list[serve.Plan] = []
    monkeypatch.setattr(serve, "serve", lambda root, plan: plans.append(plan))
    return plans


def test_options_become_parameters_that_the_deployment_takes(typed: list[serve.Plan], tmp_path: Path) -> None:
    words = ["--cron", "0 3 * * *", "--timezone", "Europe/Berlin", "--promote-if-better", "--timeout", "60", "--stage", "search"]
    with inside(tmp_path):
        assert nasflow("serve", *words, "--notify", "https://x.org/hook").code == 0
    [plan] = typed
    assert (plan.name, plan.cron, plan.timezone, plan.every) == (tmp_path.name, "0 3 * * *", "Europe/Berlin", None)
    assert plan.parameters["stages"] == ["search"]
    how = scheduled.How.model_validate(plan.parameters["how"])
    assert (how.promote_if_better, how.timeout_seconds, how.notify, how.retries) == (True, 60.0, "https://x.org/hook", 3)
    validate({"root": str(tmp_path), **plan.parameters}, schema(), raise_on_error=True)


def test_a_stage_that_is_none_is_refused_with_the_nearest(typed: list[serve.Plan], tmp_path: Path) -> None:
    with inside(tmp_path):
        for words in (["serve", "--stage", "serch"], ["stage", "serch"], ["run", "serch"]):
            refused = nasflow(*words)
            assert (refused.code, typed) == (2, [])
            assert "'serch' is no stage: did you mean 'search'?" in " ".join(refused.errors.replace("│", " ").split())


def test_without_options_runs_wait_to_be_asked_for(typed: list[serve.Plan], tmp_path: Path) -> None:
    with inside(tmp_path):
        assert nasflow("serve").code == 0
    assert serve.schedule(typed[0]) == {}


def test_a_schedule_is_cron_or_seconds(tmp_path: Path) -> None:
    nightly = serve.schedule(serve.Plan("p", cron="0 3 * * *", timezone="Asia/Tokyo"))["schedule"]
    assert (nightly.cron, nightly.timezone) == ("0 3 * * *", "Asia/Tokyo")
    assert serve.schedule(serve.Plan("p", every=20.0))["schedule"].interval.total_seconds() == 20
    with pytest.raises(ValueError, match="--cron and --every say twice when to run: give one of them"):
        serve.schedule(serve.Plan("p", cron="0 3 * * *", every=20.0))


@pytest.mark.parametrize("cron", ["0 3 * *", "61 * * * *", "daily"])
def test_a_wrong_cron_is_named_before_a_server_is_started(root: Path, cron: str) -> None:
    with inside(root):
        refused = nasflow("serve", "--cron", cron)
    assert refused.code == 1
    assert refused.errors.startswith(f"nasflow: --cron {cron!r} is no schedule (Invalid cron string")
    assert not (root / ".nasflow" / "prefect").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--stage", "train"], "dvc.yaml has no stage 'train'; it has: prepare, search"),
        (["--notify", "foo"], "--notify is 'foo': give an address that begins with http:// or https://, or a notification block"),
        (["--notify", "ftp://x.org/hook"], "--notify is 'ftp://x.org/hook': give an address"),
        (["--notify", "slack-webhook/"], "--notify is 'slack-webhook/': give an address"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(root: Path, words: list[str], why: str) -> None:
    before = sorted(root.iterdir())
    with inside(root):
        refused = nasflow("serve", *words)
    assert (refused.code, sorted(root.iterdir())) == (1, before)
    assert refused.errors.startswith(f"nasflow: {why}")


@pytest.mark.parametrize("missing", ["params.yaml", "dvc.yaml"])
def test_a_folder_that_is_no_project_stays_as_it_is(root: Path, missing: str) -> None:
    (root / missing).unlink()
    before = sorted(root.iterdir())
    with inside(root):
        refused = nasflow("serve", "--cron", "0 3 * * *")
    assert (refused.code, sorted(root.iterdir())) == (1, before)
    assert refused.errors == f"nasflow: {root} is no project, because it has no {missing}: call it in the folder of a project\n"


def test_prefect_learns_of_the_only_server_before_it_is_imported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[str | None] = []

    def importing(plan: serve.Plan) -> None:
        known.append(os.environ.get("PREFECT_API_URL"))
        raise ValueError("enough")

    monkeypatch.setattr(serve, "schedule", importing)  # the first that imports Prefect
    with pytest.raises(ValueError, match="enough"):
        serve.serve(root, serve.Plan("p"))
    assert str(known[0]).startswith("http://127.0.0.1:")
    assert not Settings().server.ephemeral.enabled  # or Prefect would start a second one where the order is wrong


def test_a_project_is_served_once(root: Path) -> None:
    with inside(root), locks.exclusive(root / ".nasflow" / "serve"):
        refused = nasflow("serve", "--every", "20")
    assert refused.code == 2
    assert refused.errors.startswith(f"nasflow: this project is being served by process {os.getpid()} (`")


def test_a_server_is_set_up_only_where_one_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "HOME": str(tmp_path)})
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    with inside(tmp_path):
        refused = nasflow("setup-server")
    assert (refused.code, refused.errors.split(":")[1]) == (1, " no Prefect server is chosen")
    assert not server.is_chosen()


def test_the_deployments_of_prefect_yaml_are_the_stages_and_the_chain() -> None:
    deployments: list[dict[str, Any]] = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())["deployments"]
    stages = list(lineage.declared(ROOT))
    assert [deployment["name"] for deployment in deployments] == ["pipeline", *stages]
    assert [deployment["parameters"].get("stages") for deployment in deployments] == [None, *([stage] for stage in stages)]
    for deployment in deployments:
        assert deployment["entrypoint"] == f"{scheduled.nasflow.fn.__module__}.{scheduled.nasflow.fn.__name__}"
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        validate(deployment["parameters"], schema(), raise_on_error=True)


def test_the_form_says_what_each_field_is() -> None:
    found = schema()
    assert list(found["properties"]) == ["root", "stages", "settings", "how"]
    assert all(field.get("description") for field in found["definitions"]["How"]["properties"].values())
    assert "Settings to change" in found["properties"]["settings"]["description"]
    for wrong in ({"stages": ["foo"]}, {"how": {"notify": "foo"}}, {"settings": {"search": {"trials": -4}}}):
        with pytest.raises(ValidationError):
            validate(wrong, found, raise_on_error=True)
    validate({"stages": ["search"], "how": {"notify": "slack-webhook/team"}}, found, raise_on_error=True)
    json.dumps(found)


def schema() -> dict[str, Any]:
    """What Prefect's server checks parameters by."""
    return parameter_schema(scheduled.nasflow).model_dump_for_openapi()
