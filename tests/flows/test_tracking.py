"""Sessions: outcomes, messages, the lock, and that no process outlives what started it."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fake_project import Project, until

from flows import ending, printing, processes, run_folder, tracking
from flows.tracking import Outcome


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    for name in [name for name in os.environ if name.startswith(("PREFECT", "NASFLOW", "DVC"))]:
        monkeypatch.delenv(name)


def test_outcomes_lines_and_order(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert tracking.stages(project.root) == ["prepare", "search", "train", "export"]
    lines: list[str] = []
    with tracking.session(project.root) as session:
        assert session.reproduce("prepare", on_line=lines.append).outcome is Outcome.RAN
        assert lines == ["prepare starts"]
        assert session.reproduce("prepare").outcome is Outcome.CACHED
        project.write(prepare={"steps": 1})
        assert session.reproduce("prepare").outcome is Outcome.RAN
        project.write()
        assert session.reproduce("prepare").outcome is Outcome.RESTORED
        assert session.reproduce("prepare", force=True).outcome is Outcome.RAN
        with tracking.session(project.root) as inner:
            assert inner is session
    assert capsys.readouterr().out.count("prepare starts") == 3
    assert set(tracking.status(project.root)) == {"search", "train", "export"}


def test_failures_say_why_and_leave_the_session_usable(project: Project) -> None:
    project.write(prepare={"wrong": True})
    with tracking.session(project.root) as session:
        with pytest.raises(tracking.StageError) as caught:
            session.reproduce("prepare")
        assert str(caught.value) == "ValueError: prepare.wrong: true is refused"
        with pytest.raises(tracking.TrackingError, match=r"results/train/value.txt|results.train"):
            session.reproduce("export")
        project.write()
        assert session.reproduce("prepare").outcome is Outcome.RAN


def test_an_exception_ends_every_process(project: Project) -> None:
    project.write(prepare={"steps": 300})

    def refuse(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tracking.session(project.root) as session:
        session.reproduce("prepare", on_line=refuse)
    assert [process.pid for process in project.processes() if process.pid != os.getpid()] == []
    with tracking.session(project.root):
        pass


def test_a_killed_keeper_takes_dvc_and_the_stage_with_it(project: Project) -> None:
    project.write(prepare={"steps": 300})
    keepers: list[int] = []

    def kill(line: str) -> None:
        if not keepers:
            keepers.extend(process.pid for process in psutil.Process().children() if "keeper" in " ".join(process.cmdline()))
            os.kill(keepers[0], signal.SIGKILL)

    with tracking.session(project.root) as session, pytest.raises(tracking.TrackingError, match="ended unexpectedly"):
        session.reproduce("prepare", on_line=kill)
    until(lambda: not project.processes(), 5)


@pytest.mark.parametrize("shell", ["/bin/sh", shutil.which("bash")])  # some stay between DVC and the stage, some make room for it
def test_another_dvc_is_waited_for_by_name(project: Project, shell: str | None) -> None:
    if shell is None:
        pytest.skip("there is no bash on this machine")
    project.write(prepare={"steps": 300})
    environment = {**project.environment, "SHELL": shell}
    other = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "-q"], cwd=project.root, env=environment)
    try:
        until(lambda: project.journal("prepare"))
        with tracking.session(project.root) as session, pytest.raises(tracking.BusyError, match=rf"(?s)busy.*PID {other.pid}"):
            session.reproduce("prepare")
        with pytest.raises(tracking.BusyError, match="busy"):
            tracking.status(project.root)
        with pytest.raises(tracking.BusyError, match=rf"\(process {other.pid}\) works on this project"), tracking.editing(project.root):
            pass
    finally:
        other.kill()
        other.wait()
    until(lambda: not project.processes(), 5)  # killed DVC: the stage noticed by itself
    with tracking.editing(project.root):
        pass


def test_a_run_lets_its_own_processes_edit_and_no_others(tmp_path: Path) -> None:
    program = "import pathlib; from flows import tracking\nwith tracking.editing(pathlib.Path('.')):\n print('edited')"
    outer = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {program!r}]))"
    with tracking.lock(tmp_path):
        child = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
        other = subprocess.run([sys.executable, "-c", outer], cwd=tmp_path, capture_output=True, text=True, check=False)
        with pytest.raises(tracking.BusyError, match="works on this project"), tracking.editing(tmp_path):
            pass
    assert (child.returncode, child.stdout) == (0, "edited\n")
    assert other.returncode == 1
    assert "BusyError" in other.stderr


def test_whoever_is_refused_is_told_the_command_and_not_the_keeper(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = "{cmd: cp .dvc/tmp/rwlock seen.json, deps: [stage.py], outs: [seen.json]}"
    (project.root / "dvc.yaml").write_text(f"stages: {{prepare: {stage}}}\n")
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/nasflow", "run", "search"])
    with tracking.session(project.root) as session:
        session.reproduce("prepare")
    [seen] = json.loads((project.root / "seen.json").read_text())["write"].values()
    assert seen["cmd"] == "nasflow run search"


def test_who_works_for_prefect_is_not_to_be_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processes.SERVER, "7")
    with tracking.lock(tmp_path), pytest.raises(tracking.BusyError) as busy, tracking.lock(tmp_path):
        pass
    assert str(busy.value).startswith(f"a run of `nasflow serve` (process {os.getpid()}) works on this project since ")
    assert str(busy.value).endswith("Wait until it is done, or cancel it in Prefect's pages.")


def test_between_stages_dvc_holds_off_edits(project: Project) -> None:
    handle = os.open(project.root / ".dvc" / "tmp" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(tracking.BusyError, match="DVC works on this project"), tracking.editing(project.root):
        pass
    os.close(handle)


def test_lock_names_its_holder_and_waits_when_asked(tmp_path: Path) -> None:
    body = "with tracking.lock(pathlib.Path('.')):\n print('held', flush=True); time.sleep(1)"
    program = f"import time, pathlib; from flows import tracking\n{body}"
    with subprocess.Popen([sys.executable, "-c", program, "here"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(tracking.BusyError, match=rf"`-c here` \(process {holder.pid}\) works on .* since .*`kill {holder.pid}`"),
            tracking.lock(tmp_path),
        ):
            pass
        start = time.monotonic()
        with tracking.lock(tmp_path, wait_seconds=20):
            assert time.monotonic() - start > 0.3


def test_stages_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages:\n  a: {cmd: x, deps: [d/b], outs: [a]}\n  b: {cmd: x, deps: [a], outs: [d]}\n")
    with pytest.raises(ValueError, match=r"in a circle: . -> . -> ."):
        tracking.stages(tmp_path)


def test_printed_text_becomes_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    printed = printing.Printed(lines.append)
    text = "\x1b[31mred\x1b[0m\r\n10 %\r20 %\n\x1b[2Kdrawn\nTraceback:\n  frame\nx.FooError: é\n  more\n\n"
    for byte in text.encode():
        printed.feed(bytes([byte]))
    printed.feed(b"end")
    printed.end()
    assert lines == ["red", "Traceback:", "  frame", "x.FooError: é", "  more", "", "end"]
    assert printed.last_error() == "x.FooError: é\n  more\nend"
    assert capsys.readouterr().out == text + "end"


def test_the_message_of_a_stage_keeps_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    causes = [f"train: setting train.a{number} was 1 when the stage read it, is now 2: it was changed." for number in range(20)]
    monkeypatch.setattr(run_folder, "changes", lambda root, record: causes[:count])
    for count in (1, 2, 20):
        with pytest.raises(SystemExit), ending.errors(), run_folder.publish(tmp_path, "train", {"stage": "train"}):
            pass
        text = capsys.readouterr().err
        printed = printing.Printed(None)
        printed.feed(f"train: 1/3\nError: an old one\n{text}".encode())
        printed.end()
        lines = printed.last_error().splitlines()
        assert lines[0] == causes[0]
        assert lines[-1] == "nothing was published: run the stage again"
        assert len(lines) == min(count + 1, 12)
        printed.feed(b"Traceback (most recent call last):\n  frame\nValueError: later\n")
        assert printed.last_error() == "ValueError: later"


@pytest.mark.parametrize("shell", ["{0}", "{0}; true"])
def test_a_process_dies_with_its_parent_even_behind_a_shell(tmp_path: Path, shell: str) -> None:
    (tmp_path / "child.py").write_text(
        "from flows import processes\nprocesses.die_with_parent()\nprint('up', flush=True)\nimport time\ntime.sleep(60)\n"
    )
    parent = (
        "import os, subprocess, sys\nos.environ['NASFLOW_PARENT'] = str(os.getpid())\n"
        f"subprocess.run({shell.format(sys.executable + ' child.py')!r}, shell=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
    until(lambda: not Project(tmp_path, {}).processes(), 5)


@pytest.mark.parametrize("shell", ["{0}", "{0}; true"])
@pytest.mark.parametrize("deaf", [False, True])
def test_a_stage_whose_parent_was_ended_stops_as_if_it_was_meant_and_is_killed_when_it_does_not(
    tmp_path: Path, shell: str, deaf: bool
) -> None:
    """DVC ends at SIGTERM and does not pass it on."""
    (tmp_path / "child.py").write_text(
        "import pathlib, signal, time\nfrom flows import ending, processes\nprocesses._GENTLE_SECONDS = 3.0\n"
        "processes.die_with_parent(gently=True)\nwith ending.stoppable():\n"
        f"    {'signal.signal(signal.SIGTERM, signal.SIG_IGN)' if deaf else 'pass'}\n"
        "    print('up', flush=True)\n    try:\n        time.sleep(60)\n    finally:\n        pathlib.Path('ended').touch()\n"
    )
    parent = (
        "import os, subprocess, sys\nos.environ['NASFLOW_PARENT'] = str(os.getpid())\n"
        f"subprocess.run({shell.format(sys.executable + ' child.py')!r}, shell=True)\n"
    )
    command, pipes = [sys.executable, "-c", parent], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process: subprocess.Popen[str] = subprocess.Popen(command, cwd=tmp_path, **pipes)  # type: ignore[call-overload]
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    process.wait()
    until(lambda: not Project(tmp_path, {}).processes(), 15)
    assert (tmp_path / "ended").exists() != deaf
    said = process.communicate(timeout=10)[1]
    assert deaf or said == "nasflow: stopped: run the same command again to continue\n"


def test_with_parent_runs_the_command(tmp_path: Path) -> None:
    done = subprocess.run(processes.with_parent([sys.executable, "-c", "print(1)"]), capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
