import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from export.quiet import NotQuietError, giving_way, lock_folder, machine_busy, machine_quiet

HOLD = (
    "import sys; from pathlib import Path; from export import quiet\n"
    "with getattr(quiet, sys.argv[1])(folder=Path(sys.argv[2])):\n"
    "    print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def holder(kind: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the machine until its input ends, or it is killed."""
    command = [sys.executable, "-c", HOLD, kind, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_many_are_busy_beside_each_other(tmp_path: Path) -> None:
    with holder("machine_busy", tmp_path), machine_busy(folder=tmp_path, timeout=0), machine_busy(folder=tmp_path, timeout=0):
        pass


@pytest.mark.parametrize("held", ["machine_busy", "machine_quiet"])
def test_quiet_waits_for_everybody(held: str, tmp_path: Path) -> None:
    sentence = r"did not become quiet, but somebody works on it or measures: wait .*, or allow a longer"
    with holder(held, tmp_path), pytest.raises(NotQuietError, match=sentence):
        machine_quiet(folder=tmp_path, timeout=0.02).__enter__()
    with machine_quiet(folder=tmp_path, timeout=5):
        pass


def test_nobody_is_busy_while_it_is_quiet(tmp_path: Path) -> None:
    with holder("machine_quiet", tmp_path), pytest.raises(NotQuietError, match=r"did not become free, but somebody measures on it"):
        machine_busy(folder=tmp_path, timeout=0.02).__enter__()
    with machine_busy(folder=tmp_path, timeout=5):
        pass


@pytest.mark.parametrize("held", ["machine_busy", "machine_quiet"])
def test_a_killed_holder_holds_nothing(held: str, tmp_path: Path) -> None:
    with holder(held, tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with machine_quiet(folder=tmp_path, timeout=5):
            pass


def test_who_waits_for_quiet_is_not_starved(tmp_path: Path) -> None:
    """Two are busy in turns that overlap, so that the machine is never free; once somebody waits for quiet, no new turn begins."""
    stop, turns = Event(), [0, 0]

    def trials(index: int) -> None:
        while not stop.is_set():
            with machine_busy(folder=tmp_path):
                turns[index] += 1
                time.sleep(0.02 + 0.007 * index)

    workers = [Thread(target=trials, args=(index,)) for index in range(2)]
    try:
        for worker in workers:
            worker.start()
        while min(turns) < 2:
            time.sleep(0.001)
        with machine_quiet(folder=tmp_path, timeout=30):
            before = list(turns)
            time.sleep(0.05)
            assert turns == before
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert sum(turns) >= sum(before)


def test_an_error_inside_frees_the_machine(tmp_path: Path) -> None:
    for taken in (machine_quiet, machine_busy):
        with pytest.raises(RuntimeError, match="inside"), taken(folder=tmp_path):
            raise RuntimeError("inside")
        with machine_quiet(folder=tmp_path, timeout=0):
            pass


def test_the_files_are_private_and_no_link_is_followed(tmp_path: Path) -> None:
    with machine_quiet(folder=tmp_path):
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    name = next(path.name for path in tmp_path.iterdir() if "gate" in path.name)
    other = tmp_path / "other"
    other.mkdir()
    (other / name).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=name):
        machine_quiet(folder=other).__enter__()
    assert not (tmp_path / "victim").exists()


def test_the_folder_does_not_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = lock_folder()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert lock_folder() == before != tmp_path


def test_work_of_many_steps_gives_way_between_two_of_them(tmp_path: Path) -> None:
    measured = Event()

    def measure() -> None:
        with machine_quiet(folder=tmp_path, timeout=30):
            measured.set()

    with giving_way(every=0.0, folder=tmp_path) as give_way:
        assert give_way() < 30
        thread = Thread(target=measure)
        thread.start()
        while not measured.is_set():
            waited = give_way()
        thread.join()
        assert waited >= 0
        with pytest.raises(NotQuietError):
            machine_quiet(folder=tmp_path, timeout=0).__enter__()
    with machine_quiet(folder=tmp_path, timeout=0):
        pass


def test_what_is_waited_is_told_and_a_turn_is_kept_for_a_while(tmp_path: Path) -> None:
    with giving_way(every=0.0, folder=tmp_path) as give_way, ThreadPoolExecutor(1) as pool:

        def measure() -> None:
            with machine_quiet(folder=tmp_path, timeout=30):
                time.sleep(0.1)

        running = pool.submit(measure)
        waited = 0.0
        while not running.done():
            waited = max(waited, give_way())
        assert waited >= 0.05
    with giving_way(every=1000.0, folder=tmp_path) as give_way:
        assert [give_way(), give_way()] == [0.0, 0.0]


def test_work_goes_on_where_there_can_be_no_locks(tmp_path: Path) -> None:
    with giving_way(every=0.0, folder=tmp_path / "nowhere") as give_way:
        assert give_way() < 30
