"""What a deployed run does around the stages: tries again, tells mistakes at once, and decides about the model where it is asked to."""

import contextlib
import json
import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.exceptions import FailedRun
from prefect.logging import get_logger
from prefect.states import Completed, Failed, State

from flows import launch, pipeline, released, scheduled, tracking
from flows.released import Decision
from flows.scheduled import How

Outcome = State[Any] | Exception
pytestmark = pytest.mark.filterwarnings("ignore:Logger 'prefect")


def ended(monkeypatch: pytest.MonkeyPatch, outcomes: Sequence[Outcome], retries: int = 3) -> tuple[State[Any], list[float]]:
    """How a run ends whose tries end so, and what it waits between them."""
    left, slept = list(outcomes), list[float]()

    def attempt(*arguments: object) -> State[Any]:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(scheduled, "_attempt", attempt)
    monkeypatch.setattr(scheduled.time, "sleep", slept.append)
    state = scheduled.nasflow.fn(Path(), how=How(retries=retries, retry_seconds=10))
    assert left == []
    return state, slept


@pytest.mark.parametrize(
    "passing",
    [
        tracking.BusyError("`dvc repro` works on this project."),
        tracking.GoneError("the process that ran DVC was killed"),
        httpx.ConnectError("refused"),
        Failed(name=pipeline.PASSING, message="search: no space is left on the disk"),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_what_the_machine_does_is_tried_again(monkeypatch: pytest.MonkeyPatch, passing: Outcome) -> None:
    state, slept = ended(monkeypatch, [passing, passing, Completed(message="up to date: search")])
    assert (state.name, slept) == ("Completed", [10.0, 20.0])
    state, slept = ended(monkeypatch, [passing, passing], retries=1)
    assert (state.name, slept) == (pipeline.PASSING, [10.0])


@pytest.mark.parametrize(
    "mistake",
    [
        Failed(message="params.yaml: search.trials is 0"),
        tracking.StageError("images are damaged"),
        ValueError("dvc.yaml has no stage"),
        tracking.TooLongError("the time is over"),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_what_a_person_has_to_mend_is_told_at_once(monkeypatch: pytest.MonkeyPatch, mistake: Outcome) -> None:
    state, slept = ended(monkeypatch, [mistake])
    assert (state.name, slept) == ("Failed", [])
    assert state.message == (mistake.message if isinstance(mistake, State) else str(mistake))


@pytest.mark.parametrize(("error", "frames"), [(FailedRun("params.yaml: search.trials is -4"), False), (KeyError("a bug"), True)])
def test_a_failed_run_tells_its_sentence_and_a_bug_its_frames(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, frames: bool
) -> None:
    ended(monkeypatch, [Failed(message="params.yaml: search.trials is -4")])
    for name in ("flow_runs", "engine"):
        logger = get_logger(name)
        monkeypatch.setattr(logger, "propagate", True)
        with caplog.at_level(logging.ERROR, logger.name):
            logger.error("Execution exited with unexpected exception", exc_info=error)
    assert len(caplog.records) == (2 if frames else 0)


def test_prefect_raises_for_a_failed_state_what_is_left_out_of_its_log() -> None:
    with pytest.raises(FailedRun, match="trials is -4"):
        Failed(message="search.trials is -4").result()


class Chain:
    """Stands for the project's lock, DVC, the stages and commands: what runs is noted, and answers are given."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.state = root, Completed(message="up to date: export")
        self.busy = 0.0
        self.ran, self.codes = list[str](), dict[str, tuple[int, str]]()
        self.decision = Decision(False, "within noise", "ab" * 32, "now", "cd" * 32)
        monkeypatch.setattr(scheduled, "_command", self._command)
        monkeypatch.setattr(scheduled.freshness, "refresh", lambda root, say: self.ran.append("refresh"))
        monkeypatch.setattr(scheduled.tracking, "stages", lambda root: ["search", "export"])
        monkeypatch.setattr(scheduled.tracking, "session", self._session)
        monkeypatch.setattr(scheduled.pipeline, "chain", self._chain)
        monkeypatch.setattr(scheduled, "create_markdown_artifact", lambda **words: self.ran.append(words["key"]))

    def run(self, how: How, **settings: Any) -> State[Any]:
        """One run without retries."""
        self.ran.clear()
        state: State[Any] = scheduled.nasflow.fn(self.root, settings=settings, how=how.model_copy(update={"retries": 0}))
        return state

    def _command(self, root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        self.ran.append(" ".join(words))
        if words == ("promote",):
            released.note_last(root, self.decision)
        code, errors = self.codes.get(words[0], (0, ""))
        return subprocess.CompletedProcess(words, code, "", errors)

    def _session(self, root: Path, wait_seconds: float = 0.0) -> Any:
        if wait_seconds < self.busy:
            raise tracking.BusyError("`dvc repro` (process 7) works on this project.")
        return contextlib.nullcontext(self)

    def _chain(self, root: Path, stages: Sequence[str], force: bool, wait_seconds: float) -> State[Any]:
        self.ran.append(",".join(stages))
        return self.state


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """A project in which nothing costs anything, with a model in results/export."""
    (tmp_path / ".nasflow").mkdir()
    (tmp_path / "results/export").mkdir(parents=True)
    (tmp_path / "results/export/manifest.json").write_text(json.dumps({"sha256": "ab" * 32}))
    return Chain(tmp_path, monkeypatch)


def test_settings_are_checked_and_written_before_data_are_looked_at(chain: Chain) -> None:
    assert chain.run(How(), search={"trials": 3}).name == "Completed"
    assert chain.ran == ["check --set search.trials=3", "refresh", "search,export"]
    chain.codes["check"] = (1, "nasflow: params.yaml: search.trials is 0: should be at least 1\n")
    state = chain.run(How(), search={"trials": 0})
    assert (state.name, state.message) == ("Failed", "params.yaml: search.trials is 0: should be at least 1")
    assert chain.ran == ["check --set search.trials=0"]
    chain.codes["check"] = (launch.BUSY, "nasflow: DVC works on this project. Wait until it is done.\n")
    assert chain.run(How()).name == pipeline.PASSING


def test_a_model_is_decided_about_once(chain: Chain) -> None:
    how = How(promote_if_better=True)
    released.note_last(chain.root, Decision(True, "first", "cd" * 32, "before"))
    state = chain.run(how)
    assert (state.name, state.message) == ("Completed", f"up to date: export; {chain.decision.sentence}")
    assert chain.ran[2:] == ["search,export", "promote", "released-model"]
    chain.state = Completed(name="Cached", message="nothing has changed")
    state = chain.run(how)
    assert (state.name, state.message) == ("Cached", "nothing has changed")
    assert "promote" not in chain.ran


def test_a_release_that_fails_is_told_and_stages_that_failed_ask_for_none(chain: Chain) -> None:
    chain.codes["promote"] = (1, "nasflow: released/current/model.onnx is not the file that its manifest names\n")
    state = chain.run(How(promote_if_better=True))
    assert state.message == (
        "up to date: export, but nothing was released: released/current/model.onnx is not the file that its manifest names"
    )
    assert state.is_failed()
    chain.state = Failed(message="search: broken")
    assert chain.run(How(promote_if_better=True)).message == "search: broken"
    assert "promote" not in chain.ran


def test_a_run_waits_for_another_and_says_for_whom(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    chain.busy = 60.0
    assert chain.run(How(wait_seconds=100)).name == "Completed"
    assert capsys.readouterr().out == "nasflow: waiting: `dvc repro` (process 7) works on this project.\n"
    assert chain.run(How(wait_seconds=10)).name == pipeline.PASSING
