"""A folder is held by one process; to look whether it is held disturbs nobody, and a folder that was moved away is not held."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import locks, processes
from flows.locks import HeldError, exclusive, is_held

HOLDER = """
import sys, time
from pathlib import Path
from flows.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("words", "served", "called"),
    [
        (["/venv/bin/nasflow", "run", "search"], "", "`nasflow run search`"),
        (["/venv/prefect/engine.py"], "", "a run of a Prefect deployment"),
        (["/venv/prefect/engine.py"], "7", "a run of `nasflow serve`"),
    ],
)
def test_a_process_is_called_what_its_user_calls_it(monkeypatch: pytest.MonkeyPatch, words: list[str], served: str, called: str) -> None:
    monkeypatch.delenv(processes.SERVER, raising=False)
    if served:
        monkeypatch.setenv(processes.SERVER, served)
    monkeypatch.setattr(sys, "argv", words)
    assert locks.called() == called


def test_a_folder_is_held_until_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not is_held(folder)
    with exclusive(folder):
        assert is_held(folder)
        with pytest.raises(HeldError, match="process"):
            exclusive(folder).__enter__()
    assert not is_held(folder)


def test_looking_does_not_keep_anybody_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with exclusive(tmp_path):
        pass
    looking = os.open(tmp_path / "lock", os.O_RDONLY)
    locks.fcntl.flock(looking, locks.fcntl.LOCK_SH)  # as `is_held` does for an instant
    waits = []

    def looked(seconds: float) -> None:
        waits.append(seconds)
        os.close(looking)

    monkeypatch.setattr(locks.time, "sleep", looked)
    with exclusive(tmp_path):
        assert len(waits) == 1


def test_a_folder_that_is_moved_away_meanwhile_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, aside = tmp_path / "run", tmp_path / "aside"
    flock = locks.fcntl.flock

    def moved_first(handle: int, how: int) -> None:
        if folder.exists() and not aside.exists():
            folder.rename(aside)
        flock(handle, how)

    monkeypatch.setattr(locks.fcntl, "flock", moved_first)
    with exclusive(folder):
        assert (folder / "lock").exists()
        assert is_held(folder)
        assert not is_held(aside)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "another process: wait for it"),
        ("123", "another process: wait for it"),
        ('{"pid": 5, "host": "elsewhere", "since": "noon", "command": "nasflow run"}', "process 5 on elsewhere .*with `kill 5` there"),
    ],
)
def test_whoever_holds_it_is_named_as_far_as_it_is_known(tmp_path: Path, content: str, words: str) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert json.loads((tmp_path / "lock").read_text())["pid"] == holder.pid
    (tmp_path / "lock").write_text(content)
    with pytest.raises(HeldError, match=words):
        exclusive(tmp_path).__enter__()
    holder.kill()
    holder.wait()
    with exclusive(tmp_path):
        pass
