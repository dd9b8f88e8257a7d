"""All options in one network: single paths are stand-alone networks, mixtures are weighted sums, and weight 0 costs nothing."""

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from small_images import random_images, task_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture
from nas.networks.supernet import Mixed, Supernet
from nas.spaces.base import Picker, SearchSpace
from nas.spaces.cell import Cell
from nas.spaces.chain import Chain
from nas.tasks.base import Task

CELL = Cell(widths=(4, 8), cells=1)


class Nested(SearchSpace):
    """A decision inside an option of another, and one that is asked in two places."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        def deep() -> nn.Module:
            return nn.Sequential(nn.Conv2d(1, 1, 1), pick("inner", {"relu": nn.ReLU, "tanh": nn.Tanh}))

        first = pick("outer", {"deep": deep, "skip": nn.Identity})
        return nn.Sequential(first, *[pick("twice", {"a": nn.Tanh, "b": nn.Sigmoid}) for _ in range(2)], task.head(1))


class Torn(SearchSpace):
    """One name with two sets of options."""

    def define(self, pick: Picker, task: Task) -> nn.Module:
        return nn.Sequential(pick("one", {"a": nn.ReLU}), pick("one", {"b": nn.ReLU}))


def images() -> Tensor:
    return task_of().prepare()(random_images(4))


def single_path(supernet: Supernet, architecture: Mapping[str, str]) -> dict[str, Tensor]:
    """The supernet's tensors by the names that the stand-alone network gives them."""
    network = copy.deepcopy(supernet.network)
    while places := [(path, module) for path, module in network.named_modules() if isinstance(module, Mixed)]:
        path, place = places[0]
        options = next(choice.options for choice in supernet.choices if choice.name == place.name)
        parent, _, leaf = path.rpartition(".")
        setattr(network.get_submodule(parent), leaf, place.options[options.index(architecture[place.name])])
    return network.state_dict()


def uniform(supernet: Supernet) -> dict[str, Tensor]:
    return {choice.name: torch.full((len(choice.options),), 1 / len(choice.options)) for choice in supernet.choices}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("space", [CELL, Nested()], ids=["cell", "nested"])
def test_a_single_path_is_the_stand_alone_network(space: SearchSpace, training: bool) -> None:
    task, rng = task_of(), np.random.default_rng(0)
    torch.manual_seed(0)
    supernet = space.supernet(task)
    for norm in [module for module in supernet.modules() if isinstance(module, nn.BatchNorm2d)]:
        nn.init.uniform_(norm.bias)  # after training a normalisation of zeros is not zero
    for _ in range(20):
        architecture = space.choices(task).sample(rng)
        alone = space.build(architecture, task)
        weights = single_path(supernet, architecture)
        alone.load_state_dict({name: weights[name] for name in alone.state_dict()})
        supernet.set_architecture(architecture)
        expected = alone.train(training)(images())
        found = copy.deepcopy(supernet).train(training)(images())
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_options_own_statistics_serve_its_path() -> None:
    """Standard tools reset, average and read the running statistics of one path, as they do for the network built alone."""
    task, rng = task_of(), np.random.default_rng(3)
    supernet, architecture = CELL.supernet(task), CELL.choices(task).sample(rng)
    alone = CELL.build(architecture, task)
    weights = single_path(supernet, architecture)
    alone.load_state_dict({name: weights[name] for name in alone.state_dict()})
    supernet.set_architecture(architecture)
    for network in (supernet, alone):
        for norm in [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]:
            norm.reset_running_stats()
            norm.momentum = None
        network.train()
        for seed in range(3):
            network(task.prepare()(random_images(4, seed=seed)))
    found = single_path(supernet, architecture)
    assert any("running" in name for name in alone.state_dict())
    for name, expected in alone.state_dict().items():
        torch.testing.assert_close(found[name], expected)
    torch.testing.assert_close(supernet.eval()(images()), alone.eval()(images()))


def test_a_mixture_is_the_weighted_sum() -> None:
    options = {"double": lambda: nn.Conv2d(1, 1, 3, padding=1), "skip": nn.Identity, "tanh": nn.Tanh}
    mixed, features = Mixed("place", options), torch.randn(2, 1, 5, 5)
    weights = torch.tensor([0.5, -2.0, 0.25])
    mixed.running = tuple(weights), (0, 1, 2)
    expected = sum(weight * option(features) for weight, option in zip(weights, mixed.options, strict=True))
    torch.testing.assert_close(mixed(features), expected)


