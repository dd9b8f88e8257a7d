"""Zero-cost proxies: each equals its definition worked out by hand, leaves the network alone, and says when it is not defined."""

import copy
import math
import random
from pathlib import Path
from typing import get_args

import benchmark_files
import numpy as np
import pytest
import torch
from small_images import random_images, task_of
from torch import Tensor, nn
from torch.nn import functional as F

from nas.architecture import Architecture
from nas.spaces.cell import EDGES, Cell
from nas.training.cost import cost
from nas.training.proxies import (
    MEASURES,
    flops,
    grad_norm,
    jacob_cov,
    logsynflow,
    naswot,
    parameters,
    snip,
    synflow,
)
from nas.training.proxy_names import Name, ProxyError

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "../shared/data/nasbench201/cifar10.csv.gz"
TARGETS = torch.arange(6) % 3


def total(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.sum()


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def small_network(seed: int = 0) -> nn.Module:
    """Something of everything: normalisation with statistics, dropout, a bias, a frozen weight."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    network[0].weight.requires_grad_(False)
    return network


class Blind(nn.Module):
    """Does not look at its inputs."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.zeros(len(inputs), 3)


def images(count: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def test_synflow_is_the_flow_through_every_layer() -> None:
    first, second = linear([1.0, -2.0, 0.5], [-1.0, 0.0, 3.0]), linear([2.0, -1.0])
    flow = 2 * 3.5 + 1 * 4.0  # what absolute weights make of ones; every layer of a chain carries all of it
    network = nn.Sequential(first, nn.BatchNorm1d(2), nn.ReLU(), second)
    assert synflow(network, torch.zeros(4, 3), TARGETS, total) == 2 * flow


def test_logsynflow_takes_the_logarithm_of_one_plus_the_gradient() -> None:
    first, second = linear([1.0, -2.0]), linear([-3.0])
    value = (1 + 2) * math.log(1 + 3) + 3 * math.log(1 + 3)
    assert logsynflow(nn.Sequential(first, nn.ReLU(), second), torch.zeros(4, 2), TARGETS, total) == pytest.approx(value, rel=1e-12)


def test_synflow_does_not_overflow_where_float32_would() -> None:
    network = nn.Sequential(*(linear([1e10]) for _ in range(6)))
    assert synflow(network, torch.zeros(2, 1), TARGETS, total) == pytest.approx(6e60)


def test_naswot_is_the_determinant_of_the_agreements() -> None:
    inputs = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    assert naswot(nn.Sequential(nn.Identity(), nn.ReLU()), inputs, TARGETS, total) == pytest.approx(math.log(4))
    assert naswot(nn.ReLU(), torch.tensor([[0.0, -1.0], [1.0, 1.0]]), TARGETS, total) == pytest.approx(math.log(4))  # at 0 it is off
    halves = nn.Sequential(linear([1.0, 0.0], [0.0, 1.0]), nn.LeakyReLU(), nn.ReLU())  # a leaky unit is off below 0 too
    assert naswot(halves, inputs, TARGETS, total) == pytest.approx(math.log(8 * 4))


def test_jacob_cov_of_equal_gradients() -> None:
    network = linear([1.0, -2.0, 0.5], [0.0, 1.0, 1.0])
    margin, count = 1e-5, 6
    value = math.log(count + margin) + 1 / (count + margin) + (count - 1) * (math.log(margin) + 1 / margin)
    assert jacob_cov(network, torch.randn(count, 3), TARGETS, total) == pytest.approx(-value, rel=1e-6)


def test_jacob_cov_prefers_gradients_that_differ() -> None:
    torch.manual_seed(0)
    first, second, inputs = nn.Linear(5, 64), nn.Linear(64, 1), torch.randn(6, 5)
    bent, straight = (nn.Sequential(first, middle, second) for middle in (nn.ReLU(), nn.Identity()))
    assert jacob_cov(bent, inputs, TARGETS, total) > jacob_cov(straight, inputs, TARGETS, total)


def test_snip_and_grad_norm_are_of_the_loss() -> None:
    network = nn.Sequential(linear([1.0, -2.0], [0.5, 4.0]), nn.Linear(2, 1))
    network[1].weight.data = torch.tensor([[3.0, -1.0]])
    inputs = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    sums = inputs.sum(dim=0)  # (4, 1): what the loss feels of each input
    first = torch.tensor([[3.0], [-1.0]]) * sums
    second = torch.tensor([[1.0 * 4 - 2.0 * 1, 0.5 * 4 + 4.0 * 1]])
    expected = (network[0].weight * first).abs().sum() + (network[1].weight * second).abs().sum()
    assert snip(network, inputs, TARGETS, total) == pytest.approx(expected.item())
    assert grad_norm(network, inputs, TARGETS, total) == pytest.approx(float(first.norm() + second.norm()))
    assert snip(network, inputs, TARGETS, lambda outputs, targets: 2 * outputs.sum()) == pytest.approx(2 * expected.item())


def test_the_loss_is_asked_with_the_targets() -> None:
    values = {snip(small_network(), images(), targets, F.cross_entropy) for targets in (TARGETS, TARGETS.flip(0), TARGETS * 0)}
    assert len(values) == 3


def test_size_is_counted_as_everywhere() -> None:
    task = task_of((6, 6, 3), classes=3)
    network = small_network()
    counted = cost(copy.deepcopy(network).to("meta"), task)
    assert parameters(network, images(), TARGETS, total) == counted["parameters"] == 3 * 8 * 9 + 16 + 8 * 8 * 9 + 8 + 16 + 8 * 3 + 3
    assert flops(network, images(), TARGETS, total) == counted["flops"]


def test_every_name_has_a_measure() -> None:
    assert tuple(MEASURES) == get_args(Name)


@pytest.mark.parametrize("name", MEASURES)
def test_the_network_and_the_generator_stay_as_they_were(name: Name) -> None:
    network = small_network()
    network[3].eval()
    network(images(seed=1)).sum().backward()
    before = copy.deepcopy(network.state_dict())
    gradients = {key: None if weight.grad is None else weight.grad.clone() for key, weight in network.named_parameters()}
    learning = [weight.requires_grad for weight in network.parameters()]
    modes = [module.training for module in network.modules()]
    torch.manual_seed(5)
    state, inputs = torch.get_rng_state(), images()
    MEASURES[name](network, inputs, TARGETS, F.cross_entropy)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(inputs, images())
    assert not inputs.requires_grad
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())
    assert [module.training for module in network.modules()] == modes
    assert [weight.requires_grad for weight in network.parameters()] == learning
    for key, weight in network.named_parameters():
        assert (weight.grad is None) == (gradients[key] is None)
        assert weight.grad is None or torch.equal(weight.grad, gradients[key])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(type(module) is kind for module, kind in zip(network, (nn.Conv2d, nn.BatchNorm2d, nn.ReLU), strict=False))


@pytest.mark.parametrize("name", MEASURES)
def test_the_same_arguments_give_the_same_bits(name: Name) -> None:
    network = nn.Sequential(nn.RReLU(), small_network())  # a layer that draws numbers of its own
    values = []
    for seed in range(3):
        torch.manual_seed(seed)
        values.append(MEASURES[name](network.train(seed == 1), images(), TARGETS, F.cross_entropy))
    assert len(set(values)) == 1
    assert type(values[0]) is float


@pytest.mark.parametrize("name", ["synflow", "logsynflow", "naswot", "jacob_cov", "snip", "grad_norm"])
@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_what_is_not_finite_is_an_error_that_names_the_measure(name: Name, weight: float) -> None:
    network = small_network()
    network[0].weight.data[:] = weight
    with pytest.raises(ProxyError, match=f"'{name}'"):
        MEASURES[name](network, images(), TARGETS, F.cross_entropy)


@pytest.mark.parametrize("name", ["synflow", "logsynflow", "snip", "grad_norm"])
@pytest.mark.parametrize("network", [nn.Flatten(), nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())])
def test_without_weights_there_is_nothing_to_sum(name: Name, network: nn.Module) -> None:
    with pytest.raises(ProxyError, match=f"'{name}' sums over weights"):
        MEASURES[name](network, images(), TARGETS, F.cross_entropy)


