"""A run's folder: held by one process, reopened by the same inputs, published whole or not at all."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import environment, run_folder
from flows.run_folder import RunError, hold, origin, publish

HOLDER = """
import sys, time
from pathlib import Path
from flows.run_folder import hold
with hold(Path(sys.argv[1]), "search", {"seed": 0}):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_same_inputs_give_the_same_folder_and_say_what_they_were(tmp_path: Path) -> None:
    with hold(tmp_path, "search", {"seed": 0}) as first:
        pass
    with hold(tmp_path, "search", {"seed": 0}) as again, hold(tmp_path, "search", {"seed": 1}) as other:
        assert again == first
        assert other.path != first.path
    assert json.loads((first.path / "inputs.json").read_text()) == {"seed": 0}


def test_another_format_version_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_folder.fingerprint({"seed": 0})
    monkeypatch.setattr(run_folder, "FORMAT_VERSION", run_folder.FORMAT_VERSION + 1)
    assert run_folder.fingerprint({"seed": 0}) != before


def test_a_second_process_is_told_who_holds_the_run_and_a_dead_one_lets_go(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=rf"process {holder.pid} \(`-c .*`, since 2.*\): wait for it, or end it with `kill {holder.pid}`"):
        hold(tmp_path, "search", {"seed": 0}).__enter__()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with hold(tmp_path, "search", {"seed": 0}) as run:
        owner = json.loads((run.path / "lock").read_text())
    assert owner["pid"] == os.getpid()
    assert {"host", "since", "command"} < owner.keys()


def test_results_are_replaced_as_a_whole_and_kept_when_filling_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edits: list[str] = []
    monkeypatch.setattr(run_folder, "changes", lambda root, record: edits)
    with publish(tmp_path, "train", {"stage": "train"}) as folder:
        (folder / "old.txt").write_text("old")
    results = tmp_path / "results" / "train"
    (results / ".gitignore").write_text("/old.txt\n")
    with pytest.raises(IsADirectoryError), publish(tmp_path, "train", {"stage": "train"}) as folder:
        folder.write_text("half")
    assert sorted(path.name for path in results.iterdir()) == [".gitignore", "lineage.json", "old.txt"]
    edits.append("train: setting train.epochs was 3 when the stage read it, is now 4")
    with pytest.raises(RunError, match="was 3 when the stage read it, is now 4"), publish(tmp_path, "train", {"stage": "train"}) as folder:
        (folder / "new.txt").write_text("made from other settings than dvc.lock would say")
    assert (results / "old.txt").exists()
    edits.clear()
    with publish(tmp_path, "train", {"stage": "train", "deps": {}}) as folder:
        (folder / "new.txt").write_text("new")
    assert sorted(path.name for path in results.iterdir()) == [".gitignore", "lineage.json", "new.txt"]
    assert json.loads((results / "lineage.json").read_text()) == {"stage": "train", "deps": {}}
    assert [path.name for path in (tmp_path / ".nasflow").rglob("*")] == ["publish-train", "lock"]


def test_a_stage_that_says_when_it_began_leaves_how_long_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "changes", lambda root, record: [])
    with publish(tmp_path, "train", {"stage": "train", "begun": time.monotonic() - 60}):
        pass
    known = json.loads((tmp_path / "results" / "train" / "lineage.json").read_text())
    assert known.keys() == {"stage", "seconds"}
    assert known["seconds"] >= 60


PUBLISHER = """
import os, signal, sys, time
from pathlib import Path
from flows import run_folder
run_folder.changes = lambda root, record: []
rename, seen = Path.rename, []
def stop(self, target):
    seen.append(self)
    if len(seen) == int(sys.argv[2]):
        print("here", flush=True)
        time.sleep(60)
    return rename(self, target)
Path.rename = stop
with run_folder.publish(Path(sys.argv[1]), "train", {"stage": "train"}) as folder:
    (folder / "new.txt").write_text("new")
"""


