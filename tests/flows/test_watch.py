"""`nasflow watch`: what it says is what the files hold; it takes no lock, writes nothing, and ends with the search."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows import console, locks, run_state, watching
from flows.cli import app
from flows.commands import watch
from flows.watching import Glance, Leader, Watcher
from nas.architecture import Architecture
from nas.journal import FileJournal
from nas.trial import Proposal, Report, Score, Trial

GLANCE = Glance("ab" * 8, "running", "", "2026-01-02 03:04:05", 4, 32, 1, ("accuracy",), (), {"time": 1}, 8.0)


def scored(number: int, accuracy: float, steps: int | None = None) -> Trial:
    architecture = Architecture({"a": "[x]"})
    return Trial(number, Proposal(architecture, steps), Report({"accuracy": accuracy, "parameters": 1500}), Score(0.0, (accuracy,)))


TRIALS = [
    scored(0, 0.5),
    Trial(1, Proposal(Architecture({"a": "[x]"})), Report(error="too slow", kind="time")),
    Trial(2, Proposal(Architecture({"a": "[x]"})), Report(error="too large", kind="constraint"), Score(-1.0, ())),
    *(scored(number, 0.9) for number in range(3, 9)),
]


def make_run(root: Path, name: str, state: str = run_state.RUNNING, trials: list[Trial] | None = None, **about: Any) -> Path:
    """A search on disk, as its process leaves it."""
    folder = root / ".nasflow" / f"search-{name * 16}"
    folder.mkdir(parents=True)
    told = {"name": state, "began": locks.now(), "about": {"trials": 32, "metric": "accuracy", "looks": 0, **about}}
    (folder / run_state.FILE).write_text(json.dumps(locks.this_process() | told))
    with FileJournal(folder, fingerprint=name * 16) as journal:
        journal.resume()
        for trial in TRIALS if trials is None else trials:
            journal.append(trial)
        journal.commit([], {})
    return folder


def looked(root: Path) -> Glance:
    seen = Watcher(root).look()
    assert seen is not None
    return seen


def test_a_glance_tells_what_the_journal_holds(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    seen = looked(tmp_path)
    assert (seen.fingerprint, seen.state, seen.done, seen.planned, seen.rejected) == ("a" * 16, "running", 8, 32, 1)
    assert (seen.metrics, dict(seen.failed), seen.per_minute, seen.left) == (("accuracy",), {"time": 1}, None, None)
    assert [leader.trial for leader in seen.leaders] == [3, 4, 5, 6, 7], "of equal ones the first"
    assert seen.leaders[0] == Leader(3, (0.9,), 1500, {"a": "[x]"})


def test_where_trials_only_train_shared_weights_the_looks_lead(tmp_path: Path) -> None:
    make_run(tmp_path, "a", trials=[scored(0, 0.9, steps=1), scored(1, 0.4, steps=0)], looks=20)
    seen = looked(tmp_path)
    assert ([leader.trial for leader in seen.leaders], seen.planned) == ([1], 52)


def test_nothing_is_written_and_no_lock_is_taken(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a")

    def everything() -> dict[str, tuple[bytes, int]]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    with locks.exclusive(folder):
        before = everything()
        assert looked(tmp_path).done == 8
        assert everything() == before
    assert "/lock" not in "".join(opened_by(tmp_path)), "not even for an instant: the search would wait for it"


def opened_by(root: Path) -> list[str]:
    """The files of a project that a look opens."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom flows.watching import Watcher\nopened = []\n"
        "sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == 'open' else None)\n"
        "Watcher(Path(sys.argv[1])).look()\nprint(*(name for name in opened if name.startswith(sys.argv[1])), sep='\\n')"
    )
    run = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert "journal.jsonl" in run.stdout
    return run.stdout.splitlines()


def test_a_line_that_is_being_written_is_left_for_the_next_look(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "a")
    watcher = Watcher(tmp_path)
    assert watcher.look().done == 8  # type: ignore[union-attr]
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'0000 {"trial": {"numb')
    assert watcher.look() == replace(looked(tmp_path), done=8, note="")
    (folder / "journal.jsonl").write_text("nonsense\n" * 3)
    assert "damaged" in looked(tmp_path).note