def test_an_option_of_weight_zero_is_not_run() -> None:
    task = task_of()
    supernet, architecture = CELL.supernet(task), CELL.choices(task).sample(np.random.default_rng(2))
    one_hot = {
        choice.name: torch.tensor([float(option == architecture[choice.name]) for option in choice.options]) for choice in supernet.choices
    }
    operations = []
    for run in (lambda: supernet.set_mixture(one_hot), lambda: supernet.set_architecture(architecture)):
        run()
        with FlopCounterMode(display=False) as counter:
            supernet(images())
        operations.append(counter.get_total_flops())
    with FlopCounterMode(display=False) as counter:
        CELL.build(architecture, task)(images())
    assert operations == [counter.get_total_flops()] * 2
    mixture = uniform(supernet)
    mixture["edge_0_3"] = torch.tensor([0.0, 0.0, 0.4, 0.0, 0.6])
    supernet.set_mixture(mixture)
    supernet(images()).sum().backward()
    edge = [place for place in supernet.modules() if isinstance(place, Mixed) and place.name == "edge_0_3"]
    assert len(edge) == 2, "two cells"
    for place in edge:
        used = [any(weight.grad is not None for weight in option.parameters()) for option in place.options]
        assert used == [False, False, True, False, False], "the convolution of 3 x 3 is not run, the rest has no weights"


def test_edges_that_lead_nowhere_are_not_run() -> None:
    supernet = CELL.supernet(task_of())
    mixture = uniform(supernet) | {name: torch.eye(5)[0] for name in ("edge_0_1", "edge_2_3")}
    supernet.set_mixture({name: weights.requires_grad_() for name, weights in mixture.items()})
    supernet(images()).sum().backward()
    live = {place.name for place in supernet.modules() if isinstance(place, Mixed) and place.options[2][1].weight.grad is not None}
    assert live == {"edge_0_3"}, "node 1 holds nothing, node 2 is not read"
    assert all(weights.grad is not None for weights in mixture.values()), "a weight that changes nothing has a gradient of 0"
    assert not mixture["edge_1_3"].grad.any()
    assert mixture["edge_0_3"].grad.any()


def test_a_mixture_that_reaches_nothing_has_gradients_of_zero() -> None:
    supernet = CELL.supernet(task_of())
    mixture = {choice.name: torch.eye(5)[0].requires_grad_() for choice in supernet.choices}
    supernet.set_mixture(mixture)
    assert not any(gradient.any() for gradient in torch.autograd.grad(supernet(images()).sum(), list(mixture.values())))


def test_a_step_reads_nothing_back_from_the_device() -> None:
    """Tensors of the meta device have no values: whoever reads one raises."""
    with torch.device("meta"):
        supernet = CELL.supernet(task_of()).train()
        mixture = {choice.name: torch.empty(5, requires_grad=True) for choice in supernet.choices}
        supernet.set_mixture(mixture, live={choice.name: range(5) for choice in supernet.choices})
        loss = supernet(torch.empty(4, 1, 8, 8)).sum()
        assert len(torch.autograd.grad(loss, [*mixture.values(), *supernet.parameters()])) > len(mixture)
    supernet.set_mixture(uniform(supernet))
    assert supernet(torch.empty(4, 1, 8, 8, device="meta")).device.type == "meta", "a mixture on the CPU moves"


def test_the_live_options_may_be_given() -> None:
    supernet = CELL.supernet(task_of()).train()
    mixture = uniform(supernet)
    supernet.set_mixture({name: weights * torch.tensor([0.0, 1, 0, 1, 0]) for name, weights in mixture.items()})
    expected = supernet(images())
    supernet.set_mixture(mixture, live=dict.fromkeys(mixture, (1, 3)))
    torch.testing.assert_close(supernet(images()), expected)
    with pytest.raises(ValueError, match="all weights of choice 'edge_0_1' are 0"):
        supernet.set_mixture(mixture, live=dict.fromkeys(mixture, ()))


def test_one_option_alone_is_weighted_too() -> None:
    supernet = CELL.supernet(task_of())
    mixture = {choice.name: torch.eye(5)[0] for choice in supernet.choices} | {"edge_0_3": torch.tensor([0.0, 0.5, 0.0, 0.0, 0.0])}
    supernet.set_mixture(mixture)
    features = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(supernet.network[2](features), 0.5 * features)


