"""Candidates as files: what breaks a constraint is never trained, what was measured is not measured again, and nobody else is blamed."""

import csv
import errno
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import planted
import pytest
from made_up_times import made_up, never_twice
from planted import Planted
from pydantic import PrivateAttr
from small_images import one_thread

from export import structures
from export.machine import Target
from export.quiet import NotQuietError, lock_folder
from export.structures import Costing
from nas import atomic, measured
from nas.architecture import Architecture
from nas.evaluators.base import Bench, Evaluator, MachineError
from nas.evaluators.scratch import Scratch
from nas.evaluators.shared import Shared
from nas.evaluators.table import Table
from nas.journal import FileJournal, Journal, MemoryJournal
from nas.measured import Measured, Plan
from nas.objective import Objective
from nas.pareto import pareto_front
from nas.spaces.base import SearchSpace
from nas.strategies.random import Random
from nas.tasks.image_classification import ImageClassification
from nas.testing.blocks import Blocks, Noted
from nas.testing.searches import first_difference, run_search
from nas.trial import Proposal, Report, Trial

__all__ = ["one_thread"]
LATENCY = {"latency_ms", "latency_ms_low", "latency_ms_high"}
RECIPE = {"batch_size": 16}


class Trained(Evaluator):
    """Notes what it is asked to train; the accuracy is always the same."""

    _trained: list[Architecture] = PrivateAttr(default_factory=list)

    def evaluate(self, trial: Trial) -> Report:
        self._trained.append(trial.architecture)
        return Report({"accuracy": 0.5})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Noted:
    return Noted(tmp_path_factory.mktemp("data") / "prepared", 200)


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "measure", made_up)


class Desk:
    """Makes measuring evaluators on one data set, with one folder for what was measured."""

    def __init__(self, data: Noted, folder: Path) -> None:
        self.data, self.folder, self.kept = data, folder, folder / "kept"

    def around(self, evaluator: Evaluator, *wanted: str, space: SearchSpace | None = None, key: str = "key") -> Measured:
        task = ImageClassification().bind(self.data.description)
        bench = Bench(space or Blocks(), task, self.data, self.folder / "run", 0)  # type: ignore[arg-type]
        plan = Plan(Costing(Target(), "torchscript", 1e-4, self.kept, 0.01), key, {"search": "0" * 16})
        return Measured.around(evaluator.bind(bench), bench, frozenset(wanted), plan)

    def search(self, evaluator: Measured, objective: Objective, trials: int, journal: Journal | None = None, **how: Any) -> list[Trial]:
        strategy = Random().bind(evaluator._bench.space.choices(evaluator._bench.task))
        return run_search(strategy, evaluator, journal or MemoryJournal(), trials, objective=objective, **how)


@pytest.fixture
def desk(data: Noted, tmp_path: Path) -> Desk:
    return Desk(data, tmp_path)


def table(folder: Path, space: SearchSpace, task: ImageClassification, accuracy: Callable[[Mapping[str, str]], float]) -> Table:
    """A table of every architecture of a space of two choices."""
    choices = list(space.choices(task))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "accuracy"])
        for first in choices[0].options:
            for second in choices[1].options:
                row = {choices[0].name: first, choices[1].name: second}
                writer.writerow([json.dumps(row), accuracy(row)])
    return Table(path=folder / "table.csv")


def metrics_of(trial: Trial) -> Mapping[str, float]:
    assert trial.report is not None
    assert trial.report.error is None, trial.report.error
    return trial.report.metrics