def test_a_search_is_read_again_only_when_it_came_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path, "a")
    reads: list[Path] = []
    real = watching.journal.read
    monkeypatch.setattr(watching.journal, "read", lambda path: [reads.append(path), real(path)][1])
    watcher = Watcher(tmp_path)
    for _ in range(3):
        watcher.look()
    assert reads == [folder]


def test_the_search_that_runs_is_shown_before_one_that_changed_later(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, "a"), make_run(tmp_path, "b", run_state.FINISHED)
    os.utime(first / "journal.jsonl", (0, 0))
    assert looked(tmp_path).fingerprint == "a" * 16
    state = json.loads((first / run_state.FILE).read_text())
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    (first / run_state.FILE).write_text(json.dumps(state | {"pid": gone.pid}))
    os.utime(first / run_state.FILE, (1, 1))
    assert looked(tmp_path).fingerprint == "b" * 16
    os.utime(second / "journal.jsonl", (0, 0))
    os.utime(second / run_state.FILE, (0, 0))
    assert (looked(tmp_path).fingerprint, looked(tmp_path).state) == ("a" * 16, "killed")
    (first / run_state.FILE).write_text(json.dumps(state | {"pid": gone.pid, "host": "elsewhere"}))
    assert looked(tmp_path).state == "running", "who cannot be asked is believed"


