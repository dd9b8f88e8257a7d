"""DARTS: the softmax of its logits, a warm-up, and two guards against collapse."""

from typing import Any

import numpy as np
import pytest
import torch
from fake_search import CHOICES, Fake, run_search

from nas.journal import MemoryJournal
from nas.strategies.darts import Darts
from nas.trial import Proposal, Report, Trial


def fed(strategy: Darts, curvatures: list[float], start: int = 0) -> list[Any]:
    """Tell trials whose gradient always favours the first option; returns the logits after each."""
    seen = []
    for number, value in enumerate(curvatures, start):
        proposal = strategy.ask([Trial(past, Proposal(CHOICES.sample(np.random.default_rng(0)))) for past in range(number)], rng())
        if proposal is None:
            break
        gradient = {choice.name: -torch.eye(len(choice.options))[0] for choice in CHOICES}
        strategy.tell(Trial(number, proposal, Report({"accuracy": 0.5, "curvature": value}, gradient=gradient)))
        seen.append(strategy.logits.copy())
    return seen


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_it_proposes_the_softmax_and_the_architecture_that_is_heaviest() -> None:
    strategy = Darts(warmup=0).bind(CHOICES)
    fed(strategy, [1.0] * 5)
    proposal = strategy.ask([], rng())
    assert proposal is not None
    assert proposal.mixture is not None
    for choice in CHOICES:
        weights = proposal.mixture[choice.name]
        assert float(weights.sum()) == pytest.approx(1.0)
        assert proposal.architecture[choice.name] == choice.options[int(weights.argmax())] == choice.options[0]


def test_a_rising_curvature_ends_the_search_with_the_logits_from_before() -> None:
    strategy = Darts(warmup=2, guard="curvature").bind(CHOICES)
    assert strategy.requires == {"gradient", "curvature"}
    seen = fed(strategy, [9.0, 9.0, *[1.0] * 10, *[2.0] * 10])
    assert len(seen) == 14, "windows of five, four apart: (1 1 1 1 1) and (1 1 1 2 2), a ratio of 1.4"
    assert np.array_equal(seen[-1], seen[14 - 1 - 6]), "as they were in the middle of the earlier window"
    assert strategy.ask([], rng()) is None
    assert strategy.telemetry()["stopped"][-1] == 1.0
    again = Darts(warmup=2, guard="curvature").bind(CHOICES)
    again.load_state_dict(strategy.state_dict())
    assert again.ask([], rng()) is None
    assert np.array_equal(again.logits, strategy.logits)
    half = Darts(warmup=2, guard="curvature").bind(CHOICES)
    fed(half, [9.0, 9.0, *[1.0] * 9])
    rest = Darts(warmup=2, guard="curvature").bind(CHOICES)
    rest.load_state_dict(half.state_dict())
    assert len(fed(rest, [1.0, *[2.0] * 10], start=11)) == 3, "a killed search stops where it would have stopped"
    assert np.array_equal(rest.logits, strategy.logits)
    steady = Darts(warmup=2, guard="curvature").bind(CHOICES)
    assert len(fed(steady, [1.0, 1.2] * 12)) == 24


def test_the_decay_keeps_an_early_lead_from_feeding_itself() -> None:
    leads = {}
    for guard in ("none", "decay"):
        strategy = Darts(warmup=0, guard=guard, learning_rate=0.05, decay_trials=50).bind(CHOICES)
        fed(strategy, [1.0] * 100)
        leads[guard] = float(strategy.expected[0])
    assert leads["none"] > 0.9
    assert 0.2 < leads["decay"] < leads["none"] - 0.2
    assert Darts().requires == Darts(guard="none").requires == {"gradient"}


def test_a_search_that_is_stopped_ends_before_its_budget() -> None:
    class Sharper(Fake):
        @property
        def provides(self) -> frozenset[str]:
            return super().provides | {"curvature"}

        def evaluate(self, trial: Trial) -> Report:
            report = super().evaluate(trial)
            return Report({**report.metrics, "curvature": 1.2**trial.number}, gradient=report.gradient)

    found = run_search(Darts(warmup=5, guard="curvature").bind(CHOICES), Sharper(), MemoryJournal(), 60)
    assert len(found) == 5 + 9