@pytest.mark.parametrize("kind", ["scratch", "shared", "table"])
def test_every_kind_of_evaluator_can_be_measured(kind: str, desk: Desk) -> None:
    task = ImageClassification().bind(desk.data.description)
    made: Evaluator = {
        "scratch": lambda: Scratch.model_validate({"steps": 1, "recipe": RECIPE, "device": "cpu"}),
        "shared": lambda: Shared.model_validate({"recipe": RECIPE, "device": "cpu"}),
        "table": lambda: table(desk.folder, Blocks(), task, lambda row: 0.5),
    }[kind]()
    evaluator = desk.around(made, "latency_ms", "file_bytes")
    assert {"accuracy", "latency_ms", "int8_peak_memory", "int8_f1"} <= set(evaluator.metric_names(task.metric_names))
    found = desk.search(evaluator, Objective(metrics=("accuracy", "-latency_ms")), 3)
    for trial in found:
        metrics = metrics_of(trial)
        assert {*LATENCY, "file_bytes", "accuracy"} <= set(metrics)
        assert not [name for name in metrics if name.startswith(("int8", "peak", "file_acc"))], "nobody asked for these"
        assert trial.score is not None
        assert trial.score.intervals[1] == (-metrics["latency_ms_high"], -metrics["latency_ms_low"])
        assert evaluator.graph(trial.architecture) is not None