def test_the_pace_is_that_of_the_states_that_the_stage_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("flows.console.time.time", lambda: clock[0])
    monkeypatch.setattr("flows.console._FILE_SECONDS", -1.0)
    with console.progress(tmp_path, "search", 100) as report:
        for done in range(1, 11):
            report(done, "")  # those of an earlier process
        for done in range(11, 14):
            clock[0] += 6
            report(done, "")
    points = watching._points(tmp_path / ".nasflow" / "progress" / "search.json", 1000.0)
    assert points == [(1000.0, 10), (1006.0, 11), (1012.0, 12), (1018.0, 13)]
    assert watching._per_minute(points, 1018.0) == watching._per_minute(points, 1024.0) == pytest.approx(10.0)
    assert watching._per_minute(points, 1042.0) == pytest.approx(5.0), "the trial that runs takes five times as long"
    assert watching._points(tmp_path / ".nasflow" / "progress" / "search.json", 1001.0) == [], "an earlier run wrote it"
    assert watching._per_minute(points[:1], 1018.0) is None
    assert replace(GLANCE, done=12, per_minute=10.0).left == pytest.approx(120.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min"), (150, "2 min 30 s"), (3600, "1 h"), (7500, "2 h 5 min"), (90000, "1 d 1 h"), (86399, "23 h 59 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert watch.duration(seconds) == words


def test_once_prints_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["watch", "--once"]).stdout == "no searches yet: `nasflow run` begins one\n"
    make_run(tmp_path, "a")
    result = CliRunner().invoke(app, ["watch", "--once"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"search {'a' * 16}"
    assert "8/32 trials, 1 rejected" in lines[2]
    assert "accuracy 0.9 (trial 3)" in lines[3]
    assert "1 failed: 1 time" in lines[4]
    assert lines[5].split() == ["trial", "accuracy", "parameters", "architecture"]
    assert lines[6].split() == ["3", "0.9", "1,500", "a", "[x]"]


def test_it_ends_with_the_search(capsys: pytest.CaptureFixture[str]) -> None:
    moments: Iterator[Glance | None] = iter([GLANCE, None, replace(GLANCE, done=5), replace(GLANCE, done=32, state="finished")])
    watch._follow_plainly(lambda: next(moments), GLANCE, 0.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "4/32 trials, 1 rejected | 8 per minute, 3 min 30 s left | 1 failed: 1 time",
        "5/32 trials, 1 rejected | 8 per minute, 3 min 22 s left | 1 failed: 1 time",
    ]
    assert lines[2] == f"search {'ab' * 8}", "then the whole, once"
    assert next(moments, "none") == "none"


def test_the_screen_shows_names_in_brackets_as_they_are() -> None:
    seen = replace(GLANCE, leaders=(Leader(3, (0.91234,), 1500, {"a": "[x]"}),), note="the file [red] is gone")
    shown = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    shown.print(watch._screen(seen, 100, 24))
    text = shown.export_text()
    for part in ("search abab", "4/32 trials", "8 per minute, 3 min 30 s left", "0.9123", "a [x]", "the file [red] is gone"):
        assert part in text


CHOICES = {f"stage_{stage}.block_{block}.{name}": "1" for stage in range(2) for block in range(2) for name in ("kernel", "expansion")}
LEADERS = (
    Leader(17, (0.98765, 0.0712), 1_234_567, CHOICES),
    Leader(3, (0.95, 0.0312), 86_490, {**CHOICES, "stage_1.block_0.kernel": "5", "stage_1.block_1.kernel": "7"}),
    Leader(9, (0.9, 0.03), 86_490, CHOICES),
)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_figures_keep_their_width_in_a_narrow_terminal_and_architectures_give_way(width: int) -> None:
    seen = replace(GLANCE, metrics=("accuracy", "latency_ms"), leaders=LEADERS)
    shown = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    shown.print(watch._screen(seen, width, 60))
    lines = [line.rstrip() for line in shown.export_text().splitlines()]
    assert max(map(len, lines)) <= width
    assert lines[2].split() == ["state", "running", "since", "2026-01-02", "03:04:05"], "below the bar"
    [head] = [at for at, line in enumerate(lines) if line.startswith("trial ")]
    assert lines[head].split() == ["trial", "accuracy", "latency_ms", "parameters", "architecture"]
    figures = [line.split()[:4] for line in lines[head + 1 :] if line[0] != " "]
    assert figures == [["17", "0.9877", "0.0712", "1,234,567"], ["3", "0.95", "0.0312", "86,490"], ["9", "0.9", "0.03", "86,490"]]
    told = " ".join(" ".join(lines[head + 1 :]).split())
    assert "as 17, but" in told, "of the others what is different"
    assert lines[-1].endswith("as 17")
    assert "kernel 7" in told
    assert "…" not in told


def test_the_screen_is_no_higher_than_the_terminal() -> None:
    seen = replace(GLANCE, metrics=("accuracy", "latency_ms"), leaders=LEADERS, note="a note")
    shown = Console(width=60, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    shown.print(watch._screen(seen, 60, 14))
    lines = [line.rstrip() for line in shown.export_text().splitlines()]
    assert len(lines) <= 14
    assert sum("…" in line for line in lines) == 2, "what is cut says so"


def test_a_search_that_has_ended_is_left_on_the_screen_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "14")
    monkeypatch.setenv("FORCE_COLOR", "1")
    seen = replace(GLANCE, metrics=("accuracy", "latency_ms"), leaders=LEADERS)
    watch._follow_live(lambda: replace(seen, state="finished"), seen, 0.0)
    first, _, last = capsys.readouterr().out.partition("finished")
    assert "…" in first
    assert "…" not in last


def test_a_file_gets_every_leader_in_one_line() -> None:
    header, leaders = watch.board(replace(GLANCE, metrics=("parameters",), leaders=(replace(LEADERS[0], values=(1_234_567.0,)),)))
    assert header == ["trial", "parameters", "architecture"], "what is searched for is not told twice"
    assert leaders[0][:2] == ["17", "1,234,567"]
    assert leaders[0][2].startswith("stage_0.block_0: kernel 1, expansion 1; stage_0.block_1: ")


def test_a_search_tells_all_its_objectives(tmp_path: Path) -> None:
    make_run(tmp_path, "a", metrics=["-parameters", "accuracy"])
    seen = looked(tmp_path)
    assert (seen.metrics, seen.leaders[0].values) == (("parameters", "accuracy"), (1500, 0.9))
    assert ("best", "parameters 1,500, accuracy 0.9 (trial 3)") in watch.rows(seen)


def test_a_real_search_is_watched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state changes under the eyes of the command."""
    monkeypatch.chdir(tmp_path)
    folder = make_run(tmp_path, "a", trials=TRIALS[:2])
    state = json.loads((folder / run_state.FILE).read_text())
    asleep: list[float] = []

    def sleep(seconds: float) -> None:
        asleep.append(seconds)
        (folder / run_state.FILE).write_text(json.dumps(state | {"name": "paused", "reason": "SIGINT"}))

    monkeypatch.setattr(time, "sleep", sleep)
    result = CliRunner().invoke(app, ["watch", "--every", "0.2"])
    assert (result.exit_code, asleep) == (0, [0.2])
    assert "paused since" in result.stdout
    assert "SIGINT" in result.stdout
