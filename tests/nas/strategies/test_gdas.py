"""GDAS: hard samples forward, the softmax's gradient backward, and a temperature that falls."""

from collections import Counter

import numpy as np
import pytest
import torch
from fake_search import CHOICES

from nas.strategies.gdas import Gdas
from nas.strategies.logits import from_mixture, softmax
from nas.trial import Proposal, Report, Trial

SIZES = [len(choice.options) for choice in CHOICES]


def test_the_gradient_is_that_of_the_straight_through_estimate() -> None:
    """Against the definition in PyTorch: hard - soft.detach() + soft, with the same noise."""
    strategy = Gdas(warmup=0, anneal=10, hot=10.0).bind(CHOICES)
    history = [Trial(number, Proposal(CHOICES.sample(np.random.default_rng(0)))) for number in range(6)]
    strategy.ask([], np.random.default_rng(1))
    proposal = strategy.ask(history, np.random.default_rng(5))
    assert proposal is not None
    assert proposal.mixture is not None
    temperature = strategy.temperature(6)
    assert temperature == pytest.approx(10 - 0.6 * 9.9)
    noise = torch.from_numpy(np.random.default_rng(5).gumbel(size=sum(SIZES)))
    logits = torch.from_numpy(strategy.logits.copy()).requires_grad_()
    hard, through = [], []
    for part, gumbel in zip(logits.split(SIZES), noise.split(SIZES), strict=True):
        soft = ((part.log_softmax(0) + gumbel) / temperature).softmax(0)
        one = torch.nn.functional.one_hot(soft.argmax(), len(part)).double()
        hard.append(one)
        through.append(one - soft.detach() + soft)
    assert np.array_equal(from_mixture(CHOICES, proposal.mixture), torch.cat(hard).numpy())
    assert all(proposal.architecture[choice.name] == choice.options[int(one.argmax())] for choice, one in zip(CHOICES, hard, strict=True))
    slope = torch.randn(sum(SIZES), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.cat(hard)
    (expected,) = torch.autograd.grad(torch.cat(through) @ slope, logits)
    found = strategy.chain(Trial(6, proposal), slope.numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


def test_options_are_drawn_by_the_softmax_of_the_logits() -> None:
    strategy = Gdas().bind(CHOICES)
    strategy.ask([], np.random.default_rng(0))
    strategy.reset(np.log(np.tile([0.5, 0.2, 0.1, 0.1, 0.1], 5)[: sum(SIZES)]))
    drawn = Counter(strategy.ask([], np.random.default_rng(seed)).architecture["a"] for seed in range(2000))  # type: ignore[union-attr]
    share = softmax(CHOICES, strategy.logits)[0]
    assert abs(drawn["none"] - 2000 * share) < 5 * np.sqrt(2000 * share * (1 - share))


def test_the_temperature_falls_in_a_line_after_the_warm_up_and_stays() -> None:
    strategy = Gdas(warmup=20, anneal=100, hot=10.0)
    assert [strategy.temperature(number) for number in (0, 20, 70, 120, 500)] == pytest.approx([10, 10, 5.05, 0.1, 0.1])


def test_what_a_running_sample_was_drawn_from_survives_a_kill() -> None:
    strategy, history = Gdas().bind(CHOICES), list[Trial]()
    for seed in range(3):
        proposal = strategy.ask(history, np.random.default_rng(seed))
        assert proposal is not None
        history.append(Trial(seed, proposal))
    again = Gdas().bind(CHOICES)
    again.load_state_dict(strategy.state_dict())
    for number in (0, 1, 2):
        proposal = history[number].proposal
        told = Trial(
            number, proposal, Report({"accuracy": 1.0}, gradient={name: part * 2 for name, part in (proposal.mixture or {}).items()})
        )
        for one in (strategy, again):
            one.tell(told)
        assert np.array_equal(again.logits, strategy.logits)
    assert again.state_dict()["soft"] == {}