def test_what_breaks_a_constraint_is_never_trained(desk: Desk) -> None:
    trained = Trained()
    sizes = {
        trial.architecture: metrics_of(trial)["file_bytes"] for trial in desk.search(desk.around(trained, "file_bytes"), Objective(), 9)
    }
    middle = sorted(sizes.values())[len(sizes) // 2]
    trained._trained.clear()
    objective = Objective(metrics=("accuracy",), constraints={"file_bytes": f"<= {middle:g}"})
    found = desk.search(desk.around(trained, "file_bytes"), objective, 6)
    rejected = [trial for trial in found if trial.rejected]
    assert rejected
    assert [trial.architecture for trial in found if trial.status == "done" and trial.report.reused is None] == trained._trained  # type: ignore[union-attr]
    for trial in rejected:
        assert trial.report is not None
        assert trial.report.metrics["file_bytes"] > middle
        assert trial.report.error == f"file_bytes {trial.report.metrics['file_bytes']:g} breaks <= {middle:g}"


def test_an_interval_that_reaches_beyond_a_bound_breaks_it(desk: Desk) -> None:
    evaluator = desk.around(Trained(), "latency_ms")
    known = evaluator.inspect(Proposal(Architecture({"first": "skip", "second": "skip"})))
    bound = (known["latency_ms"] + known["latency_ms_high"]) / 2
    [broken] = Objective(constraints={"latency_ms": f"<= {bound}"}).broken(known)
    assert f"({known['latency_ms_low']:g} to {known['latency_ms_high']:g}) breaks" in broken


def test_a_killed_search_sees_the_same_times_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new measurement would be another one, so that equal trials can only come from what was kept."""
    monkeypatch.setattr(structures, "measure", never_twice())
    objective = Objective(metrics=("accuracy", "-latency_ms"))
    for stop in (1, 3, None):
        with FileJournal(desk.folder / "journal", fingerprint="one") as journal:
            killed = desk.search(desk.around(Trained(), "latency_ms"), objective, 5, journal, stop=stop)
    whole = desk.search(desk.around(Trained(), "latency_ms"), objective, 5)
    assert first_difference(killed, whole) is None
    fresh = desk.search(desk.around(Trained(), "latency_ms", key="another key, so other graphs are not known"), objective, 5)
    assert first_difference(fresh, whole) is None, "one graph has one latency on a machine, whatever it is called"


def test_a_candidate_that_cannot_ship_fails_by_itself(desk: Desk) -> None:
    space = Planted(ways=("good", "wrong", "impossible"))
    trained = Trained()
    found = desk.search(desk.around(trained, "file_bytes", space=space), Objective(), 12)
    by_way = {trial.architecture["way_0"]: trial for trial in found}
    assert by_way["good"].status == "done"
    assert {architecture["way_0"] for architecture in trained._trained} == {"good"}
    for way, words in {"wrong": "ParityError: the ONNX file does not follow", "impossible": "ExportError: exporter 'torchscript'"}.items():
        report = by_way[way].report
        assert report is not None
        assert report.kind == "export"
        assert f"LimitError: it cannot be shipped: {words}" in str(report.error)


def test_a_candidate_that_ends_the_measuring_process_fails_and_the_search_goes_on(desk: Desk) -> None:
    evaluator = desk.around(Trained(), "file_bytes", space=Planted(ways=("good", "deadly")))
    with evaluator.measuring() as measuring:
        deaths = run_search(_Listed.of("deadly", "good"), measuring, MemoryJournal(), 2)
    died, good = deaths
    assert died.report is not None
    assert died.report.kind == "died"
    assert "it was not measured as a file: the worker process died twice, the last time ended with exit status 3" in str(died.report.error)
    assert metrics_of(good)["file_bytes"] > 0


class _Listed(Random):
    """Proposes what it was given, in order."""

    _ways: list[str] = PrivateAttr(default_factory=list)

    @classmethod
    def of(cls, *ways: str) -> "_Listed":
        made = cls()
        made._ways = list(ways)
        return made

    def ask(self, history: Any, rng: Any) -> Proposal:
        return Proposal(planted.one(self._ways[len(history)]))


@contextmanager
def never(**options: Any) -> Iterator[None]:
    raise NotQuietError("the machine did not become quiet: wait")
    yield


def full(*given: Any, **named: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(given[0]))


def locked(**options: Any) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", str(lock_folder() / "nasflow-0-gate.lock"))


@pytest.mark.parametrize(
    ("name", "fault", "error", "words"),
    [
        ("machine_quiet", never, MachineError, "the machine did not become quiet: wait"),
        ("machine_quiet", locked, MachineError, "gate.lock cannot be opened (Permission denied): remove it"),
        ("measure", full, atomic.DiskError, "no space is left on the disk; what was measured before is kept: make room"),
    ],
)
def test_what_no_candidate_is_to_blame_for_ends_the_search_and_costs_nothing(
    name: str, fault: Any, error: type[Exception], words: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Objective(metrics=("accuracy", "-latency_ms"))
    with FileJournal(desk.folder / "journal", fingerprint="one") as journal, monkeypatch.context() as patch:
        patch.setattr(structures, name, fault)
        with pytest.raises(error) as raised:
            desk.search(desk.around(Trained(), "latency_ms"), objective, 3, journal)
    assert words in str(raised.value)
    with FileJournal(desk.folder / "journal", fingerprint="one") as journal:
        found = desk.search(desk.around(Trained(), "latency_ms"), objective, 3, journal)
    assert first_difference(found, desk.search(desk.around(Trained(), "latency_ms"), objective, 3)) is None


def test_a_measurement_waits_for_the_machine_before_anybody_gives_up_on_it() -> None:
    """Else the process would be ended first, and a candidate be blamed for a busy machine."""
    assert structures.TIMINGS * structures.QUIET_SECONDS < measured._PATIENCE


def test_the_file_is_scored_as_it_would_ship(desk: Desk) -> None:
    scratch = Scratch.model_validate({"steps": 12, "recipe": RECIPE, "device": "cpu"})
    evaluator = desk.around(scratch, "file_accuracy", "int8_accuracy")
    [trial] = desk.search(evaluator, Objective(metrics=("int8_accuracy",)), 1)
    metrics = metrics_of(trial)
    assert metrics["file_accuracy"] == metrics["accuracy"]
    assert 0 <= metrics["int8_accuracy"] <= 1
    assert "int8_f1" not in metrics
    again = evaluator.reassess(trial, "confirm")
    assert again["file_accuracy"] == again["accuracy"]
    assert evaluator.reassess(trial, "select")["int8_accuracy"] == metrics["int8_accuracy"]


def test_what_is_slow_in_onnxruntime_alone_is_dominated(desk: Desk) -> None:
    """Both options are equally accurate and equally many FLOPs; the file of one is 60 times two turns of the image longer."""
    space, task = Planted(ways=("good", "slow"), widths=(4, 8)), ImageClassification().bind(desk.data.description)
    evaluator = desk.around(table(desk.folder, space, task, lambda row: int(row["width"]) / 10), "latency_ms", space=space)
    found = desk.search(evaluator, Objective(metrics=("accuracy", "-latency_ms")), 12)
    assert {trial.architecture["way_0"] for trial in found} == {"good", "slow"}
    assert {trial.architecture["way_0"] for trial in pareto_front(found)} == {"good"}
