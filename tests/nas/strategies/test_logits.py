"""What gradient methods share: Adam as PyTorch has it, architectures by likelihood, and curves that stay short."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from fake_search import CHOICES, Fake, gradient_at, run_search

from nas.architecture import Architecture, Choice, Choices
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.strategies.darts import Darts
from nas.strategies.drnas import Drnas
from nas.strategies.gdas import Gdas
from nas.strategies.logits import Logits, from_mixture, parts, softmax, through_softmax, to_mixture
from nas.trial import Proposal, Report, Score, Trial

SMALL = Choices([Choice("a", ("x", "skip")), Choice("b", ("x", "y", "z"))])
METHODS = [Darts(warmup=0, guard="none"), Gdas(warmup=0, anneal=50), Drnas(warmup=0)]


def fresh(method: Logits) -> Logits:
    return type(method)(**method.model_dump())


def vector(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count)


def test_the_chain_rule_of_the_softmax_is_autograds() -> None:
    logits = torch.from_numpy(vector(5)).requires_grad_()
    gradient = torch.from_numpy(vector(5, 1))
    weights = torch.cat([part.softmax(0) for part in logits.split([2, 3])])
    (expected,) = torch.autograd.grad(weights @ gradient, logits)
    found = through_softmax(SMALL, softmax(SMALL, logits.detach().numpy()), gradient.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_mixtures_are_float32_and_come_back_as_they_are() -> None:
    mixture = to_mixture(SMALL, softmax(SMALL, vector(5)))
    assert {name: (weights.dtype, weights.shape) for name, weights in mixture.items()} == {
        "a": (torch.float32, (2,)),
        "b": (torch.float32, (3,)),
    }
    again = to_mixture(SMALL, from_mixture(SMALL, mixture))
    assert all(torch.equal(again[name], mixture[name]) for name in mixture)


def test_learning_is_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = Darts(warmup=0, guard="none", learning_rate=0.1, weight_decay=0.01).bind(SMALL)
    strategy.ask([], np.random.default_rng(0))
    theirs = torch.from_numpy(strategy.logits.copy()).requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.1, betas=(0.5, 0.999), weight_decay=0.01)
    for seed in range(6):
        slope = vector(5, seed)
        monkeypatch.setattr(Darts, "chain", lambda self, trial, gradient, slope=slope: slope)
        theirs.grad = torch.from_numpy(slope)
        optimizer.step()
        mixture = to_mixture(SMALL, strategy.expected)
        report = Report({"accuracy": 1.0}, gradient=gradient_at(mixture))
        strategy.tell(Trial(seed, Proposal(strategy.likeliest(set()), mixture=mixture), report, Score(0.0, (1.0,))))  # type: ignore[arg-type]
    np.testing.assert_allclose(strategy.logits, theirs.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_logits_stay_during_the_warm_up(method: Logits) -> None:
    strategy = fresh(method).model_copy(update={"warmup": 3})
    strategy.bind(CHOICES)
    seen = [strategy.logits.copy() for _ in search(strategy, Fake(), Objective(), MemoryJournal(), trials=5, seed=3)]
    assert np.array_equal(seen[0], seen[2])
    assert np.abs(seen[0]).max() < 0.01, "close to 0"
    assert not np.array_equal(seen[2], seen[3])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_the_logits_find_the_options_that_lower_the_loss(method: Logits) -> None:
    """The fake's loss is the squared distance to goals: a weight as large as can be for the greatest goal is best."""
    strategy = fresh(method).model_copy(update={"learning_rate": 0.05})
    strategy.bind(CHOICES)
    run_search(strategy, Fake(), MemoryJournal(), 400)
    zero = {choice.name: torch.zeros(len(choice.options)) for choice in CHOICES}
    goals = gradient_at({name: weights + 1e-9 for name, weights in zero.items()})
    best = [int((-goals[choice.name]).argmax()) for choice in CHOICES]
    heaviest = [int(part.argmax()) for part in parts(CHOICES, strategy.expected)]
    assert sum(one == other for one, other in zip(best, heaviest, strict=True)) >= 4, (best, strategy.expected.round(2))
    first = strategy.conclude([], 3, np.random.default_rng(0))[0]
    assert [choice.options.index(first[choice.name]) for choice in CHOICES] == heaviest


def test_the_likeliest_come_first_and_each_once() -> None:
    strategy = Darts().bind(CHOICES)
    weights = softmax(CHOICES, 2 * vector(22))
    all_of_them = list(strategy.likely(weights))
    assert len(set(all_of_them)) == len(all_of_them) == CHOICES.size
    chances = [
        np.prod([part[choice.options.index(one[choice.name])] for choice, part in zip(CHOICES, parts(CHOICES, weights), strict=True)])
        for one in all_of_them
    ]
    assert all(first >= second * (1 - 1e-9) for first, second in pairwise(chances))


