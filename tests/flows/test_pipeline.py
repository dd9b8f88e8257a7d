"""`nasflow run` with a real Prefect and a real DVC: what runs, what is shown, and what a killed or misled run leaves behind."""

import json
import signal
import urllib.request
from typing import Any

import pytest
from fake_project import STAGES, Project, until

pytestmark = pytest.mark.end_to_end


def ask(server: str, what: str) -> list[dict[str, Any]]:
    """Every record of a kind that the server holds, newest first."""
    request = urllib.request.Request(f"{server}/{what}/filter", json.dumps({"limit": 200}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        records: list[dict[str, Any]] = json.load(answer)
    return sorted(records, key=lambda record: str(record["created"]), reverse=True)


def outcomes(text: str) -> list[str]:
    """The word after each stage's name in what a run printed, in stage order."""
    lines = dict(line.split(": ", 1) for line in text.splitlines() if line.split(":")[0] in STAGES)
    return [lines[stage].split()[0] for stage in STAGES if stage in lines]


def test_builds_once_then_runs_only_what_depends_on_a_change(served: Project, server: str) -> None:
    served.write(search={"steps": 20})
    code, text = served.run()
    assert (code, outcomes(text)) == (0, ["ran"] * 4), text
    assert text.count("search starts") == 1
    states = [run["state"]["name"] for run in ask(server, "flow_runs")[:5]]
    assert states == ["Completed"] * 5
    shown = {artifact["key"]: artifact for artifact in ask(server, "artifacts")}
    assert {"search-progress", "search-leaderboard", "search-result", "export-result"} <= shown.keys()
    assert shown["search-progress"]["data"] == 100.0
    assert json.loads(shown["search-leaderboard"]["data"]) == [{"trial": 19, "score": 0.95}]

    code, text = served.run()
    assert (code, outcomes(text)) == (0, ["cached"] * 4), text
    assert [run["state"]["name"] for run in ask(server, "flow_runs")[:5]] == ["Cached"] * 5

    served.write(search={"steps": 20}, train={"steps": 1})
    code, text = served.run()
    assert (code, outcomes(text)) == (0, ["cached", "cached", "ran", "ran"]), text

    served.write(search={"steps": 20})
    code, text = served.run("train", "export")
    assert (code, outcomes(text)) == (0, ["restored", "restored"]), text


def test_a_failing_stage_ends_the_run_with_its_own_words(served: Project, server: str) -> None:
    served.write(search={"wrong": True})
    code, text = served.run()
    assert code == 1
    assert text.splitlines()[-1] == "nasflow: search: ValueError: search.wrong: true is refused"
    assert "prefect" not in text
    assert ask(server, "flow_runs")[0]["state"]["message"] == "ValueError: search.wrong: true is refused"


def test_an_edit_while_a_stage_runs_fails_the_run_and_the_next_one_repairs(served: Project) -> None:
    served.write(search={"steps": 20})
    process = served.start()
    until(lambda: served.journal("search"))
    served.write(search={"steps": 21})
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "search: setting search.steps was 20 when the stage read it, dvc.lock says 21" in text
    assert "train" not in outcomes(text)
    assert served.dvc("status", "search").strip() == "Data and pipelines are up to date."  # what DVC alone would believe

    code, text = served.run()
    assert (code, outcomes(text)) == (0, ["cached", "ran", "ran", "ran"]), text
    assert json.loads((served.root / "results/search/value.txt").read_text()) == {"steps": 21}


def test_kill_leaves_no_process_and_the_next_run_continues(project: Project) -> None:
    project.write(search={"steps": 200})
    process = project.start()
    until(lambda: len(project.journal("search")) > 3, 90)
    assert len(project.processes()) >= 5  # the flow, the embedded server, the keeper, DVC, the stage
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not project.processes(), 8)
    written = len(project.journal("search"))
    project.write(search={"steps": 2})
    code, text = project.run()
    assert (code, outcomes(text)) == (0, ["cached", "ran", "ran", "ran"]), text
    assert len(project.journal("search")) == written + 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopping_ends_everything_and_says_how_to_go_on(served: Project, number: int, code: int) -> None:
    served.write(search={"steps": 200})
    process = served.start()
    until(lambda: served.journal("search"))
    if number == signal.SIGTERM:
        second, message = served.run()
        assert second == 2
        assert f"(process {process.pid}) works on this project since" in message
    process.send_signal(number)
    text, _ = process.communicate(timeout=20)
    assert process.returncode == code, text
    assert text.splitlines()[-1] == "nasflow: stopped. Run the same command again to continue."
    until(lambda: not served.processes(), 5)


def test_mistakes_are_named_before_anything_runs(served: Project) -> None:
    code, text = served.run("serach")
    assert code == 1
    assert text == "nasflow: dvc.yaml has no stage 'serach'; it has: prepare, search, train, export\n"


def test_a_server_that_does_not_answer_is_named(project: Project) -> None:
    code, text = project.run(environment={**project.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert code == 1
    assert text.splitlines()[-1].startswith("nasflow: Prefect's server does not answer: Failed to reach API at http://127.0.0.1:9/api")
    assert not project.processes()
