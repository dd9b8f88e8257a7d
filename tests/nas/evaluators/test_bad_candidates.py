"""Whatever a candidate does, its trial fails with the reason, and the next one is as if nothing had happened."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from bad_space import Trap, one
from torch import Tensor

from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, guarded
from nas.evaluators.scratch import Scratch
from nas.evaluators.shared import Shared
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.strategies.random import Random
from nas.tasks.image_classification import ImageClassification
from nas.training import limits
from nas.training.limits import Limits
from nas.training.recipe import Recipe
from nas.trial import Proposal, Report, Trial

RECIPE = Recipe(batch_size=32, learning_rate=0.05)
FREE = Limits()
LIMITED = {"time": Limits(seconds=0.3), "memory": Limits(memory=200)}
Make = Callable[..., Scratch | Shared]


@pytest.fixture(autouse=True)
def little_grace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hanging code is interrupted at once, and the time limit of pytest itself rests meanwhile."""
    monkeypatch.setattr(limits, "_GRACE", 0.0)
    monkeypatch.setattr(limits, "_STRUCTURE_GRACE", 0.0)
    resting = signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    assert signal.setitimer(signal.ITIMER_REAL, *resting) == (0.0, 0.0)


@pytest.fixture
def bound(digits: Dataset, digit_task: ImageClassification, tmp_path: Path) -> Make:
    def make(name: str, limits: Limits = FREE, recipe: Recipe = RECIPE, steps: int = 3) -> Scratch | Shared:
        chosen: Scratch | Shared
        if name == "scratch":
            chosen = Scratch(steps=steps, recipe=recipe, limits=limits, device="cpu")
        else:
            chosen = Shared(steps=steps, recipe=recipe, limits=limits, device="cpu", recalibration=1, tuning=0, last_looks=1)
        return chosen.bind(Bench(Trap(), digit_task, digits, tmp_path, 7))

    return make


def tried(evaluator: Scratch | Shared, way: str, steps: int | None = None) -> Report:
    return guarded(evaluator, Trial(1, Proposal(one(way), steps=steps)))


def weights(evaluator: Scratch | Shared) -> dict[str, Tensor]:
    state = evaluator.state_dict()
    return {name: tensor.clone() for part in ("network", "optimizer") if state for name, tensor in state[part].items()}


@pytest.mark.parametrize("name", ["scratch", "shared"])
@pytest.mark.parametrize(
    ("way", "kind", "error"),
    [
        ("sleeps", "time", "LimitError: time passed the limit of 0.3 s within one step"),
        ("sleeps_at_once", "time", "LimitError: time passed the limit of 0.3 s within one step"),
        ("hoards", "memory", "LimitError: memory passed the limit of 200 MiB in one allocation"),
        ("nan", "diverged", "LimitError: loss is nan at step"),
        ("raises", "KeyError", "KeyError: 'no such layer'"),
        ("leaves", "died", "SystemExit: had enough"),
    ],
)
def test_a_bad_candidate_fails_and_ruins_nothing(name: str, way: str, kind: str, error: str, bound: Make) -> None:
    evaluator = bound(name)
    assert tried(evaluator, "good").error is None
    before = weights(evaluator)
    evaluator.limits = LIMITED.get(kind, FREE)
    report = tried(evaluator, way)
    evaluator.limits = FREE
    assert (report.kind, report.metrics) == (kind, {})
    assert (report.error or "").startswith(error)
    assert weights(evaluator).keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in weights(evaluator).items())
    assert torch.is_grad_enabled()
    assert tried(evaluator, "good").error is None, "the next one trains"


@pytest.mark.parametrize("name", ["scratch", "shared"])
def test_no_candidate_is_charged_for_libraries(name: str, bound: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[bool] = []
    load = ImageClassification.load

    def noting(self: ImageClassification) -> None:
        armed.append(signal.getitimer(signal.ITIMER_REAL)[0] > 0)
        load(self)

    monkeypatch.setattr(ImageClassification, "load", noting)
    assert tried(bound(name, Limits(seconds=600)), "good").error is None
    assert armed == [False]


def test_a_candidate_that_catches_the_interruption_is_interrupted_again(bound: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.training.alarm._AGAIN", 0.05)
    assert tried(bound("scratch", LIMITED["time"]), "stubborn").kind == "time"


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_what_a_person_or_a_signal_raises_passes(bound: Make, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    class Stopped(BaseException):
        """What a signal raises."""

    for raised in (error, Stopped):

        def stop(way: str, raised: type[BaseException] = raised) -> None:
            raise raised

        monkeypatch.setattr("bad_space.misbehave", stop)
        with pytest.raises(raised):
            tried(bound("scratch"), "good")


@pytest.mark.parametrize("name", ["scratch", "shared"])
@pytest.mark.parametrize("steps", [None, 0])
def test_a_large_candidate_fails_before_it_is_trained(name: str, steps: int | None, bound: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(way: str) -> None:
        raise AssertionError

    free = bound(name)
    costs = free.inspect(Proposal(one("good")))
    exact = Limits(parameters=int(costs["parameters"]), flops=costs["flops"])
    assert tried(bound(name, exact), "good", steps).error is None
    monkeypatch.setattr("bad_space.misbehave", never)
    few = bound(name, Limits(parameters=int(costs["parameters"]) - 1))
    report = tried(few, "good", steps)
    assert (report.kind, report.error) == ("parameters", "LimitError: 99 parameters pass the limit of 98")
    assert weights(few) == {} or name == "shared"
    report = tried(bound(name, Limits(flops=costs["flops"] - 1)), "good", steps)
    assert report.kind == "flops"
    assert report.error == f"LimitError: {costs['flops']:,.0f} flops pass the limit of {costs['flops'] - 1:,.0f}"


@pytest.mark.parametrize("name", ["scratch", "shared"])
def test_a_loss_above_that_of_guessing_for_long_is_a_divergence(name: str, bound: Make) -> None:
    wild = Recipe(batch_size=32, learning_rate=10.0, warmup=0.0, schedule="constant", gradient_clip=5.0)
    report = tried(bound(name, Limits(divergence_steps=20), wild, steps=30), "good")
    assert report.kind == "diverged"
    assert (report.error or "").startswith("LimitError: loss is worse than guessing for ")
    assert tried(bound(name, Limits(divergence_steps=None), wild, steps=30), "good").error is None
    assert tried(bound(name, Limits(divergence_steps=20), steps=30), "good").error is None


def test_a_search_of_shared_weights_ends_with_every_reason(bound: Make, digit_task: ImageClassification) -> None:
    evaluator = bound("shared", Limits(memory=200), steps=1)
    strategy = Random().bind(Trap(ways=("good", "hoards", "raises", "leaves", "nan")).choices(digit_task))
    trials = list(search(strategy, evaluator, Objective(), MemoryJournal(), trials=12, seed=1))
    kinds = {trial.architecture["way_0"]: trial.report.kind for trial in trials if trial.report and trial.proposal.steps is None}
    assert kinds == {"good": None, "hoards": "memory", "raises": "KeyError", "leaves": "died", "nan": "diverged"}
