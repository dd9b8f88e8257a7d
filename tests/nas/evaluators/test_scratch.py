"""Training from scratch: fidelity is a part of one training, weights pass from parent to child, and twins are one function."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from nas.architecture import Architecture
from nas.data.dataset import Dataset
from nas.evaluators.base import Bench, guarded
from nas.evaluators.scratch import Scratch, inherit
from nas.spaces.base import SearchSpace
from nas.spaces.cell import EDGES, Cell
from nas.spaces.chain import Chain
from nas.tasks.image_classification import ImageClassification
from nas.training.limits import Guard, LimitError, Limits
from nas.training.loop import Training
from nas.training.recipe import Augmentation, Recipe
from nas.trial import Proposal, Report, Trial
from nas.workers import Workers

CHAIN = Chain(widths=((4, 6), (6, 8)))
CELL = Cell(widths=(4,), cells=1)
RECIPE = Recipe(batch_size=32, ema=0.9, augmentation=Augmentation(shift=1))
Make = Callable[..., Scratch]


@pytest.fixture
def make(digits: Dataset, digit_task: ImageClassification, tmp_path: Path) -> Make:
    """Evaluators of one run: the same folder and seed."""

    def bound(space: SearchSpace = CHAIN, folder: str = "run", **settings: Any) -> Scratch:
        chosen = {"steps": 6, "recipe": RECIPE, "device": "cpu", **settings}
        return Scratch(**chosen).bind(Bench(space, digit_task, digits, tmp_path / folder, 7))

    return bound


def architecture(evaluator: Scratch, seed: int = 0) -> Architecture:
    return evaluator._bench.space.choices(evaluator._bench.task).sample(np.random.default_rng(seed))


def cell(*operations: str) -> Architecture:
    return Architecture({f"edge_{source}_{target}": name for (source, target), name in zip(EDGES, operations, strict=True)})


TWINS = (
    cell("nor_conv_3x3", "none", "none", "none", "skip_connect", "none"),
    cell("none", "none", "none", "nor_conv_3x3", "none", "none"),
)
"""One convolution from the input to the output, on edge 0-1 with a skip, or on edge 0-3."""


def weights(evaluator: Scratch, number: int) -> dict[str, Tensor]:
    state = evaluator._load(number)["training"]
    return {**{f"network.{name}": value for name, value in state["network"].items()}, **state["average"]}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def numbers(report: Report) -> dict[str, float]:
    assert report.error is None
    return dict(report.metrics)


def test_metrics_are_plain_finite_numbers_and_repeat(make: Make) -> None:
    evaluator = make()
    trial = Trial(0, Proposal(architecture(evaluator)))
    report = evaluator.evaluate(trial)
    assert {type(value) for value in report.metrics.values()} == {float}
    assert all(math.isfinite(value) for value in report.metrics.values())
    assert set(report.metrics) == {*ImageClassification.metric_names, "parameters", "flops"}
    assert report.seconds > 0
    torch.manual_seed(99)
    assert numbers(make(folder="other").evaluate(trial)) == numbers(report)
    assert numbers(make(folder="other").evaluate(Trial(1, trial.proposal))) != numbers(report), "every trial has a seed of its own"


@pytest.mark.parametrize("first", [0, 1, 4])
def test_a_child_continues_its_parents_training_exactly(first: int, make: Make) -> None:
    evaluator, straight = make(), make(folder="straight")
    one = architecture(evaluator)
    evaluator.evaluate(Trial(3, Proposal(one, steps=first)))
    resumed = evaluator.evaluate(Trial(8, Proposal(one, steps=6, parent=3)))
    whole = straight.evaluate(Trial(3, Proposal(one, steps=6)))
    assert numbers(resumed) == numbers(whole)
    assert equal(weights(evaluator, 8), weights(straight, 3))
    again = make().evaluate(Trial(9, Proposal(one, parent=8)))
    assert numbers(again) == numbers(whole), "nothing is left to train"


def test_no_steps_only_look(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = make()
    monkeypatch.setattr(Training, "_update", None)
    assert 0 <= evaluator.evaluate(Trial(0, Proposal(architecture(evaluator), steps=0))).metrics["accuracy"] <= 1


def test_a_parent_of_another_architecture_gives_what_fits(make: Make) -> None:
    evaluator = make()
    parent = architecture(evaluator, 1).replace("stage_0.width", "6")
    child = parent.replace("stage_1.width", "6" if parent["stage_1.width"] == "8" else "8")
    evaluator.evaluate(Trial(0, Proposal(parent)))
    evaluator.evaluate(Trial(1, Proposal(child, steps=0, parent=0)))
    mine, theirs = evaluator._load(1)["training"]["network"], evaluator._load(0)["training"]["average"]
    fitting = [name for name, value in mine.items() if name in theirs and theirs[name].shape == value.shape]
    assert 0 < len(fitting) < len(mine)
    assert all(torch.equal(mine[name], theirs[name]) for name in fitting)
    assert evaluator._load(1)["training"]["step"] == 0


def test_inherit_names_what_it_took() -> None:
    network, giver = nn.Linear(2, 3), nn.Linear(4, 3)
    assert inherit(network, {**giver.state_dict(), "other": torch.ones(1)}) == ["bias"]
    assert torch.equal(network.bias, giver.bias)


def test_a_child_may_be_a_twin_of_its_parent(make: Make) -> None:
    """Twins name their tensors differently, and still the child's training is the parent's."""
    evaluator, straight = make(CELL), make(CELL, folder="straight")
    assert evaluator.canonical(TWINS[0]) == evaluator.canonical(TWINS[1])
    evaluator.evaluate(Trial(0, Proposal(TWINS[0], steps=2)))
    child = evaluator.evaluate(Trial(1, Proposal(TWINS[1], steps=6, parent=0)))
    grandchild = evaluator.evaluate(Trial(2, Proposal(TWINS[1], parent=1)))
    assert numbers(child) == numbers(grandchild) == numbers(straight.evaluate(Trial(0, Proposal(TWINS[0]))))


def test_a_reused_trial_is_reassessed_with_its_twins_weights(make: Make) -> None:
    evaluator = make(CELL)
    report = evaluator.evaluate(Trial(0, Proposal(TWINS[0])))
    owner = Trial(0, Proposal(TWINS[0]), report)
    reused = Trial(4, Proposal(TWINS[1]), Report(report.metrics, reused=0))
    assert evaluator.reassess(reused, "confirm") == evaluator.reassess(owner, "confirm")
    selected = evaluator.reassess(reused, "select")
    assert selected == {name: report.metrics[name] for name in selected}
    assert evaluator.reassess(reused, "confirm") != selected


def test_identity_is_that_of_the_function_and_the_steps(make: Make) -> None:
    evaluator = make(CELL)
    first, second = (evaluator.identity(Proposal(twin, steps=3)) for twin in TWINS)
    assert first == second is not None
    assert evaluator.identity(Proposal(TWINS[0], steps=4)) != first
    assert evaluator.identity(Proposal(TWINS[0])) == evaluator.identity(Proposal(TWINS[0], steps=6))
    assert evaluator.identity(Proposal(TWINS[0].replace("edge_0_1", "nor_conv_1x1"), steps=3)) != first
    assert evaluator.identity(Proposal(TWINS[0], steps=3, parent=0)) is None
    assert evaluator.identity(Proposal(TWINS[0], mixture={})) is None


def test_twins_cost_the_same(make: Make) -> None:
    found = [dict(make(CELL).inspect(Proposal(twin))) for twin in TWINS]
    assert found[0] == found[1]


def test_inspecting_allocates_nothing(make: Make, digits: Dataset, digit_task: ImageClassification) -> None:
    evaluator = make(Cell(widths=(4096,), cells=1))
    costs = evaluator.inspect(Proposal(cell(*["nor_conv_3x3"] * 6)))
    assert costs["parameters"] * 4 > 2 * 2**30, "gibibytes, if it were allocated"
    assert resident() < 2**31
    small = make()
    one = architecture(small)
    network = CHAIN.build(one, digit_task)
    assert small.inspect(Proposal(one))["parameters"] == sum(weight.numel() for weight in network.parameters())
    assert not list(Path(small._bench.folder).glob("**/*"))


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04", None], ids=["empty", "text", "start of one", "part of one"])
def test_a_broken_checkpoint_is_named(content: bytes | None, make: Make) -> None:
    evaluator = make()
    one = architecture(evaluator)
    report = evaluator.evaluate(Trial(0, Proposal(one)))
    path = evaluator._weights(0)
    path.write_bytes(path.read_bytes()[:-500] if content is None else content)
    with pytest.raises(ValueError, match=r"trial-0\.pt is damaged or no checkpoint of nasflow: remove it"):
        evaluator.reassess(Trial(0, Proposal(one), report), "confirm")


def test_weights_that_are_gone_are_named(make: Make) -> None:
    evaluator = make()
    with pytest.raises(FileNotFoundError, match=r"trial-5\.pt is missing: trial 5 failed, or its weights were removed"):
        evaluator.evaluate(Trial(6, Proposal(architecture(evaluator), parent=5)))


def test_weights_are_forgotten_but_those_to_keep(make: Make) -> None:
    evaluator = make()
    for number in (1, 2, 12):
        evaluator.evaluate(Trial(number, Proposal(architecture(evaluator), steps=0)))
    evaluator.forget({12})
    assert [path.name for path in evaluator._weights(0).parent.glob("*.pt")] == ["trial-12.pt"]


def test_forgotten_weights_are_trained_again_when_they_are_asked_for(make: Make) -> None:
    evaluator = make()
    trial = Trial(3, Proposal(architecture(evaluator)))
    finished = Trial(3, trial.proposal, evaluator.evaluate(trial))
    before = evaluator.reassess(finished, "confirm")
    evaluator.forget(set())
    assert evaluator.reassess(finished, "confirm") == before


def test_what_cannot_be_trained_is_refused_in_a_sentence(make: Make) -> None:
    evaluator = make()
    one = architecture(evaluator)
    with pytest.raises(ValueError, match="7 steps were asked for, but the schedule ends after 6"):
        evaluator.evaluate(Trial(0, Proposal(one, steps=7)))
    with pytest.raises(ValueError, match="'scratch' trains single architectures"):
        evaluator.evaluate(Trial(0, Proposal(one, mixture={"stage_0.width": torch.ones(2)})))
    with pytest.raises(ValidationError, match="device"):
        Scratch(device="gpu")
    with pytest.raises(ValidationError, match="epochs"):
        Scratch.model_validate({"epochs": 3})
    assert all(info.description for info in Scratch.model_fields.values())


def test_a_candidate_that_diverges_or_takes_too_long_is_reported(make: Make) -> None:
    wild = make(recipe=Recipe(batch_size=32, learning_rate=1e38, warmup=0.0))
    one = architecture(wild)
    assert "training diverged" in (guarded(wild, Trial(0, Proposal(one))).error or "")
    with pytest.raises(LimitError, match="training diverged"):
        wild.evaluate(Trial(0, Proposal(one, steps=1)))
    slow = guarded(make(limits=Limits(seconds=1e-6)), Trial(1, Proposal(one)))
    assert (slow.error or "").startswith("LimitError: time of")
    assert slow.metrics == {}
    assert not wild._weights(0).exists()


def test_loading_the_data_is_not_charged_to_the_first_candidate(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, within = make(limits=Limits(seconds=60)), list[bool]()
    watch, split = Limits.watch, Scratch._split
    open_now: list[int] = []

    @contextmanager
    def watching(self: Limits, device: torch.device) -> Iterator[Guard]:
        with watch(self, device) as guard:
            open_now.append(1)
            yield guard
            open_now.pop()

    def noting(self: Scratch, name: str) -> Any:
        within.append(bool(open_now) and name not in self._examples)
        return split(self, name)

    monkeypatch.setattr(Limits, "watch", watching)
    monkeypatch.setattr(Scratch, "_split", noting)
    evaluator.evaluate(Trial(0, Proposal(architecture(evaluator), steps=1)))
    assert within
    assert not any(within)


def test_another_process_finds_the_same(make: Make) -> None:
    here, there = make(), make(folder="there")
    trials = [Trial(0, Proposal(architecture(here, 0), steps=3)), Trial(1, Proposal(architecture(here, 1), steps=3))]
    with Workers.around(there, 1) as pool:
        found = [pool.submit(trial).result(timeout=120) for trial in trials]
        child = pool.submit(Trial(2, Proposal(architecture(here, 0), parent=0))).result(timeout=120)
        assert pool.identity(trials[0].proposal) == here.identity(trials[0].proposal)
    assert [numbers(report) for report in found] == [numbers(here.evaluate(trial)) for trial in trials]
    assert numbers(child) == numbers(here.evaluate(Trial(2, Proposal(architecture(here, 0), parent=0))))
    assert equal(weights(here, 2), weights(there, 2))