def test_a_mixture_serves_several_passes_and_copies() -> None:
    supernet = CELL.supernet(task_of()).train()
    mixture = {name: weights.requires_grad_() for name, weights in uniform(supernet).items()}
    supernet.set_mixture(mixture)
    first, second = (torch.autograd.grad(supernet(images()).square().sum(), list(mixture.values())) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    copied = copy.deepcopy(supernet)
    copied(images()).sum().backward()
    assert all(weights.grad is None for weights in mixture.values())
    torch.testing.assert_close(copied(images()), supernet(images()))


def test_gradients_reach_the_mixture_and_all_live_options() -> None:
    task = task_of()
    torch.manual_seed(0)
    supernet, inputs = CELL.supernet(task).double(), images().double()
    mixture = {name: weights.double().requires_grad_() for name, weights in uniform(supernet).items()}
    supernet.set_mixture(mixture)
    task.loss(supernet(inputs), torch.arange(4), 0.0).backward()
    assert all(weights.grad is not None and weights.grad.isfinite().all() for weights in mixture.values())
    assert all(weight.grad is not None for weight in supernet.parameters())
    name, step = "edge_0_1", 1e-6
    moved = {key: weights.detach().clone() for key, weights in mixture.items()}
    losses = []
    for sign in (1, -1):
        moved[name] = mixture[name].detach() + sign * step * torch.eye(5)[3]
        supernet.set_mixture(moved)
        losses.append(float(task.loss(supernet(inputs), torch.arange(4), 0.0).detach()))
    assert mixture[name].grad is not None
    assert float(mixture[name].grad[3]) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-4)


def test_a_mixture_of_parameters_does_not_become_a_weight() -> None:
    supernet = CELL.supernet(task_of())
    before = list(supernet.state_dict())
    supernet.set_mixture({name: nn.Parameter(weights) for name, weights in uniform(supernet).items()})
    assert list(supernet.state_dict()) == before
    assert supernet(images()).requires_grad


def test_what_is_wrong_with_a_mixture_is_said() -> None:
    supernet = CELL.supernet(task_of())
    with pytest.raises(RuntimeError, match="no mixture for 'edge_0_1': call set_mixture first"):
        supernet(images())
    with pytest.raises(ValueError, match="all weights of choice 'edge_0_2' are 0"):
        supernet.set_mixture({**uniform(supernet), "edge_0_2": torch.zeros(5)})
    with pytest.raises(ValueError, match="weights of choice 'edge_0_2' are none"):
        supernet.set_mixture({name: weights for name, weights in uniform(supernet).items() if name != "edge_0_2"})
    with pytest.raises(ValueError, match=r"weights of choice 'edge_0_2' are shape \(4,\)"):
        supernet.set_mixture({**uniform(supernet), "edge_0_2": torch.ones(4)})
    supernet.set_mixture(uniform(supernet))
    with pytest.raises(ValueError, match="edge_0_1 is 'conv'"):
        supernet.set_architecture(CELL.choices(task_of()).sample(np.random.default_rng(0)).replace("edge_0_1", "conv"))


def test_a_space_of_numbers_refuses_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"'stage_0.width' picks a number, which a supernet cannot mix: use the evaluator 'scratch'"):
        Chain().supernet(task_of())


def test_the_heaviest_options_make_the_architecture() -> None:
    task, space = task_of(), Nested()
    choices = space.choices(task)
    wanted = choices.sample(np.random.default_rng(5))
    mixture = {choice.name: torch.tensor([1.0 + (option == wanted[choice.name]) for option in choice.options]) for choice in choices}
    assert space.discretize(mixture, task) == wanted


def test_decisions_inside_options_are_recorded_and_dropped_when_unasked() -> None:
    space, task = Nested(), task_of()
    assert [choice.name for choice in space.choices(task)] == ["inner", "outer", "twice"] or [
        choice.name for choice in space.choices(task)
    ] == ["outer", "inner", "twice"]
    skip = Architecture({"outer": "skip", "inner": "relu", "twice": "a"})
    assert space.canonical(skip, task) == space.canonical(skip.replace("inner", "tanh"), task)
    deep = skip.replace("outer", "deep")
    assert space.canonical(deep, task) != space.canonical(deep.replace("inner", "tanh"), task)
    network = space.build(skip.replace("twice", "b"), task)
    assert [type(module) for module in network[1:3]] == [nn.Sigmoid, nn.Sigmoid], "one name is one decision"


def test_one_name_with_two_sets_of_options_is_refused() -> None:
    with pytest.raises(ValueError, match="choice 'one' is asked with options"):
        Torn().choices(task_of())
