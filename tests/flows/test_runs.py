"""`nasflow runs`: the list tells the truth, and what is removed is what nobody needs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from recorded_project import inside, nasflow

from flows import environment, locks, run_folder, runs
from flows.commands import runs as command
from flows.run_folder import RunFolder, hold, origin, publish
from nas.architecture import Architecture
from nas.journal import FileJournal
from nas.trial import Proposal, Report, Score, Trial

HOLDER = """
import sys, time
from pathlib import Path
from flows.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "present", lambda device: {"torch": "2.13.0", "device": device})
    monkeypatch.setattr(run_folder, "changes", lambda root, record: [])


def a_trial(number: int, accuracy: float, steps: int | None = None) -> Trial:
    return Trial(number, Proposal(Architecture({"a": "x"}), steps), Report({"accuracy": accuracy}), Score(0.0, (accuracy,)))


def searched(root: Path, seed: int, trials: list[Trial], about: Mapping[str, Any] | None = None, fails: bool = False) -> RunFolder:
    """A run of a search with these trials."""
    with (
        pytest.raises(ValueError, match="as asked") if fails else run_folder.contextlib.nullcontext(),
        hold(root, "search", {"seed": seed}, {"trials": 3, "metric": "accuracy", **(about or {})}) as run,
        FileJournal(run.path, fingerprint="x") as journal,
    ):
        journal.resume()
        for trial in trials:
            journal.append(trial)
        journal.commit([], {})
        if fails:
            raise ValueError("as asked")
    return run


def names(root: Path) -> set[str]:
    return {path.name for path in (root / ".nasflow").iterdir() if path.name.startswith(("search", "train", "removed"))}


def test_a_list_says_what_each_run_is(tmp_path: Path) -> None:
    with inside(tmp_path):
        assert nasflow("runs").output == "no runs yet: `nasflow run` begins one\n"
        rejected = Trial(1, Proposal(Architecture({"a": "x"})), Report({}, error="too large"), Score(-1.0, ()))
        first = searched(tmp_path, 0, [a_trial(0, 0.25), rejected, a_trial(2, 0.75)])
        second = searched(tmp_path, 1, [a_trial(0, 0.9, 1), a_trial(1, 0.5, 0)], {"looks": 1}, fails=True)
        with hold(tmp_path, "train", {"settings": {"seeds": [0, 1, 2]}}, {"metric": "accuracy", "best": 0.875}) as third:
            (third.path / "seed-0.safetensors").write_bytes(b"0" * 5000)
            rows = {line.split()[1]: line.split() for line in nasflow("runs").output.splitlines()}
            assert rows[third.fingerprint][:7] == ["train", third.fingerprint, "running", "1/3", "seeds", "accuracy", "0.875"]
        assert rows[first.fingerprint][:7] == ["search", first.fingerprint, "finished", "2/3", "trials", "accuracy", "0.75"]
        assert rows[second.fingerprint][:7] == ["search", second.fingerprint, "failed", "1/3", "trials", "accuracy", "0.5"]
        said = nasflow("runs").output
        assert f"{second.name} has failed: ValueError: as asked" in said
        listed = {entry["fingerprint"]: entry for entry in json.loads(nasflow("runs", "--json").output)}
        assert listed[first.fingerprint]["best"] == 0.75
        assert listed[third.fingerprint]["bytes"] >= 5000
        assert listed[third.fingerprint]["state"] == "finished"


def test_a_damaged_journal_is_named_in_the_list(tmp_path: Path) -> None:
    run = searched(tmp_path, 0, [a_trial(0, 0.25), a_trial(1, 0.5)])
    path = run.path / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"torn\n", *lines[2:]]))
    [found] = runs.find(tmp_path)
    assert found.done is None
    assert "line 2 is damaged" in found.note


def test_only_finished_runs_that_nobody_needs_are_removed(tmp_path: Path) -> None:
    found = searched(tmp_path, 0, [])
    with publish(tmp_path, "search", {"stage": "search"} | origin(found)):
        pass
    stale, failed, warm = searched(tmp_path, 1, []), searched(tmp_path, 2, [], fails=True), searched(tmp_path, 3, [])
    named, older = searched(tmp_path, 4, []), searched(tmp_path, 5, [])
    (tmp_path / "params.yaml").write_text(f"search: [{{warm_start: [.nasflow/{warm.name}]}}, {{warm_start: [{named.path}/journal.jsonl]}}]")
    (tmp_path / "results" / "train").mkdir()
    (tmp_path / "results" / "train" / "architecture.json").write_text(json.dumps({"search": older.fingerprint}))
    with inside(tmp_path):
        dry = nasflow("runs", "clean", "--dry-run").output
        assert f"would remove {stale.name}: finished" in dry
        assert f"keeps {found.name}: needed by results/search" in dry
        assert f"keeps {failed.name}: it has failed: `--all` removes those, too" in dry
        assert names(tmp_path) == {run.name for run in (found, stale, failed, warm, named, older)}
        unasked = nasflow("runs", "clean")
        assert unasked.code == 1
        assert unasked.errors == "nasflow: nothing was removed: nobody can be asked here, so say `--yes`\n"
        assert "freed" in nasflow("runs", "clean", "--yes").output
        assert names(tmp_path) == {run.name for run in (found, failed, warm, named, older)}
        with hold(tmp_path, "search", {"seed": 9}) as running:
            nasflow("runs", "clean", "--all", "--yes")
            assert names(tmp_path) == {run.name for run in (found, warm, named, older, running)}
        assert f"to remove {running.name}: finished" in nasflow("runs", "clean", "--yes").output


