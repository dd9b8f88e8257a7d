"""Scheduled runs of the real pipeline with a real Prefect server, and what can be shown of a model after each of them."""

import signal
import subprocess
import urllib.error
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psutil
import pytest
from fake_project import Project, until
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending
from real_project import RealProject, make_real_project
from scheduled_project import awaited, command, connected, ends, log_of, post, runs, serving, stages_of
from shared_project import cloned
from sklearn.datasets import load_digits
from web_hook import receiving

from flows import flow_runs, server_setup, tracking
from flows.scheduled import nasflow
from flows.why import tell
from flows.why.chain import State

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]
MODEL = "results/export/model.onnx"
STAGES, TRIALS = 5, 4


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, whole_server: str) -> RealProject:
    """A project with a remote; the tests of this file, in their order, are its life."""
    root = tmp_path_factory.mktemp("scheduled") / "project"
    root.mkdir()
    real = make_real_project(root)
    write_data(root)
    real.set("prepare.source={name: npz, path: data/digits.npz}", "train.seeds=[0]", "train.epochs=2")
    real.set(f"search.trials={TRIALS}", "search.workers=1", "search.evaluator.steps=60")
    real.set("search.measure=[]", "search.preflight=false")  # what is measured belongs to the machine, and a clone is compared
    real.run("dvc", "remote", "add", "-d", "local", str(root.parent / "remote"))
    return RealProject(root, connected(Project(root, real.environment), whole_server).environment | {"PYTHONPATH": str(root)})


def write_data(root: Path, packed: bool = False) -> None:
    """Put digits into data/digits.npz; the same ones packed are another file with the same content."""
    digits = load_digits()
    arrays = {"x": (digits.images[:400] * 15).astype(np.uint8), "y": digits.target[:400]}
    (root / "data").mkdir(exist_ok=True)
    (np.savez_compressed if packed else np.savez)(root / "data" / "digits.npz", **arrays)


def own(project: RealProject) -> Project:
    return Project(project.root, project.environment)


def is_defended(project: RealProject, clone: Path, lost: str, link: str) -> RealProject:
    """Nothing is left to run, here or in a fresh clone that has pulled; its model tells the whole chain, and names a `lost` file.

    Returns the clone.
    """
    assert tracking.status(project.root) == {}
    for words in (("git", "add", "-A"), ("git", "commit", "-qm", "results of a run"), ("dvc", "push")):
        project.run(*words)
    fresh = cloned(project, clone)
    fresh.run("dvc", "pull")
    assert fresh.run("dvc", "repro").stdout.count("didn't change, skipping") == STAGES
    assert [one.state for one in tell.why(fresh.root, fresh.root / MODEL).links] == [State.HOLDS] * 12
    content = (fresh.root / lost).read_bytes()
    (fresh.root / lost).unlink()
    broken = {one.name: " ".join(one.broken) for one in tell.why(fresh.root, fresh.root / MODEL).links if one.state == State.BROKEN}
    assert lost in broken.get(link, ""), broken
    (fresh.root / lost).write_bytes(content)
    return fresh


def test_a_schedule_builds_through_a_kill_then_does_nothing_then_runs_what_depends_on_changed_data(
    project: RealProject, whole_server: str, tmp_path: Path
) -> None:
    with serving(own(project), "--name", "nightly", "--every", "8") as process:
        begun = killed_in_search(process, project)
        awaited(process, lambda: len(ends(whole_server, "nightly")) >= 3)
        first, second, third = runs(whole_server, "nightly")[:3]
        # Prefect would call the first one Running for ever: the next run has told it
        assert (first["state"]["name"], stages_of(whole_server, first)) == ("Crashed", ["Completed", "Crashed"]), log_of(own(project))
        assert (second["state"]["name"], stages_of(whole_server, second)) == ("Completed", ["Cached", *["Completed"] * (STAGES - 1)])
        assert 0 < begun < TRIALS
        assert "continues exactly, in the environment that it began in" in log_of(own(project))
        assert (third["state"]["name"], third["state"]["message"]) == ("Cached", "nothing has changed"), log_of(own(project))
        assert stages_of(whole_server, third) == ["Cached"] * STAGES

        write_data(project.root, packed=True)
        awaited(process, lambda: ends(whole_server, "nightly").count("Completed") == 2)
        last = [run for run in runs(whole_server, "nightly") if run["state"]["name"] == "Completed"][1]
        # prepare makes the same of these data, so that nothing after it but the report of where they come from depends on the change
        assert stages_of(whole_server, last) == ["Completed", *["Cached"] * 3, "Completed"]
    assert not own(project).processes()
    assert not list((project.root / ".nasflow" / "flow-runs").iterdir())
    clone = is_defended(project, tmp_path / "clone", "results/train/architecture.json", "train")
    clone.run("dvc", "repro", "-s", "-f", "search")  # at one go
    assert clone.content("search") == project.content("search")