def test_naswot_says_when_it_cannot_see() -> None:
    with pytest.raises(ProxyError, match="has none: choose another measure"):
        naswot(nn.Sequential(nn.Flatten(), nn.Linear(108, 3), nn.SiLU()), images(), TARGETS, total)
    with pytest.raises(ProxyError, match="do not tell the examples of the minibatch apart"):
        naswot(small_network(), images()[[0, 1, 2, 0]], TARGETS, total)


def test_jacob_cov_says_when_it_is_not_defined() -> None:
    with pytest.raises(ProxyError, match=r"these are torch.int64"):
        jacob_cov(nn.Embedding(3, 4), TARGETS, TARGETS, total)
    with pytest.raises(ProxyError, match="constant"):
        jacob_cov(linear([0.0, 0.0]), torch.randn(4, 2), TARGETS, total)
    with pytest.raises(ProxyError, match="do not depend on the inputs"):
        jacob_cov(Blind(), torch.randn(4, 2), TARGETS, total)


def test_words_go_through_an_embedding() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    words = torch.randint(0, 9, (6, 3))
    for name in ("synflow", "logsynflow", "naswot", "snip", "grad_norm"):
        assert MEASURES[name](network, words, TARGETS, F.cross_entropy) > 0


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "jacob_cov"])
def test_a_cell_that_carries_more_scores_higher(name: Name) -> None:
    task = task_of((8, 8, 1))
    inputs = task.prepare()(random_images(16))
    scores = []
    for operation in ("skip_connect", "nor_conv_3x3"):
        torch.manual_seed(0)
        network = Cell(widths=(8,), cells=2).build(Architecture({f"edge_{a}_{b}": operation for a, b in EDGES}), task)
        scores.append(MEASURES[name](network, inputs, torch.arange(16) % 10, F.cross_entropy))
    assert scores[0] < scores[1]


def test_rank_correlation_by_hand() -> None:
    tool = benchmark_files.load("proxy_correlation")
    assert tool.ranks(np.array([3.0, -np.inf, 3.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]
    assert tool.spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 30.0, 20.0, 40.0])) == pytest.approx(0.8)


@pytest.mark.data
def test_the_ranking_agrees_with_published_scores_and_accuracies() -> None:
    if not TABLE.exists():
        pytest.skip(f"{TABLE} is missing")
    tool = benchmark_files.load("proxy_correlation")
    rows = random.Random(0).sample(tool.read_table(TABLE), 60)
    cells = [tool.architecture_of(row["arch"]) for row in rows]
    scores, _ = tool.score(cells, Cell(widths=(8, 16, 32), cells=1), tool.batch_of(None, 16, 0), 0, ("naswot", "logsynflow"))
    found = tool.compare(rows, scores, "c10_test_200")
    assert found["logsynflow"]["stored"] > 0.95
    assert found["naswot"]["stored"] > 0.8
    assert found["logsynflow"]["report"] > 0.75
    assert found["naswot"]["report"] > 0.6
    assert found["naswot_logsynflow_ranks"]["report"] > 0.75