@pytest.mark.parametrize("way", ["publish", "hold"])
@pytest.mark.parametrize("renames", [1, 2])
def test_a_kill_while_publishing_leaves_the_old_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int, way: str) -> None:
    monkeypatch.setattr(run_folder, "changes", lambda root, record: [])
    results = tmp_path / "results" / "train"
    with publish(tmp_path, "train", {"stage": "train"}) as folder:
        (folder / "old.txt").write_text("old")
    publisher = subprocess.Popen([sys.executable, "-c", PUBLISHER, str(tmp_path), str(renames)], stdout=subprocess.PIPE, text=True)
    assert publisher.stdout is not None
    assert publisher.stdout.readline() == "here\n"
    with pytest.raises(RunError, match=f"written by process {publisher.pid}"), publish(tmp_path, "train", {"stage": "train"}):
        pass
    publisher.kill()
    publisher.wait()
    assert results.exists() == (renames == 1)
    with hold(tmp_path, "train", {}) if way == "hold" else publish(tmp_path, "train", {"stage": "train"}):
        assert (results / "old.txt").read_text() == "old"
        left = [path.name for path in (tmp_path / ".nasflow" / "publish-train").iterdir()]
        assert sorted(left) == (["lock"] if way == "hold" else ["fresh", "lock"])


def test_results_are_durable_before_they_are_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "changes", lambda root, record: [])
    synced: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), sync(handle)))
    with publish(tmp_path, "train", {"stage": "train"}) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file.txt").write_text("new")
    fresh = tmp_path / ".nasflow" / "publish-train" / "fresh"
    before = synced[: synced.index(str(tmp_path / "results"))]
    assert {str(fresh), str(fresh / "inner"), str(fresh / "inner" / "file.txt"), str(fresh / "lineage.json")} <= set(before)


def test_a_run_that_is_continued_says_after_what_and_how_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    under = {"torch": "2.13.0", "threads": 1, "device": "cpu"}
    monkeypatch.setattr(environment, "present", lambda device: dict(under))
    killed = "was killed (process 1, running since then)"

    def continued() -> str:
        with hold(tmp_path, "search", {"seed": 0}) as run:
            (run.path / ".trial-0.pt.abcd_123").touch()
        state = json.loads((run.path / "state.json").read_text())
        (run.path / "state.json").write_text(json.dumps({**state, "name": "running", "pid": 1, "since": "then"}))  # as a kill leaves it
        assert json.loads((run.path / "inputs.json").read_text()) == {"seed": 0}
        return capsys.readouterr().out.removeprefix(f"search {run.fingerprint}: ").rstrip()

    assert continued() == ""
    assert continued() == f"{killed}; continues exactly, in the environment that it began in"
    under["torch"] = "2.14.0"
    other = "continues under torch 2.14.0 (began under 2.13.0): what is computed from here on may differ in the last bits"
    assert [continued(), continued()] == [f"{killed}; {other}"] * 2
    under["torch"] = "2.13.0"
    assert "in between, in another one, may differ in the last bits" in continued()
    under["device"] = "cuda"
    assert "device cuda (began under cpu)" in continued()
    [folder] = (path for path in (tmp_path / ".nasflow").iterdir() if path.name.startswith("search-"))
    assert [entry["environment"]["torch"] for entry in run_folder.environments(folder)] == ["2.13.0", "2.14.0", "2.13.0", "2.13.0"]


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    with hold(tmp_path, "search", {"seed": 0}) as run:
        (run.path / "weights").mkdir()
        for name in (".trial-0.pt.abcd_123", "trial-0.pt", ".gitignore"):
            (run.path / "weights" / name).touch()
    with hold(tmp_path, "search", {"seed": 0}):
        assert sorted(path.name for path in (run.path / "weights").iterdir()) == [".gitignore", "trial-0.pt"]


def test_what_was_published_names_its_run_and_the_run_knows_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "changes", lambda root, record: [])
    for seed in (0, 0, 1):
        with hold(tmp_path, "train", {"seed": 0}) as run, publish(tmp_path, "train", {"stage": "train", "seed": seed} | origin(run)):
            pass
    lineage = (tmp_path / "results" / "train" / "lineage.json").read_bytes()
    assert json.loads(lineage)["runs"] == [run.name]
    assert json.loads(lineage)["inputs"] == {"seed": 0}
    published = json.loads((run.path / "state.json").read_text())["about"]["published"]
    assert len(published) == 2
    assert published[-1] == hashlib.md5(lineage, usedforsecurity=False).hexdigest()