def test_the_conclusion_names_different_functions_that_break_no_constraint() -> None:
    strategy = Darts().bind(SMALL, canonical=lambda architecture: architecture["b"])
    strategy.ask([], np.random.default_rng(0))
    named = strategy.conclude([], 10, np.random.default_rng(0))
    assert len({architecture["b"] for architecture in named}) == len(named) == 3
    worst = [Trial(0, Proposal(named[0]), Report(error="too large"), Score(-1.0, ()))]
    others = strategy.conclude(worst, 10, np.random.default_rng(0))
    assert named[0] not in others
    assert len(others) == 3
    assert len(strategy.conclude([], 2, np.random.default_rng(0))) == 2
    unasked = Darts().bind(SMALL)
    assert unasked.conclude([], 1, np.random.default_rng(0)) == unasked.conclude([], 1, np.random.default_rng(9))


def without_none(mixture: Mapping[str, torch.Tensor]) -> Architecture:
    """The heaviest options besides those named none."""
    allowed = {choice.name: [option for option in choice.options if option != "none"] for choice in CHOICES}
    pairs = {choice.name: dict(zip(choice.options, mixture[choice.name].tolist(), strict=True)) for choice in CHOICES}
    return Architecture({name: max(options, key=lambda option, name=name: pairs[name][option]) for name, options in allowed.items()})  # type: ignore[misc]


def test_what_is_decided_named_and_told_follows_the_rules_of_the_space() -> None:
    strategy = Darts(warmup=0).bind(CHOICES, discretize=without_none)
    strategy.ask([], np.random.default_rng(0))
    strategy.reset(np.concatenate([np.array([3.0, 2, *[0] * (len(choice.options) - 2)]) for choice in CHOICES]))
    proposal = strategy.ask([], np.random.default_rng(0))
    assert proposal is not None
    assert [proposal.architecture[name] for name in "abcd"] == ["skip"] * 4, "none is the heaviest, and the rules pass over it"
    strategy.tell(Trial(0, proposal, Report({})))
    assert strategy.telemetry()["skip_share"] == [1.0]
    named = strategy.conclude([], 20, np.random.default_rng(0))
    assert named[0] == proposal.architecture
    assert len(set(named)) == 20
    assert all("none" not in architecture.values() for architecture in named)
    rejected = [Trial(0, Proposal(one), Report(error="large"), Score(-1.0, ())) for one in strategy.likely(strategy.expected)]
    without = [trial for trial in rejected if "none" not in trial.architecture.values()]
    named = strategy.conclude(without, 2, np.random.default_rng(0))
    assert [one["a"] for one in named] == ["none", "none"], "where all that the rules allow was rejected, the others are looked at"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_constraints_hold_for_what_is_proposed(method: Logits) -> None:
    found = run_search(fresh(method).bind(CHOICES), Fake(), MemoryJournal(), 30, objective=Objective(constraints={"parameters": "<= 300"}))
    assert sum(not trial.rejected for trial in found) == 30
    rejected = [trial.architecture for trial in found if trial.rejected]
    assert len(set(rejected)) == len(rejected) > 0, "what was rejected is not proposed again"


@pytest.mark.parametrize("method", METHODS[:2], ids=lambda method: type(method).__name__)
def test_curves_are_short_and_of_one_length(method: Logits) -> None:
    strategy = fresh(method).bind(CHOICES)
    run_search(strategy, Fake(), MemoryJournal(), 450)
    curves = strategy.telemetry()
    assert {len(curve) for curve in curves.values()} == {len(curves["trial"])}
    assert 100 <= len(curves["trial"]) <= 201
    assert curves["trial"][:3] == [0.0, 4.0, 8.0]
    assert {"entropy", "skip_share", "skip_weight", "logit.a.none", "logit.idle.y"} <= set(curves)
    assert curves["entropy"][0] > 0.99
    assert curves["entropy"][-1] < curves["entropy"][0]
    assert all(0 <= value <= 1 for name in ("entropy", "skip_share", "skip_weight") for value in curves[name])
    assert fresh(method).bind(CHOICES).telemetry()["trial"] == []


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_all_that_was_learned_is_in_the_state(method: Logits) -> None:
    strategy, again = fresh(method).bind(CHOICES), fresh(method).bind(CHOICES)
    assert strategy.state_dict() == {}
    run_search(strategy, Fake(width=3), MemoryJournal(), 40, stop=30)
    again.load_state_dict(strategy.state_dict())
    assert again.state_dict() == strategy.state_dict()
    assert again.telemetry() == strategy.telemetry()
    assert len(again.telemetry()["trial"]) == 30
    fresh(method).bind(CHOICES).load_state_dict({})


def test_a_failed_trial_teaches_nothing() -> None:
    strategy = Gdas(warmup=0).bind(CHOICES)
    proposal = strategy.ask([], np.random.default_rng(0))
    assert proposal is not None
    before = strategy.logits.copy()
    strategy.tell(Trial(0, proposal, Report(error="diverged")))
    assert np.array_equal(strategy.logits, before)
    assert strategy.state_dict()["soft"] == {}
