"""How a run stands is on disk, and no kill makes it lie."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows import locks, run_state
from flows.ending import Stopped, stoppable
from flows.run_state import State
from nas import atomic

RUNNER = """
import sys, time
from pathlib import Path
from flows import locks, run_state
with locks.exclusive(Path(sys.argv[1])), run_state.noted(Path(sys.argv[1]), {"trials": 4}):
    print("runs", flush=True)
    time.sleep(60)
"""


def ended_by(folder: Path, error: BaseException | None) -> State:
    """How a run stands that ended like this."""

    def work() -> None:
        with locks.exclusive(folder), run_state.noted(folder, {"trials": 4}):
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    return run_state.read(folder)


def test_a_run_that_ends_says_how(tmp_path: Path) -> None:
    done = ended_by(tmp_path, None)
    assert (done.name, done.reason, done.pid, done.about) == ("finished", "", os.getpid(), {"trials": 4})
    failed = ended_by(tmp_path, ValueError("seed is -1\nand more"))
    assert (failed.name, failed.reason) == ("failed", "ValueError: seed is -1")
    assert failed.began == done.began
    paused = ended_by(tmp_path, Stopped(signal.SIGTERM))
    assert (paused.name, paused.reason) == ("paused", "SIGTERM")
    paused = ended_by(tmp_path, KeyboardInterrupt())
    assert (paused.name, paused.reason) == ("paused", "SIGINT")


def test_a_signal_while_the_end_is_noted_does_not_make_it_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = atomic.write_json

    def interrupted(path: Path, value: Any) -> None:
        if value["name"] != run_state.RUNNING:
            signal.raise_signal(signal.SIGTERM)
        save(path, value)

    monkeypatch.setattr(atomic, "write_json", interrupted)
    for error, name in ((None, "finished"), (ValueError("seed is -1"), "failed")):
        with pytest.raises(SystemExit) as ended, stoppable():
            ended_by(tmp_path, error)
        assert (ended.value.code, run_state.read(tmp_path).name) == (143, name)


def test_a_kill_does_not_make_it_lie(tmp_path: Path) -> None:
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    assert runner.stdout.readline() == "runs\n"
    assert run_state.read(tmp_path).name == "running"
    runner.kill()
    runner.wait()
    killed = run_state.read(tmp_path)
    assert (killed.name, killed.pid, killed.about) == ("killed", runner.pid, {"trials": 4})
    with locks.exclusive(tmp_path), run_state.noted(tmp_path, {}) as before:
        assert before.name == "killed"
        run_state.note(tmp_path, {"best": 0.5})
        assert run_state.read(tmp_path).about == {"trials": 4, "best": 0.5}
    assert run_state.read(tmp_path).name == "finished"


def test_a_disk_that_refuses_does_not_hide_why_a_run_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, value: object) -> None:
        raise OSError("no space")

    def work() -> None:
        with run_state.noted(tmp_path, {}):
            monkeypatch.setattr(run_state.atomic, "write_json", refuse)
            raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        work()
    assert run_state.read(tmp_path).name == "killed"


@pytest.mark.parametrize("content", [None, "", "{", "[]", json.dumps({"unheard": 1})])
def test_what_another_version_wrote_is_unknown(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / run_state.FILE).write_text(content)
    assert run_state.read(tmp_path) == State("unknown")
