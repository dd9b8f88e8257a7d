"""Workers: real processes give what one process gives, whatever dies meanwhile, and none of them outlives its pool."""

import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import fake_search
import numpy as np
import psutil
import pytest
import torch
from children import children, until
from fake_search import CHOICES, Fake, Learner, number_of, plain, run_search, strategy_of
from faulty import Placed

from nas import workers as workers_module
from nas.architecture import Architecture
from nas.evaluators.base import Evaluator
from nas.evaluators.wrapper import Wrapper
from nas.journal import MemoryJournal
from nas.load import load
from nas.measured import Measured
from nas.objective import Objective
from nas.trial import Proposal, Report, Trial
from nas.workers import Workers

CONSTRAINED = Objective(constraints={"parameters": "<= 800"})


def trial_of(number: int, **options: str) -> Trial:
    return Trial(number, Proposal(Architecture(options)))


def test_processes_give_what_threads_give_and_end_with_the_pool() -> None:
    expected = run_search(strategy_of("evolution"), Fake(width=2, trouble=True), MemoryJournal(), 60, objective=CONSTRAINED)
    with Workers.around(Fake(trouble=True), 2) as workers:
        found = run_search(strategy_of("evolution"), workers, MemoryJournal(), 60, objective=CONSTRAINED)
        assert len(children()) == workers.slots == 2
    assert children() == []
    assert plain(found) == plain(expected)


def test_a_candidate_that_ends_its_process_fails_and_a_process_killed_from_outside_costs_one_retry(tmp_path: Path) -> None:
    with Workers.around(fake_search.Mortal(folder=tmp_path), 2) as workers:
        ends = {
            "exit": "with exit status 3: the candidate ended it, or it could not start",
            "kill": "by signal 9 (SIGKILL): out of memory or killed from outside",
        }
        deaths = {how: workers.submit(trial_of(number, how=how)) for number, how in enumerate(ends)}
        for how, future in deaths.items():
            assert future.result(120).error == f"the worker process died twice, the last time ended {ends[how]}"
            assert (future.result().kind, future.result().seconds > 0) == ("died", True)
            assert (tmp_path / how).read_text() == "xx", "it is tried twice"
        assert workers.submit(trial_of(2, how="unsendable")).result(120).error.startswith("the report cannot be sent: ")  # type: ignore[union-attr]
        slow, quick = workers.submit(trial_of(3, how="wait")), workers.submit(trial_of(4, how="live"))
        until(lambda: (tmp_path / "wait").exists())
        assert quick.result(120).metrics == {"accuracy": 4.0}
        victim = psutil.Process(int((tmp_path / "pid").read_text()))
        victim.kill()
        until(lambda: (tmp_path / "wait").read_text() == "xx")
        assert victim.pid != int((tmp_path / "pid").read_text())
        (tmp_path / "go").touch()
        assert slow.result(120) == Report({"accuracy": 3.0})
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
            workers.submit(trial_of(number, a="x")).result(120)
        milliseconds = (time.perf_counter() - start) / 200 * 1000
    print(f"a trial that does nothing takes {milliseconds:.3f} ms in a worker")
    assert milliseconds < 20
    assert found == [number_of(trial.architecture) % 1009 / 1009 for trial in trials]


def test_what_the_evaluator_says_of_itself_holds_for_its_workers() -> None:
    """Every public member of an evaluator is passed on, so that a wrapper can never change what fits together."""
    members = {name for name in vars(Evaluator) if not name.startswith("_") and name != "model_config"}
    assert members - {"submit"} <= set(vars(Wrapper))
    assert Workers.around(load("evaluators", "scratch")(), 2).provides == {"steps", "weights", "network"}


def test_every_slot_has_its_device_warms_up_once_and_does_not_wait_for_ever() -> None:
    evaluator = Placed(device="cuda:0")
    with Workers.around(evaluator, 2, ["cpu", "auto"]) as workers:
        reports = [workers.submit(trial_of(number, how="report")) for number in range(5)]
        found = [dict(report.result(120).metrics) for report in reports]
        assert found == [{"device": 1.0 - number % 2, "warmed": 1.0} for number in range(5)], "trial n goes to slot n modulo 2"
        late = workers.submit(trial_of(0, how="sleep")).result(120)
        assert late.error == (
            "no answer after 0.5 s of evaluation, so its process was ended: it hangs, or takes far longer than the limit of time"
        )
        assert late.kind == "time"
        assert 0.5 <= late.seconds < 20
    assert evaluator.device == "cuda:0"


@pytest.mark.parametrize(
    ("evaluator", "devices", "problem"),
    [
        (Placed(), ["cpu"], "devices names 1, but workers is 2: name one for every worker, or none"),
        (Fake(), ["cpu", "cpu"], "a worker's device is 'cpu', but the evaluator has no setting 'device': leave devices empty"),
        (Placed(), ["cpu", "gpu"], "device is 'gpu', which torch does not know: use cpu, cuda, cuda:N or auto"),
        (Placed(), ["cpu", "cuda:97"], "device is 'cuda:97' but torch finds "),
    ],
)
def test_devices_that_cannot_be_are_refused_at_once(evaluator: Evaluator, devices: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        Workers.around(evaluator, 2, devices)


def test_a_device_reaches_the_evaluator_inside_others() -> None:
    measured = Measured()
    measured._evaluator = Placed(device="auto")
    placed = measured.on_device("cpu")
    assert (placed._evaluator, measured._evaluator) == (Placed(device="cpu"), Placed(device="auto"))
    assert Workers.around(measured, 2, ["cpu", "cpu"]).slots == 2


def test_outside_its_context_nothing_is_evaluated() -> None:
    with pytest.raises(RuntimeError, match="the workers have not been started: evaluate inside their context"):
        Workers.around(Fake(), 1).submit(trial_of(0))


def test_a_worker_computes_on_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made without naming a GPU, such as a library's workspace, would else lie on the first one."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(workers_module, "pick_device", torch.device)
    for work in workers_module._spread(Placed(), 2, ["cuda:1", "cpu"], None):
        work.begin()
    assert current == [torch.device("cuda:1")]
