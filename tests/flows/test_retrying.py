"""What the machine is at fault for is tried again, later and later; what the settings are at fault for never."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from fake_project import Project

from flows import retrying, tracking
from flows.ending import TEMPORARY


def tried(outcomes: list[str | None], retries: int) -> tuple[str | None, list[float], list[str]]:
    """The last outcome of tries that end so, the waits between them, and what was said; None is a good end."""
    left, slept, said = iter(outcomes), list[float](), list[str]()
    last = retrying.persist(lambda: next(left), lambda outcome: outcome, retrying.pauses(retries, 30.0), said.append, slept.append)
    return last, slept, said


def test_tries_end_with_the_first_good_one() -> None:
    last, slept, said = tried(["the disk is full.", "the server is gone.", None], 3)
    assert (last, slept) == (None, [30.0, 60.0])
    assert said == ["the disk is full. Trying again in 30 s.", "the server is gone. Trying again in 60 s."]


def test_tries_are_counted_and_the_last_reason_stays() -> None:
    assert tried(["one", "two", "three"], 1)[:2] == ("two", [30.0])
    assert tried(["one"], 0)[:2] == ("one", [])


def test_no_wait_is_longer_than_an_hour() -> None:
    waits = list(itertools.islice(retrying.pauses(40, 30.0), 40))
    assert waits[:3] == [30.0, 60.0, 120.0]
    assert max(waits) == waits[-1] == 3600.0


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (tracking.BusyError("b"), True),
        (tracking.GoneError("g"), True),
        (tracking.ServerLostError("s"), True),
        (tracking.StageError("a wrong setting"), False),
        (tracking.TooLongError("t"), False),
        (tracking.TrackingError("DVC refuses"), False),
        (ValueError("v"), False),
    ],
)
def test_only_what_may_be_over_is_worth_another_try(error: Exception, passing: bool) -> None:
    assert retrying.is_passing(error) is passing


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_dvc_tells_a_stage_that_failed_from_one_that_the_machine_failed(
    project: Project, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", shell)  # it is DVC's choice, and each has words of its own for a program that was killed
    programs = {
        "import sys; sys.exit('nasflow: search.trials is wrong')": tracking.StageError,
        f"import sys; print('nasflow: the disk is full', file=sys.stderr); sys.exit({TEMPORARY})": tracking.GoneError,
        "import os; print('nasflow: begun', flush=True); os.kill(os.getpid(), 9)": tracking.GoneError,
    }
    with tracking.session(project.root) as session:
        for program, kind in programs.items():
            (project.root / "stage.py").write_text(program)
            with pytest.raises(kind, match=r"^(search.trials is wrong|the disk is full|begun)$") as raised:
                session.reproduce("prepare")
            assert type(raised.value) is kind


def test_a_stage_is_ended_at_the_deadline_and_so_is_the_session(project: Project) -> None:
    project.write(search={"steps": 300})
    with tracking.session(project.root) as session:
        session.reproduce("prepare")
        session.deadline = tracking.time.monotonic() + 2.0
        with pytest.raises(tracking.TooLongError, match="the next run continues it"):
            session.reproduce("search")
    assert 0 < len(project.journal("search")) < 300
    assert not project.processes()


@pytest.mark.parametrize(("stage", "code"), [("search", TEMPORARY), (None, 1)])
def test_a_stage_says_by_its_exit_code_that_the_disk_is_at_fault_where_dvc_asks(tmp_path: Path, stage: str | None, code: int) -> None:
    program = "from flows.ending import errors\nimport errno\nwith errors():\n raise OSError(errno.ENOSPC, 'no space', 'x')"
    environment = {"PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])} | ({} if stage is None else {"DVC_STAGE": stage})
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith("nasflow: x cannot be used, because no space is left on the disk")