def killed_in_search(process: "subprocess.Popen[bytes]", project: RealProject) -> int:
    """Kill whatever the process that serves has started, once the search has committed a trial; returns how many it had."""
    awaited(process, lambda: committed(project.root))
    for one in psutil.Process(process.pid).children(recursive=True):
        one.send_signal(signal.SIGKILL)
    return committed(project.root)


def committed(root: Path) -> int:
    """How many trials the only search has committed."""
    return sum(path.read_bytes().count(b'{"trial"') for path in (root / ".nasflow").glob("search-*/journal.jsonl"))


def test_what_a_killed_server_has_left_is_settled_before_the_project_is_served_again(whole_server: str) -> None:
    with temporary_settings({PREFECT_API_URL: whole_server}):
        before, now = ({"root": "/nowhere", "stages": [name]} for name in ("prepare", "search"))
        deployment = nasflow.to_deployment("left", parameters=before, interval=1).apply()
        with get_client(sync_client=True) as client:
            asked, begun = (client.create_flow_run_from_deployment(deployment) for _ in range(2))
            client.set_flow_run_state(begun.id, Pending())
            until(lambda: len(missed(client, deployment)) >= 2)
            assert {str(run.parameters["stages"]) for run in missed(client, deployment)} == {"['prepare']"}

            assert nasflow.to_deployment("left", parameters=now, cron="0 0 1 1 *").apply() == deployment
            flow_runs.settle(deployment, now)
            assert {str(run.parameters["stages"]) for run in missed(client, deployment)} == {"['search']"}
            states = [client.read_flow_run(run.id).state for run in (asked, begun)]
            assert [state and state.name for state in states] == ["Scheduled", "Crashed"]
            assert client.read_flow_run(asked.id).parameters == before

            flow_runs.settle(deployment, None)
            assert missed(client, deployment) == []


def missed(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """Runs of a deployment that the clock has asked for, whose time has come, and that have not begun."""
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])))
    )
    of_it = [run for run in found if run.deployment_id == deployment and run.auto_scheduled]
    return [run for run in of_it if run.expected_start_time and run.expected_start_time < datetime.now(UTC)]


def test_a_block_that_is_to_be_told_must_be_there_and_tell(whole_server: str) -> None:
    with temporary_settings({PREFECT_API_URL: whole_server}):
        CustomWebhookNotificationBlock(name="there", url="http://127.0.0.1:9").save("there")
        Secret(value="mum").save("silent")
        server_setup.find_block("custom-webhook/there")
        with pytest.raises(ValueError, match="--notify is slack-webhook/team, but Prefect's server has no such block: make it"):
            server_setup.find_block("slack-webhook/team")
        with pytest.raises(ValueError, match="--notify is secret/silent, a block that notifies nobody"):
            server_setup.find_block("secret/silent")


def test_a_worker_of_a_pool_runs_the_deployment_of_prefect_yaml(project: RealProject, whole_server: str, tmp_path: Path) -> None:
    assert f"work pool '{server_setup.POOL}' was made" in command(own(project), "nasflow", "setup-server")
    command(own(project), "prefect", "--no-prompt", "deploy", "-n", "pipeline")
    [deployment] = post(whole_server, "deployments/filter", {"deployments": {"name": {"any_": ["pipeline"]}}})

    def ask(settings: dict[str, Any]) -> None:
        parameters = {"settings": settings, "how": {"notify": "custom-webhook/team"}}
        post(whole_server, f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})

    with pytest.raises(urllib.error.HTTPError) as refused:
        ask({"search": {"trials": 0}})
    assert b"0 is less than the minimum of 1" in refused.value.read()
    with receiving() as told, temporary_settings({PREFECT_API_URL: whole_server}):
        CustomWebhookNotificationBlock(name="team", url=told.url, json_data={"text": "{{subject}}"}).save("team")
        ask({"train": {"epochs": 3}})
        command(own(project), "prefect", "worker", "start", "--pool", server_setup.POOL, "--run-once")
    assert told.contents == [{"text": "nasflow: project Completed"}]
    [run] = runs(whole_server, "pipeline")
    assert (run["state"]["name"], stages_of(whole_server, run)) == ("Completed", [*["Cached"] * 2, *["Completed"] * 3]), run["state"]
    assert "epochs: 3" in (project.root / "params.yaml").read_text()  # so that DVC and the next run say the same
    is_defended(project, tmp_path / "clone", "results/search/trials.csv", "search")
