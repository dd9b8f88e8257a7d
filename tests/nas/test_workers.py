"""Workers: real processes give what one process gives, whatever dies meanwhile, and none of them outlives its pool."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import fake_search
import numpy as np
import psutil
import pytest
from fake_search import CHOICES, Fake, Learner, number_of, plain, run_search, strategy_of

from nas.architecture import Architecture
from nas.evaluators.base import Evaluator
from nas.journal import MemoryJournal
from nas.load import load
from nas.objective import Objective
from nas.trial import Proposal, Report, Trial
from nas.workers import DiedError, Workers, pool_of

CONSTRAINED = Objective(constraints={"parameters": "<= 800"})


def trial_of(number: int, **options: str) -> Trial:
    return Trial(number, Proposal(Architecture(options)))


def children() -> list[psutil.Process]:
    """Our processes but the tracker that multiprocessing keeps until the end."""
    return [child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


def until(holds: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_processes_give_what_threads_give_and_end_with_the_pool() -> None:
    expected = run_search(strategy_of("evolution"), Fake(width=2, trouble=True), MemoryJournal(), 60, objective=CONSTRAINED)
    with Workers.around(Fake(trouble=True), 2) as workers:
        found = run_search(strategy_of("evolution"), workers, MemoryJournal(), 60, objective=CONSTRAINED)
        assert len(children()) == workers.slots == 2
    assert children() == []
    assert plain(found) == plain(expected)


def test_a_candidate_that_ends_its_process_fails_and_a_process_killed_from_outside_costs_one_retry(tmp_path: Path) -> None:
    with Workers.around(fake_search.Mortal(folder=tmp_path), 2) as workers:
        deaths = {how: workers.submit(trial_of(1, how=how)) for how in ("exit", "kill")}
        for how, future in deaths.items():
            assert future.result(60).error == "the worker process died twice: it was killed, ran out of memory, or the candidate ended it"
            assert (tmp_path / how).read_text() == "xx", "it is tried twice"
        assert workers.submit(trial_of(2, how="unsendable")).result(60).error.startswith("the report cannot be sent: ")  # type: ignore[union-attr]
        slow, quick = workers.submit(trial_of(3, how="wait")), workers.submit(trial_of(4, how="live"))
        until(lambda: (tmp_path / "wait").exists())
        assert quick.result(60).metrics == {"accuracy": 4.0}
        victim = psutil.Process(int((tmp_path / "pid").read_text()))
        victim.kill()
        until(lambda: (tmp_path / "wait").read_text() == "xx")
        assert victim.pid != int((tmp_path / "pid").read_text())
        (tmp_path / "go").touch()
        assert slow.result(60) == Report({"accuracy": 3.0})
    assert children() == []


def test_leaving_early_ends_what_still_runs(tmp_path: Path) -> None:
    """An interrupt must not wait for the training that runs."""
    with pytest.raises(KeyboardInterrupt), Workers.around(fake_search.Mortal(folder=tmp_path), 1) as workers:  # noqa: PT012
        running, queued = workers.submit(trial_of(0, how="wait")), workers.submit(trial_of(1, how="live"))
        until(lambda: (tmp_path / "wait").exists())
        raise KeyboardInterrupt
    assert children() == []
    assert queued.cancelled()
    assert running.result(1).error == "RuntimeError: the workers have been stopped: evaluate inside their context"
    assert (tmp_path / "wait").read_text() == "x"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("slot")]


def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import fake_search, pathlib, sys; from nas.workers import Workers; from nas.trial import Proposal, Trial\n"
        "from nas.architecture import Architecture\n"
        "if __name__ == '__main__':\n"
        "    folder = pathlib.Path(sys.argv[1])\n"
        "    with Workers.around(fake_search.Mortal(folder=folder), 2) as workers:\n"
        "        futures = [workers.submit(Trial(n, Proposal(Architecture({'how': 'wait'})))) for n in range(2)]\n"
        "        futures[0].result()\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(fake_search.__file__).parent)}
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment)
    marks = tmp_path / "wait"
    try:
        until(lambda: parent.poll() is None and marks.exists() and marks.read_text() == "xx")
        family = psutil.Process(parent.pid).children(recursive=True)
        assert len(family) >= 2
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_a_pool_gives_answers_and_an_interrupt_ends_it_at_once() -> None:
    with pool_of(2) as pool:
        assert pool.submit(divmod, 7, 2).result(60) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 7, 0).result(60)
        with pytest.raises(DiedError, match="died twice"):
            pool.submit(os._exit, 1).result(60)
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
        "import signal, sys, time; from nas.workers import pool_of\n"
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


def test_an_evaluator_that_remembers_is_refused() -> None:
    with pytest.raises(ValueError, match="workers is 2, but the evaluator keeps weights of its own between trials: set workers to 1"):
        Workers.around(Learner(), 2)


def test_many_trials_at_once_and_what_each_costs_beyond_its_evaluation() -> None:
    """The bound on time is one that only a gross fault breaks: the figure is about 0.2 ms."""
    with Workers.around(Fake(reuse=False), 2) as workers:
        trials = [Trial(number, Proposal(CHOICES.sample(np.random.default_rng(number)))) for number in range(50)]
        futures = [workers.submit(trial) for trial in trials]
        wait(futures)
        found = [future.result().metrics["accuracy"] for future in futures]
        start = time.perf_counter()
        for number in range(200):
            workers.submit(trial_of(number, a="x")).result(60)
        milliseconds = (time.perf_counter() - start) / 200 * 1000
    print(f"a trial that does nothing takes {milliseconds:.3f} ms in a worker")
    assert milliseconds < 20
    assert found == [number_of(trial.architecture) % 1009 / 1009 for trial in trials]


def test_what_the_evaluator_says_of_itself_holds_for_its_workers() -> None:
    """Every public member of an evaluator is passed on, so that a wrapper can never change what fits together."""
    own = {"bind", "state_dict", "load_state_dict", "forget", "reassess", "canonical", "features", "metric_names", "commit_every"}
    members = {name for name in vars(Evaluator) if not name.startswith("_") and name != "model_config"}
    assert members - own <= set(vars(Workers))
    assert Workers.around(load("evaluators", "scratch")(), 2).provides == {"steps", "weights"}
