"""DrNAS: mixtures from Dirichlet distributions, and the gradient through the sample."""

import numpy as np
import pytest
import torch
from fake_search import CHOICES

from nas.architecture import Choice, Choices
from nas.strategies.drnas import Drnas, concentration
from nas.strategies.logits import from_mixture, parts
from nas.trial import Proposal, Trial

PAIR = Choices([Choice("a", ("x", "y", "z"))])


def test_mixtures_sum_to_one_and_have_the_mean_of_the_concentration() -> None:
    strategy = Drnas(warmup=0).bind(PAIR)
    strategy.ask([], np.random.default_rng(0))
    strategy.reset(np.array([2.0, 0.0, -1.0]))
    np.testing.assert_allclose(concentration(strategy.logits), torch.nn.functional.elu(torch.tensor([2.0, 0.0, -1.0])).numpy() + 1)
    drawn = [strategy.ask([], np.random.default_rng(seed)) for seed in range(800)]
    weights = np.array([from_mixture(PAIR, proposal.mixture) for proposal in drawn if proposal and proposal.mixture])
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(weights.mean(axis=0), strategy.expected, atol=5 * 0.25 / np.sqrt(800))
    assert drawn[0] is not None
    assert drawn[0].architecture["a"] == "x"


def test_the_gradient_is_that_of_the_mean_loss() -> None:
    """For a linear loss the mean over samples is known: the slope times the distribution's mean. 5 standard errors."""
    strategy, slope = Drnas(warmup=0, regularisation=0.0).bind(PAIR), np.array([1.0, -2.0, 0.5])
    strategy.ask([], np.random.default_rng(0))
    strategy.reset(np.array([0.5, -0.3, 1.0]))
    found = []
    for number in range(600):
        history = [Trial(past, Proposal(PAIR.sample(np.random.default_rng(0)))) for past in range(number % 2)]
        proposal = strategy.ask(history, np.random.default_rng(number))
        assert proposal is not None
        found.append(strategy.chain(Trial(number % 2, proposal), slope))
    logits = torch.tensor([0.5, -0.3, 1.0], dtype=torch.float64, requires_grad=True)
    shape = torch.nn.functional.elu(logits) + 1
    (expected,) = torch.autograd.grad((shape / shape.sum()) @ torch.from_numpy(slope), logits)
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - expected.numpy()) < 5 * error).all()


def test_the_divergence_pulls_towards_the_even_distribution() -> None:
    strategy = Drnas(warmup=0, regularisation=1.0).bind(PAIR)
    strategy.ask([], np.random.default_rng(0))
    strategy.reset(np.array([3.0, 0.0, -1.0]))
    proposal = strategy.ask([], np.random.default_rng(1))
    assert proposal is not None
    slope = strategy.chain(Trial(0, proposal), np.zeros(3))
    assert slope[0] > 0 > slope[2]


def test_the_sample_is_recomputed_as_it_was_drawn_even_after_learning() -> None:
    strategy = Drnas(warmup=0).bind(CHOICES)
    proposal = strategy.ask([], np.random.default_rng(4))
    assert proposal is not None
    assert proposal.mixture is not None
    gradient = np.random.default_rng(0).standard_normal(strategy.logits.size)
    before = strategy.chain(Trial(0, proposal), gradient)
    strategy.reset(strategy.logits + 1)
    assert np.array_equal(strategy.chain(Trial(0, proposal), gradient), before)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    again = Drnas(warmup=0).bind(CHOICES)
    again.load_state_dict(strategy.state_dict())
    assert np.array_equal(again.chain(Trial(0, proposal), gradient), before)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is neither used nor moved"
    assert all(part.sum() == pytest.approx(1) for part in parts(CHOICES, from_mixture(CHOICES, proposal.mixture)))