def test_a_person_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(command.sys, "stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)}))
    monkeypatch.setattr(command.typer, "confirm", lambda text, abort: asked.append((text, abort)))
    command._confirm(2, False)
    command._confirm(1, True)
    assert asked == [("Remove 2 runs?", True)]


def test_results_that_dvc_put_aside_still_need_their_run(tmp_path: Path) -> None:
    run = searched(tmp_path, 0, [])
    with hold(tmp_path, "search", {"seed": 0}), publish(tmp_path, "search", {"stage": "search"} | origin(run)) as folder:
        pass
    assert not folder.exists()
    lineage = (tmp_path / "results" / "search" / "lineage.json").read_bytes()
    shutil.rmtree(tmp_path / "results")
    assert [decision.kept for decision in runs.decide(tmp_path, False)] == [""]
    digest = run_folder.hashlib.md5(lineage, usedforsecurity=False).hexdigest()
    out = {"path": "results/search/lineage.json", "md5": digest}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"search": {"cmd": "x", "outs": [out]}}}))
    assert [decision.kept for decision in runs.decide(tmp_path, False)] == ["needed by dvc.lock"]


def test_what_cannot_be_read_removes_nothing(tmp_path: Path) -> None:
    run = searched(tmp_path, 0, [])
    (tmp_path / "params.yaml").write_text("search: [")
    with inside(tmp_path):
        answer = nasflow("runs", "clean", "--yes")
    assert answer.code == 1
    assert "params.yaml is not valid YAML, so nobody knows which runs it names" in answer.errors
    assert names(tmp_path) == {run.name}


def test_a_run_that_was_taken_up_or_published_meanwhile_is_kept(tmp_path: Path) -> None:
    run = searched(tmp_path, 0, [])
    [found] = runs.find(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert runs.remove(tmp_path, found) == 0
    holder.kill()
    holder.wait()
    (tmp_path / "results" / "search").mkdir(parents=True)
    (tmp_path / "results" / "search" / "lineage.json").write_text(json.dumps({"runs": [run.name]}))
    assert runs.remove(tmp_path, found) == 0
    shutil.rmtree(tmp_path / "results")
    assert runs.remove(tmp_path, found) > 0
    assert runs.remove(tmp_path, found) == 0
    assert names(tmp_path) == set()


def test_a_kill_in_the_middle_leaves_no_half_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = searched(tmp_path, 0, [a_trial(0, 0.25)])
    [found] = runs.find(tmp_path)

    def killed(path: Path, ignore_errors: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.remove(tmp_path, found)
    assert names(tmp_path) == {f"removed-{run.name}"}
    assert runs.find(tmp_path) == []
    monkeypatch.undo()
    again = searched(tmp_path, 0, [])
    assert not locks.is_held(again.path)
    [found] = runs.find(tmp_path)
    assert found.done == 0  # a run of its own, not what was half removed
    runs.remove(tmp_path, found)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (5 * 1024**2, "5.0 MiB"), (2**41, "2048.0 GiB")]
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert command._size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (3599, "60 min"), (7300, "2 h"), (200000, "2 d")])
def test_ages_are_for_people(seconds: float, text: str) -> None:
    assert command._age(seconds) == text


def test_a_training_that_was_killed_at_its_very_start_is_listed(tmp_path: Path) -> None:
    folder = tmp_path / ".nasflow" / f"train-{'0' * 16}"
    with locks.exclusive(folder):
        pass
    [run] = runs.find(tmp_path)
    assert (run.done, run.planned, run.note) == (0, None, "")


def test_damaged_results_remove_nothing(tmp_path: Path) -> None:
    run = searched(tmp_path, 0, [a_trial(0, 0.5)])
    path = tmp_path / "results" / "search" / "lineage.json"
    path.parent.mkdir(parents=True)
    path.write_text(f'{{"runs": ["{run.name}"')
    with inside(tmp_path):
        answer = nasflow("runs", "clean", "--yes")
    assert (answer.code, "is damaged, so nobody knows which runs it names" in answer.errors) == (1, True)
    assert names(tmp_path) == {run.name}


def test_a_run_that_goes_while_it_is_listed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, kept = (searched(tmp_path, seed, [a_trial(0, 0.5)]) for seed in (0, 1))
    read = runs._read

    def removing(folder: Path, *words: Any) -> runs.Run:
        if folder == gone.path:
            shutil.rmtree(folder)
        return read(folder, *words)

    monkeypatch.setattr(runs, "_read", removing)
    assert [run.name for run in runs.find(tmp_path)] == [kept.name]


def test_names_stay_whole_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    row = ["search", "0123456789abcdef", "finished", "32/32 trials", "accuracy 0.9732", "452.4 MiB", "24 min ago"]
    command._show([[*row, "results/search, results/train, params.yaml"]])
    said = capsys.readouterr().out
    assert all(word in said for word in ("0123456789abcdef", "finished", "results/search,", "results/train,", "params.yaml"))
    assert "\u2026" not in said


def test_a_long_reason_is_cut_in_the_list_and_whole_in_json(tmp_path: Path) -> None:
    reason = "it has no row for " + "stage_0.width 8, " * 60
    with pytest.raises(RuntimeError), hold(tmp_path, "search", {"seed": 0}):
        raise RuntimeError(reason)
    with inside(tmp_path):
        last = nasflow("runs").output.splitlines()[-1]
        assert (len(last) < 320, last.endswith("… (`nasflow runs --json` has all of it)")) == (True, True)
        assert reason.strip() in json.loads(nasflow("runs", "--json").output)[0]["note"]
