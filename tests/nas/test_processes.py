"""Processes: they answer, are replaced when they die, and end with whoever uses them."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from children import Origin, Sums, children, until

from nas import processes
from nas.processes import DiedError, LateError, Slot, how_it_ended, pool_of


def test_a_pool_gives_answers_and_an_interrupt_ends_it_at_once() -> None:
    with pool_of(2) as pool:
        assert pool.submit(divmod, 7, 2).result(120) == (3, 1)
        assert pool.submit(torch.get_num_threads).result(120) == 1, "or processes would fight for cores"
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 7, 0).result(120)
        with pytest.raises(DiedError, match="died twice"):
            pool.submit(os._exit, 1).result(120)
    assert children() == []
    with pytest.raises(KeyboardInterrupt), pool_of(2) as pool:  # noqa: PT012
        running = [pool.submit(time.sleep, 60) for _ in range(3)]
        until(lambda: running[1].running())
        start = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - start < 5
    until(lambda: children() == [], 5)
    assert all(future.done() for future in running[2:])


def test_ctrl_c_does_not_reach_a_process_that_starts(tmp_path: Path) -> None:
    """A terminal sends it to all processes at once; one that has not begun yet would stop with a traceback."""
    code = (
        "import signal, sys, time; from nas.processes import pool_of\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell has its background jobs ignore it
        "    try:\n"
        "        with pool_of(2) as pool:\n"
        "            print(pool.submit(time.sleep, 60), flush=True)\n"
        "            time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    parent: subprocess.Popen[str] = subprocess.Popen([sys.executable, str(script)], **pipes)  # type: ignore[call-overload]
    assert parent.stdout is not None
    parent.stdout.readline()
    time.sleep(0.3)
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=45)
    assert (parent.returncode, errors) == (130, "")


def test_a_late_answer_ends_the_process_and_the_time_to_begin_does_not_count() -> None:
    slot = Slot(Sums())
    try:
        assert slot.run([1.0, 2.0], patience=0.5) == 103, "starting takes longer than this patience"
        first = children()
        with pytest.raises(LateError, match=r"no answer after 0.5 s"):
            slot.run([], patience=0.5)
        assert children() == []
        assert [slot.run([1.0]), slot.run([2.0])] == [101, 102]
        assert children() != first
    finally:
        slot.end()
    with pytest.raises(RuntimeError, match="the workers have been stopped"):
        slot.run([1.0])


def test_a_process_that_never_begins_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an idle one was stopped from outside: that is not the candidate's fault."""
    waits: list[float | None] = []

    def never_at_first(connection: Any, process: Any, seconds: float | None) -> bool:
        waits.append(seconds)
        return len(waits) > 1 and arrives(connection, process, seconds)

    arrives = processes._arrives
    monkeypatch.setattr(processes, "_arrives", never_at_first)
    slot = Slot(Sums())
    try:
        assert slot.run([1.0], patience=50.0) == 101
    finally:
        slot.end()
    assert waits == [300.0, 300.0, 50.0]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (0, "ended with exit status 0: the candidate ended it, or it could not start"),
        (-9, "ended by signal 9 (SIGKILL): out of memory or killed from outside"),
        (-11, "ended by signal 11 (SIGSEGV): a crash in compiled code"),
        (-15, "ended by signal 15 (SIGTERM): killed from outside"),
        (-99, "ended by signal 99 (of no name): killed from outside"),
        (None, "it could not be started within 300 s: the machine is overloaded, or out of memory or processes"),
    ],
)
def test_how_a_process_ended_is_said(code: int | None, told: str) -> None:
    assert how_it_ended(code) == told


def test_work_from_elsewhere_gets_a_new_python_with_its_own_variables() -> None:
    """What this process has imported may be older; and a GPU is chosen by a variable."""
    slot = Slot(pickle.dumps(Origin()), {"NASFLOW_TEST": "2"})
    try:
        assert slot.run("NASFLOW_TEST") == (os.getpid(), "2")
    finally:
        slot.end()
