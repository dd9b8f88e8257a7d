"""How commands end: sentences, exit codes, and no write that was begun is cut short."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows import ending
from flows.ending import Stopped, finish_first, stoppable
from flows.run_journal import RunJournal
from nas.architecture import Architecture
from nas.journal import FileJournal
from nas.trial import Proposal, Report, Score, Trial


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_sentence_and_an_exit_code(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, stoppable():
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == "nasflow: stopped: run the same command again to continue\n"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_what_was_begun(number: signal.Signals) -> None:
    steps = []

    def work() -> None:
        with finish_first():
            steps.append("begun")
            signal.raise_signal(number)
            os.kill(os.getpid(), number)  # a second one changes nothing
            steps.append("ended")
        steps.append("beyond")

    with pytest.raises(SystemExit) as ended, stoppable():
        work()
    assert steps == ["begun", "ended"]
    assert ended.value.code == 128 + number


def test_a_signal_that_a_finalizer_swallows_comes_again() -> None:
    """Python only prints what is raised in `__del__`; the signal would be gone, and no later one would be heard."""

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def work() -> None:
        Finalized()
        time.sleep(10)

    hook = sys.unraisablehook
    with pytest.raises(SystemExit) as ended, stoppable():
        work()
    assert ended.value.code == 143
    assert sys.unraisablehook is hook


def test_outside_of_a_command_ctrl_c_stays_what_it_is() -> None:
    done = []

    def work() -> None:
        with finish_first():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done


def test_an_error_inside_comes_out() -> None:
    with pytest.raises(ValueError, match="disk"), finish_first():
        raise ValueError("disk")


def test_another_thread_is_left_alone() -> None:
    handlers = []

    def work() -> None:
        with finish_first():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


def test_a_signal_in_the_middle_of_a_commit_leaves_a_whole_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fdatasync
    with FileJournal(tmp_path, fingerprint="one") as inner:
        journal = RunJournal(inner)
        journal.resume()
        for number in range(2):
            journal.append(Trial(number, Proposal(Architecture({"a": "x"})), Report({"accuracy": 0.5}), Score(0.0, (0.5,))))
        monkeypatch.setattr(os, "fdatasync", lambda handle: (signal.raise_signal(signal.SIGTERM), sync(handle)))
        with pytest.raises(SystemExit), stoppable():
            journal.commit([], {})
    monkeypatch.undo()
    with FileJournal(tmp_path, fingerprint="one") as again:
        assert [trial.number for trial in RunJournal(again).resume().trials] == [0, 1]


def test_an_error_becomes_a_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASFLOW_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as ended, ending.errors():
        raise ValueError("seed is -1: use 0 or more")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "nasflow: seed is -1: use 0 or more\n"
    with pytest.raises(Stopped), ending.errors():
        raise Stopped(signal.SIGTERM)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "a file cannot be written, because no space is left on the disk; results that were there are kept: make room, ",
        ),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS), "/there/lock"),
            "/there/lock cannot be used, because the disk is read-only; results that were there are kept: make it writable or work in "
            "another folder, ",
        ),
    ],
)
def test_a_disk_that_refuses_is_told_in_a_sentence(error: OSError, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, ending.errors():
        raise error
    assert (ended.value.code, capsys.readouterr().err) == (1, f"nasflow: {sentence}then run the same command again\n")


@pytest.mark.parametrize("buffered", [True, False])
def test_output_that_nobody_reads_any_more_ends_a_command_without_a_word(buffered: bool, tmp_path: Path) -> None:
    """As in `nasflow runs | head -1`, here with a reader that is gone from the start."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment = kept if buffered else {**kept, "PYTHONUNBUFFERED": "1"}
    command, pipes = [sys.executable, "-m", "flows.cli", "runs"], {"stderr": subprocess.PIPE, "text": True}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as output:
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=output, check=False, **pipes)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (1, "")
